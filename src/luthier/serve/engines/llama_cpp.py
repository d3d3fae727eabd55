"""llama.cpp as an engine: its own server in a child process, and this process asks it.

What it does differently from the others:

- Its answers depend on nothing but the request while it is alone. Beside others, sums are made in another order, and
  the last bits of a logit may differ. Prompts are read anew for each answer (`cache_prompt` is off), since a prompt
  that is partly remembered is computed in other pieces.
- Penalties count the prompt's tokens besides the answer's.
- It also ends an answer at tokens that it knows by their text as ends, whatever the file says.
- Of a file in fp32, keys and values are kept in fp32, too, and flash attention is off, which would round queries to 16
  bits: so its probabilities are transformers' (KL divergence 3e-14 on tiny models), except that llama.cpp computes GELU
  by a table in 16 bits (1e-8, Gemma and GPT-2). Of other files they are kept in 16 bits, llama.cpp's own way.
- While it streams, it does not say the ids of tokens that hold a part of a character. So an answer with
  log-probabilities comes whole at its end, and what is missing for such tokens is asked for, one by one.
- It takes no adapter and no grammar of ours, and embeds prompts of up to 512 tokens.
"""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from luthier.core.errors import ModelError
from luthier.model.device import physical_cores
from luthier.model.load import load_tokenizer
from luthier.model.template import Template
from luthier.serve.engines.line import Line, Turn
from luthier.serve.engines.llama_child import BATCH, Child, Orders
from luthier.serve.engines.llama_http import Caller, Json
from luthier.serve.engines.open import GGUF_FILE
from luthier.serve.request import (
    Ask,
    Chance,
    EngineError,
    EngineStats,
    Finish,
    Heard,
    Piece,
    Sampling,
    Spoken,
    answer_limit,
)
from luthier.serve.spec import ServeSpec
from luthier.serve.text import Speaker

LIKELIEST = 2048
"""Tokens whose log-probabilities are asked for at each step of `chances`; of a file in fp32, all are: the server's sum
of them is off by 1e-5, which only they can mend."""
SEEDS = 2**32 - 1
"""The largest seed stands for "any"."""
CERTAIN = 1e9
SPACE = "\u2581"


