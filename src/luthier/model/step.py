"""The two ways to compute the loss of rows: plainly, and with nothing computed twice. Both give the same numbers."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from torch.nn.functional import cross_entropy

from luthier.examples.store import Encoded
from luthier.model.adapter import causal_lm
from luthier.model.adapting.prompts import soft_prompt
from luthier.model.attention import NAME, LayoutAttention
from luthier.model.fast.decoder import FastDecoder, why_not
from luthier.model.head import Head
from luthier.model.layout import build_layout, input_length
from luthier.model.noise import is_noisy, noise_of, noisy, padded_noise

Precision = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Config fields of models that change their logits after the LM head; the fused head does not know them."""


@dataclass(frozen=True)
class TargetLoss:
    """Cross-entropy summed over target tokens, in nats, and how many there are."""

    total: torch.Tensor
    tokens: int
    correct: torch.Tensor
    """How many of them the model finds likelier than any other token."""


class StepModel(Protocol):
    """A model that can price rows; methods build their loss on it."""

    model: torch.nn.Module

    def target_loss(self, rows: Sequence[Encoded], *, smoothing: float = 0.0) -> TargetLoss:
        """Return the summed loss of the rows' target tokens, with gradients; labels are smoothed over all tokens."""
        ...

    def row_logprobs(self, rows: Sequence[Encoded]) -> torch.Tensor:
        """Return each row's log-probability in nats, summed over its target tokens, fp32 (R,), with gradients."""
        ...


class PlainStep:
    """Pad, run the whole model, take the logits everywhere: the reference."""

    def __init__(self, model: torch.nn.Module, *, precision: Precision = "fp32") -> None:
        self.model = model
        self.precision = precision

    def target_loss(self, rows: Sequence[Encoded], *, smoothing: float = 0.0) -> TargetLoss:
        """Return the summed loss of the rows' target tokens, with gradients; labels are smoothed over all tokens."""
        logits, labels = self._logits(rows)
        flat = logits.float().flatten(0, 1), labels.flatten()
        loss = cross_entropy(*flat, reduction="sum", label_smoothing=smoothing)
        correct = (logits.argmax(-1) == labels).sum()
        return TargetLoss(loss, int((labels != -100).sum()), correct)

    def row_logprobs(self, rows: Sequence[Encoded]) -> torch.Tensor:
        """Return each row's log-probability in nats, summed over its target tokens, fp32 (R,), with gradients."""
        logits, labels = self._logits(rows)
        losses = cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
        return -losses.view(labels.shape).sum(1)

    def _logits(self, rows: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of every position but the last, and the token to predict there or -100."""
        device = next(self.model.parameters()).device
        longest = max(len(row.ids) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        seen = torch.zeros(len(rows), longest, dtype=torch.long)
        labels = torch.full((len(rows), longest), -100)
        for i, row in enumerate(rows):
            ids[i, : len(row.ids)] = torch.tensor(row.ids)
            seen[i, : len(row.ids)] = 1
            labels[i, : len(row.ids)] = torch.tensor(row.ids).masked_fill(~torch.tensor(row.targets), -100)

        embedding = self.model.get_input_embeddings()
        noise = padded_noise(rows, embedding.weight.shape[1])
        with autocast(device, self.precision), noisy(embedding, noise):
            logits = self.model(input_ids=ids.to(device), attention_mask=seen.to(device), use_cache=False).logits
        # An adapter's virtual tokens come first, and predict nothing.
        return logits[:, -longest:-1], labels[:, 1:].to(device)


class FastStep:
    """One flat sequence, shared prefixes once, LM head only where there is loss."""

    def __init__(
        self, model: torch.nn.Module, *, precision: Precision = "fp32", share: bool = True, compiled: bool = False
    ) -> None:
        self.model = model
        self.precision = precision
        self.share = share
        lm = causal_lm(model)
        lm.set_attn_implementation(NAME)
        self.decoder = FastDecoder(lm, dtype=_DTYPES[precision], compiled=compiled) if why_not(lm) is None else None
        self.head = Head(lm.get_output_embeddings(), dtype=_DTYPES[precision])

    def target_loss(self, rows: Sequence[Encoded], *, smoothing: float = 0.0) -> TargetLoss:
        """Return the summed loss of the rows' target tokens, with gradients; labels are smoothed over all tokens."""
        hidden, targets, _ = self._hidden(rows)
        loss, correct = self.head.cross_entropy(hidden, targets, smoothing=smoothing)
        return TargetLoss(loss, len(targets), correct)

    def row_logprobs(self, rows: Sequence[Encoded]) -> torch.Tensor:
        """Return each row's log-probability in nats, summed over its target tokens, fp32 (R,), with gradients."""
        hidden, targets, order = self._hidden(rows)
        counts = [sum(rows[i].targets[1:]) for i in order]
        parts = self.head.logprobs(hidden, targets).split(counts)
        sums = {i: part.sum() for i, part in zip(order, parts, strict=True)}
        return torch.stack([sums[i] for i in range(len(rows))])

    def _hidden(self, rows: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor, tuple[int, ...]]:
        """Return the hidden states that predict the targets, (M, C), the targets, (M,), and the order of their rows."""
        lm, is_alone = causal_lm(self.model), is_noisy(rows)
        layout = build_layout(rows, share=self.share and not is_alone)
        device = next(lm.parameters()).device
        attention = LayoutAttention(layout, device)
        ids, positions = (torch.from_numpy(array).to(device)[None] for array in (layout.ids, layout.positions))

        where = torch.from_numpy(layout.hidden_index).to(device)
        targets = torch.from_numpy(layout.target_ids).to(device)
        embedding, noise = lm.get_input_embeddings(), None
        if is_alone:
            channels = embedding.weight.shape[1]
            noise = torch.cat([noise_of(rows[i], channels)[: input_length(rows[i])] for i in layout.order])
        with autocast(device, self.precision), noisy(embedding, noise):
            if self.decoder is not None:
                hidden = lm.model.norm(self.decoder.hidden(ids[0], positions[0], attention, where))
            else:
                states = lm.base_model(input_ids=ids, position_ids=positions, use_cache=False, layout=attention)
                hidden = states.last_hidden_state[0, where]
        return hidden, targets, layout.order


@contextmanager
def at_rest(model: torch.nn.Module) -> Iterator[None]:
    """Put a model into eval mode for a while: no dropout, and nothing drawn from the random state."""
    awake = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in awake:
            module.training = True


def why_plain(model: torch.nn.Module) -> str | None:
    """Return why this model cannot take the fast step, or None where it can."""
    lm = causal_lm(model)
    if lm.config.is_encoder_decoder:
        return "an encoder-decoder reads source and target apart"
    if soft_prompt(lm) is not None or (isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning):
        return "virtual tokens stand before each row"
    if isinstance(lm.get_output_embeddings(), BaseTunerLayer | AuxiliaryTrainingWrapper):
        return "its output layer is tuned, which the fused head does not know"
    config = lm.config
    changed = [name for name in LOGIT_CHANGES if getattr(config, name, None) not in (None, 0, 1, 1.0)]
    if changed:
        return f"its config sets {', '.join(changed)}, which changes the logits after the LM head"
    return None


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Return the context in which matrix products run in the given precision."""
    return torch.autocast(device.type, _DTYPES[precision], enabled=precision != "fp32")
