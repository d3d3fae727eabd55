"""Virtual tokens before each conversation: trained by PEFT, and afterwards keys and values that a plain model reads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig
from transformers import Cache, DynamicCache, PreTrainedModel

from luthier.core.errors import ModelError
from luthier.model.adapters.p_tuning import PTuningSpec
from luthier.model.adapters.prefix_tuning import PrefixTuningSpec
from luthier.model.adapters.prompt_tuning import PromptTuningSpec
from luthier.model.adapting.by_peft import NAME, ByPeft, Configure
from luthier.model.adapting.configs import TASK
from luthier.model.load import load_tokenizer

Hooked = tuple[tuple[Any, ...], dict[str, Any]]


class Prompts:
    """Virtual tokens; `begin` gives them their first values where PEFT does not."""

    def __init__(self, configure: Configure, begin: Callable[[PeftModel], None] | None = None) -> None:
        self._peft, self._begin = ByPeft(configure), begin

    def attach(self, model: PreTrainedModel, *, seed: int) -> PeftModel:
        """Freeze the base and put virtual tokens before it, drawn from `seed`."""
        if any(layer.is_sliding for layer in DynamicCache(config=model.config).layers):
            raise ModelError(
                "this adapter does not fit this model",
                where={"field": "train.adapter.name", "model": type(model).__name__},
                why="some of its layers attend to a window only, which virtual tokens would leave",
                hint="take `adapter: lora`",
            )
        tuned = self._peft.attach(model, seed=seed)
        if self._begin is not None:
            self._begin(tuned)
        return tuned

    def save(self, model: PeftModel, folder: Path, *, base_model: str) -> None:
        """Write PEFT's own format, naming the base as the recipe does."""
        self._peft.save(model, folder, base_model=base_model)


def prompt_tuning(spec: PromptTuningSpec) -> Prompts:
    """Return word vectors that train."""
    kind = "SAMPLE_VOCAB" if spec.init == "vocabulary" else "RANDOM"
    return Prompts(
        lambda model: PromptTuningConfig(
            task_type=TASK, num_virtual_tokens=spec.virtual_tokens, prompt_tuning_init=kind
        ),
        begin=(lambda tuned: _begin_with_words(spec.text, tuned)) if spec.init == "text" else None,
    )


def prefix_tuning(spec: PrefixTuningSpec) -> Prompts:
    """Return keys and values that train."""
    return Prompts(
        lambda model: PrefixTuningConfig(
            task_type=TASK,
            num_virtual_tokens=spec.virtual_tokens,
            prefix_projection=spec.projection is not None,
            encoder_hidden_size=spec.projection,
        )
    )


def p_tuning(spec: PTuningSpec) -> Prompts:
    """Return word vectors that a small network makes."""
    return Prompts(
        lambda model: PromptEncoderConfig(
            task_type=TASK,
            num_virtual_tokens=spec.virtual_tokens,
            encoder_reparameterization_type=spec.encoder.upper(),
            encoder_hidden_size=spec.hidden,
        )
    )


def _begin_with_words(text: str, tuned: PeftModel) -> None:
    """Begin as the vectors of a text's tokens, repeated or cut."""
    base = tuned.get_base_model()
    ids = load_tokenizer(Path(base.config.name_or_path))(text, add_special_tokens=False)["input_ids"]
    weight = tuned.prompt_encoder[NAME].embedding.weight
    with torch.no_grad():
        whole = torch.tensor([ids[place % len(ids)] for place in range(len(weight))], device=weight.device)
        weight.copy_(base.get_input_embeddings()(whole))


class SoftPrompt(torch.nn.Module):
    """Keys and values of virtual tokens, which the model finds before the first token of each new conversation."""

    def __init__(self, known: Cache) -> None:
        super().__init__()
        self.on = True
        for number, layer in enumerate(known.layers):
            self.register_buffer(f"keys{number}", layer.keys.detach().clone(), persistent=False)
            self.register_buffer(f"values{number}", layer.values.detach().clone(), persistent=False)

    @property
    def tokens(self) -> int:
        """How many virtual tokens there are."""
        return int(self.keys0.shape[-2])

    def before(self, model: PreTrainedModel, given: tuple[Any, ...], named: dict[str, Any]) -> Hooked | None:
        """Begin an empty cache with the virtual tokens, and make room for them in mask and positions."""
        if not self.on:
            return None
        inputs = named.get("input_ids", given[0] if given else None)
        batch = len(inputs if inputs is not None else named["inputs_embeds"])
        cache = named.get("past_key_values")
        cache = DynamicCache(config=model.config) if cache is None else cache
        if cache.get_seq_length() == 0:
            for number in range(len(cache.layers)):
                keys, values = (getattr(self, f"{what}{number}") for what in ("keys", "values"))
                cache.update(keys.expand(batch, -1, -1, -1), values.expand(batch, -1, -1, -1), number)
        changed = {"past_key_values": cache}
        mask, positions = named.get("attention_mask"), named.get("position_ids")
        if mask is not None:
            changed["attention_mask"] = torch.cat([mask.new_ones(batch, self.tokens), mask], dim=1)
        if positions is not None:
            changed["position_ids"] = positions + self.tokens
        return given, named | changed


def with_soft_prompt(tuned: PeftModel) -> PreTrainedModel:
    """Return the base model, which from now on finds what was learnt before each conversation."""
    base = tuned.get_base_model()
    with torch.no_grad():
        prompt = tuned.get_prompt(batch_size=1)
        known = prompt if isinstance(prompt, Cache) else base(inputs_embeds=prompt, use_cache=True).past_key_values
    base.soft_prompt = SoftPrompt(known)
    base.register_forward_pre_hook(base.soft_prompt.before, with_kwargs=True)
    return base


def soft_prompt(model: torch.nn.Module) -> SoftPrompt | None:
    """Return the virtual tokens that a plain model finds before each conversation, if there are any."""
    found = getattr(model, "soft_prompt", None)
    return found if isinstance(found, SoftPrompt) else None