class LlamaCppEngine:
    """An engine over one GGUF file; see `serve.request.Engine`."""

    def __init__(self, folder: Path, spec: ServeSpec) -> None:
        """Start llama.cpp on the folder's file; raise ModelError where it cannot be read."""
        self._tokenizer = Template(load_tokenizer(folder)).tokenizer
        threads = spec.threads or physical_cores()
        self._child = Child(Orders(str((folder / GGUF_FILE).resolve()), spec.rows, threads, spec.answer_bytes))
        started = self._child.started
        self.context: float = started.context
        self._vocabulary = started.vocabulary
        self._likeliest = started.vocabulary if started.is_exact else LIKELIEST
        self._caller = Caller(self._child)
        self._line = Line(self._answer, rows=spec.rows, queue=spec.queue, tokens=started.tokens)
        try:
            self._plain = self._plain_token()
            self.stop_ids = self._ends()
            self._before = self._piece_before()
            self._strips_space = self._drops_first_space()
        except BaseException:
            self.close()
            raise

    def submit(self, ask: Ask, heard: Heard) -> Turn:
        """Put a request in line and return at once; raise QueueFullError where the line is full."""
        _refuse_adapter(ask.adapter)
        if ask.sampling.grammar:
            why = "llama.cpp reads grammars in a form of its own"
            raise EngineError("this engine cannot hold answers to a grammar", why=why, hint=OTHER_ENGINE)
        limit = answer_limit(ask, self.context)
        return self._line.join(Turn(ask, heard, limit))

    def embed(self, prompts: Sequence[Sequence[int]], adapter: Path | None = None) -> list[list[float]]:
        """Return one mean-pooled, unit-length vector per prompt."""
        _refuse_adapter(adapter)
        return [self._embedded(prompt) for prompt in prompts]

    def render(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()) -> str:
        """Return a conversation as llama.cpp templates it.

        Where the file says that BOS is put before each prompt, llama.cpp takes away the one that a template writes;
        here it stands in its place.
        """
        body: Json = {"messages": list(messages)} | ({"tools": list(tools)} if tools else {})
        return self._before + str(self._told("/apply-template", body)["prompt"])

    def encode(self, rendered: str) -> list[int]:
        """Return the ids that llama.cpp makes of a rendered prompt, with the BOS that it puts before it by itself.

        A file that says so although the template writes none shows as one BOS too many.
        """
        return self._tokens(rendered.removeprefix(self._before))

    def chances(
        self, prompt: Sequence[int], answer: Sequence[int], adapter: Path | None = None
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return log-probabilities along a given answer, of the likeliest tokens at each step; NaN elsewhere.

        One request and some 100 bytes of JSON per step and token. After the prompt, each step computes one token, as in
        an answer.
        """
        _refuse_adapter(adapter)
        rows = np.full((len(answer) + 1, self._vocabulary), np.nan, dtype=np.float32)
        for step in range(len(answer) + 1):
            if len(prompt) + step >= self.context:
                # The server has no room to think of one more token.
                break
            # Only what this call has just computed is remembered.
            told = self._likely([*prompt, *answer[:step]], self._likeliest, remember=step > 0)
            for one in told["top_logprobs"]:
                rows[step, one["id"]] = one["logprob"]
        return rows

    def unload(self, adapter: Path) -> None:
        """Do nothing: no adapter was ever taken."""

    def stats(self) -> EngineStats:
        """Return the present state."""
        return self._line.stats()

    def close(self) -> None:
        """End the server; requests under way are told."""
        self._line.close()
        self._child.close()

    def _told(self, path: str, body: Json | None = None) -> Any:
        self._line.check_open()
        return self._caller.ask(path, body)

    def _tokens(self, text: str) -> list[int]:
        return [int(one) for one in self._told("/tokenize", _text(text))["tokens"]]

    def _ends(self) -> frozenset[int]:
        """Return the tokens at which the server ends an answer: those that it rules out where it is to ignore them."""
        body = {"prompt": [self._plain], "n_predict": 1, "ignore_eos": True, "cache_prompt": False}
        settings = self._told("/completion", body)["generation_settings"]
        return frozenset(int(one["token"]) for one in settings["logit_bias"])

    def _piece_before(self) -> str:
        """Return the text of the BOS that the server takes from a template's beginning, since it puts one there."""
        bos, known = self._tokenizer.bos_token, self._told("/props")
        writes = "bos_token" in known["chat_template"] or known["bos_token"] in known["chat_template"]
        return str(bos) if writes and bos and self._tokens("")[:1] == [self._tokenizer.bos_token_id] else ""

    def _drops_first_space(self) -> bool:
        """Return whether our tokenizer shows no space before an answer's first word, as SentencePiece's do."""
        word = next((number for token, number in self._tokenizer.get_vocab().items() if token == f"{SPACE}a"), None)
        return word is not None and not self._tokenizer.decode([word]).startswith(" ")

    def _plain_token(self) -> int:
        """Return a token that is a whole character: of others the server does not say the log-probability."""
        ends = Template(self._tokenizer).stop_ids
        for letter in "ae ,.10":
            ids = self._tokenizer.encode(letter, add_special_tokens=False)
            if len(ids) == 1 and ids[0] not in ends:
                return int(ids[0])
        raise ModelError("the model's tokenizer has no token for any plain letter")

    def _embedded(self, ids: Sequence[int]) -> list[float]:
        if len(ids) > BATCH:
            raise EngineError("the prompt is too long to embed", why=f"{len(ids):,} tokens; this engine reads {BATCH}")
        told = self._told("/embedding", {"content": list(ids)})
        vector = np.array(told[0]["embedding"], dtype=np.float64).reshape(-1)
        return list((vector / np.linalg.norm(vector)).tolist())

    def _likely(self, ids: Sequence[int], count: int, *, remember: bool) -> Json:
        """Return what the server finds likely next.

        It says so only beside a token that it chose and that ends no piece of a character: so one is forced on it,
        which changes nothing of the probabilities that it tells.
        """
        body = {
            "prompt": list(ids),
            "n_predict": 1,
            "n_probs": min(count, self._vocabulary),
            "temperature": 0,
            "logit_bias": [[self._plain, CERTAIN]],
            "cache_prompt": remember,
            "id_slot": 0,
        }
        told = self._told("/completion", body).get("completion_probabilities")
        if not told:
            raise EngineError("llama.cpp did not say how likely each token is")
        return dict(told[0])

    def _answer(self, turn: Turn) -> Iterator[Piece]:
        body = _body(turn)

        def opened(hang_up: Any) -> None:
            turn.hang_up = hang_up
            # It may have been cancelled a moment before there was anything to end.
            if turn.cancelled:
                hang_up()

        try:
            if turn.ask.sampling.logprobs is None:
                body |= {"stream": True, "stop": []}
                yield from self._streamed(turn, self._caller.stream("/completion", body, opened))
            else:
                yield from self._whole(turn, self._caller.ask("/completion", body, opened))
        finally:
            turn.hang_up = None

    def _streamed(self, turn: Turn, events: Iterator[Json]) -> Iterator[Piece]:
        """Yield text as it comes. Stop texts are ours: the server loses what it holds back at an answer's end."""
        speaker, told = Speaker(self._tokenizer, turn.ask.sampling.stop), 0
        is_first, text = True, ""
        for event in events:
            content = event["content"]
            if is_first and content:
                content, is_first = content.removeprefix(" ") if self._strips_space else content, False
            text += speaker.certain(content)
            finish: Finish | None = _finish(event) if event["stop"] else None
            if speaker.stopped:
                finish = "stop"
            elif finish:
                text += speaker.rest()
            if text or finish:
                counted = event["tokens_predicted"]
                yield Piece(text, new_tokens=counted - told, finish=finish)
                text, told = "", counted
            if finish:
                return

    def _whole(self, turn: Turn, told: Json) -> Iterator[Piece]:
        """Yield a finished answer, with each token's log-probability."""
        ids, finish = [int(one) for one in told["tokens"]], _finish(told)
        new = len(ids)
        if finish == "stop" and told["stop_type"] == "eos" and ids:
            ids.pop()
        known = iter(told.get("completion_probabilities") or ())
        next_known = next(known, None)
        speaker, text, spoken = Speaker(self._tokenizer, turn.ask.sampling.stop), "", []
        for place, token in enumerate(ids):
            likely: Json | None = None
            if next_known is not None and next_known["id"] == token:
                likely, next_known = next_known, next(known, None)
            spoken.append(self._spoken(turn, ids[:place], token, likely))
            text += speaker.add(token)
            if speaker.stopped:
                finish = "stop"
                break
        yield Piece(text + speaker.rest(), tuple(spoken), new, finish=finish)

    def _spoken(self, turn: Turn, before: Sequence[int], token: int, likely: Json | None) -> Spoken:
        count = turn.ask.sampling.logprobs or 0
        if likely is None:
            told = self._likely([*turn.ask.ids, *before], LIKELIEST, remember=True)
            found = [one for one in told["top_logprobs"] if one["id"] == token]
            # A piece of a character that is less likely than all of those was drawn.
            likely = {"id": token, "bytes": [], "logprob": math.nan} | (found[0] if found else {})
            likely["top_logprobs"] = told["top_logprobs"]
        others = tuple(self._chance(one) for one in likely["top_logprobs"][:count])
        return Spoken(self._chance(likely), others)

    def _chance(self, told: Json) -> Chance:
        token = int(told["id"])
        return Chance(token, self._tokenizer.decode([token]), bytes(told["bytes"]), float(told["logprob"]))


OTHER_ENGINE = "export the model as `merged` and take the engine `transformers`"


def _refuse_adapter(adapter: Path | None) -> None:
    if adapter is not None:
        why = "a GGUF export has the tuned weights in it"
        raise EngineError("this engine takes no adapter", where={"adapter": adapter}, why=why, hint=OTHER_ENGINE)


def _text(text: str) -> Json:
    return {"content": text, "add_special": True, "parse_special": True}


def _finish(told: Json) -> Finish:
    return "length" if told["stop_type"] == "limit" else "stop"


def _body(turn: Turn) -> Json:
    """Return a request in llama.cpp's words; all of its own defaults that would change an answer are off."""
    asked: Sampling = turn.ask.sampling
    return {
        "prompt": list(turn.ask.ids),
        "n_predict": turn.limit,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "seed": int.from_bytes(os.urandom(4)) % SEEDS if asked.seed is None else asked.seed % SEEDS,
        "stop": list(asked.stop),
        "frequency_penalty": asked.frequency_penalty,
        "presence_penalty": asked.presence_penalty,
        "repeat_last_n": turn.tokens,
        "repeat_penalty": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        # In the order in which our own engine does it.
        "samplers": ["penalties", "temperature", "top_p"],
        "logit_bias": [[token, bias] for token, bias in asked.logit_bias.items()],
        "n_probs": 0 if asked.logprobs is None else max(asked.logprobs, 1),
        "return_tokens": True,
        "cache_prompt": False,
    }
