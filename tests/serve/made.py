"""Tiny served models, adapters made with PEFT, and what plain transformers and PEFT say offline."""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, MistralConfig, Phi3Config, PreTrainedConfig, PreTrainedModel

from luthier.core.errors import LuthierError
from luthier.model.load import load_tokenizer
from luthier.model.template import Template
from luthier.model.tiny import FAMILIES, SLIDING_WINDOW, tiny_model, tiny_tokenizer
from luthier.serve.engines.transformers import TransformersEngine
from luthier.serve.request import Ask, Piece, Sampling, Spoken
from luthier.serve.spec import ServeSpec

CLOSE = 1e-4
"""How near log-probabilities are to the offline ones, in fp32."""
WAIT_S = 60
LOUDER = 4.0
"""Random weights are so small that all attention is alike; with larger ones a wrong mask shows."""


def kind_of(kind: type[PreTrainedConfig], **changes) -> Callable[[], PreTrainedModel]:
    """Return what makes a tiny model of another config."""

    def make() -> PreTrainedModel:
        given = tiny_model("llama").config
        names = (
            "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads "
            "max_position_embeddings bos_token_id eos_token_id pad_token_id"
        )
        values = {name: getattr(given, name) for name in names.split()}
        config = kind(**values, tie_word_embeddings=False, **changes)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()

    return make


MAKERS: dict[str, Callable[[], PreTrainedModel]] = {
    **{family: functools.partial(tiny_model, family) for family in FAMILIES},
    "mistral": kind_of(MistralConfig, sliding_window=SLIDING_WINDOW),
    "phi3-window": kind_of(Phi3Config, sliding_window=SLIDING_WINDOW),
}
SHORT_ROPE = 64
LONG_ROPE = {"rope_theta": 1e4, "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}
"""Positions of longer contexts are encoded in another way."""
MAKERS_OF_SOME = {
    "phi3-long": kind_of(Phi3Config, rope_parameters=LONG_ROPE, original_max_position_embeddings=SHORT_ROPE)
}


def save_model(folder: Path, family: str) -> Path:
    model = (MAKERS | MAKERS_OF_SOME)[family]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(LOUDER)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def plain(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def save_adapter(base: Path, folder: Path, *, seed: int = 0, scale: float = 0.3, **options) -> Path:
    """Write a LoRA adapter with random A and B in PEFT's own way."""
    model = get_peft_model(
        plain(base), LoraConfig(**({"r": 4, "lora_alpha": 8, "target_modules": "all-linear"} | options))
    )
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(scale * torch.randn(parameter.shape, generator=draw))
    model.save_pretrained(folder)
    return folder


class Offline:
    """A model, and adapters by PEFT, one request at a time."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.stop_ids = sorted(Template(load_tokenizer(base)).stop_ids)
        self._models: dict[Path | None, torch.nn.Module] = {}

    def model(self, adapter: Path | None = None) -> torch.nn.Module:
        if adapter not in self._models:
            model = plain(self.base)
            self._models[adapter] = PeftModel.from_pretrained(model, adapter).eval() if adapter else model
        return self._models[adapter]

    @functools.cache  # noqa: B019 (a few of them, as long as the tests)
    def greedy(self, ids: tuple[int, ...], tokens: int, adapter: Path | None = None) -> tuple[int, ...]:
        """Return the answer's tokens, without the one that ends it."""
        with torch.no_grad():
            said = (
                self.model(adapter)
                .generate(
                    input_ids=torch.tensor([ids]),
                    attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                    max_new_tokens=tokens,
                    do_sample=False,
                    eos_token_id=self.stop_ids,
                    pad_token_id=self.stop_ids[0],
                )[0, len(ids) :]
                .tolist()
            )
        return tuple(said[:-1] if said and said[-1] in self.stop_ids else said)

    def logprobs(self, ids: Sequence[int], said: Sequence[int], adapter: Path | None = None) -> torch.Tensor:
        """Return log_softmax of the logits before each token that was said, (T, V)."""
        whole = torch.tensor([[*ids, *said]])
        with torch.no_grad():
            logits = self.model(adapter)(input_ids=whole).logits[0]
        return torch.log_softmax(logits[len(ids) - 1 : len(ids) - 1 + len(said)].float(), dim=-1)


class Listener:
    """Hears one request."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.error: LuthierError | None = None
        self.began, self.ended = threading.Event(), threading.Event()
        self.late: list[Piece | LuthierError] = []

    def __call__(self, said: Piece | LuthierError) -> None:
        if self.ended.is_set():
            self.late.append(said)
        elif isinstance(said, Piece):
            self.pieces.append(said)
        else:
            self.error = said
        self.began.set()
        if isinstance(said, LuthierError) or said.finish:
            self.ended.set()

    def wait(self) -> "Listener":
        assert self.ended.wait(WAIT_S), "nothing was said to the end"
        return self

    @property
    def text(self) -> str:
        assert self.error is None, self.error
        return "".join(piece.text for piece in self.pieces)

    @property
    def spoken(self) -> list[Spoken]:
        assert self.error is None, self.error
        return [token for piece in self.pieces for token in piece.tokens]

    @property
    def tokens(self) -> tuple[int, ...]:
        return tuple(token.chosen.id for token in self.spoken)

    @property
    def finish(self) -> str | None:
        return self.pieces[-1].finish if self.pieces else None


@contextlib.contextmanager
def running(base: Path, given: ServeSpec) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(base, given)
    try:
        yield engine
    finally:
        engine.close()


def check_soon(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + WAIT_S
    while not holds() and time.monotonic() < end:
        time.sleep(0.002)
    assert holds()


def check_idle(engine: TransformersEngine) -> None:
    """Wait until nothing is under way: a row leaves a moment after its last word."""
    check_soon(lambda: engine.stats().running + engine.stats().waiting == 0)


def greedy(tokens: int = 16, **changes) -> Sampling:
    return Sampling(**({"max_tokens": tokens, "temperature": 0, "logprobs": 0} | changes))


def ask(
    engine: TransformersEngine, ids: Sequence[int], sampling: Sampling | None = None, adapter: Path | None = None
) -> Listener:
    heard = Listener()
    engine.submit(Ask(tuple(ids), sampling or greedy(), adapter), heard)
    return heard


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    """Return random ids, none of them special."""
    draw = torch.Generator().manual_seed(1000 * seed + length)
    return tuple(torch.randint(0, len(tiny_tokenizer()) - 3, (length,), generator=draw).tolist())


def spec(**changes) -> ServeSpec:
    return ServeSpec(**({"threads": 1} | changes))


def check_as_offline(
    heard: Listener, offline: Offline, ids: Sequence[int], adapter: Path | None = None, tokens: int = 16
):
    """Compare tokens, log-probabilities and text of a greedy answer."""
    heard.wait()
    assert heard.tokens == offline.greedy(tuple(ids), tokens, adapter)
    expected = offline.logprobs(ids, heard.tokens, adapter)
    for row, token in zip(expected, heard.spoken, strict=True):
        assert abs(float(row[token.chosen.id]) - token.chosen.logprob) <= CLOSE
    assert heard.text == tiny_tokenizer().decode(list(heard.tokens), skip_special_tokens=True)
    assert not heard.late
