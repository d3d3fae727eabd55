"""Encoder-decoders on rows: the loss of targets given sources, and what is written greedily."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, PreTrainedModel

from luthier.examples.store import Encoded
from luthier.model.adapter import causal_lm
from luthier.model.bitext import Bitext
from luthier.model.generate import Answer
from luthier.model.prefixes import batches
from luthier.model.step import PlainStep, Precision, StepModel, TargetLoss, autocast

BATCH_TOKENS = 4096
"""Padded tokens of sources, or of rows, computed at once."""
BATCH_ROWS = 64
NO_LABEL = -100

Progress = Callable[[int], None]
Logits = NDArray[np.float64]


class Seq2SeqStep:
    """Pads sources and targets apart, lets the model's own class start the decoder, and takes the logits everywhere."""

    def __init__(self, model: torch.nn.Module, *, precision: Precision = "fp32") -> None:
        self.model = model
        self.precision = precision

    def target_loss(self, rows: Sequence[Encoded], *, smoothing: float = 0.0) -> TargetLoss:
        """Return the summed loss of the rows' target tokens, with gradients; labels are smoothed over all tokens."""
        logits, labels = self.logits(rows)
        loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum", label_smoothing=smoothing)
        correct = (logits.argmax(-1) == labels).sum()
        return TargetLoss(loss, int((labels != NO_LABEL).sum()), correct)

    def row_logprobs(self, rows: Sequence[Encoded]) -> torch.Tensor:
        """Return each row's log-probability in nats, summed over its target tokens, fp32 (R,), with gradients."""
        logits, labels = self.logits(rows)
        losses = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return -losses.view(labels.shape).sum(1)

    def logits(self, rows: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits that predict each target token, fp32 (R, T, V), and the token, or -100 for a pad (R, T)."""
        lm = causal_lm(self.model)
        device, pad = next(self.model.parameters()).device, lm.config.pad_token_id or 0
        ids, seen = _padded([row.ids[: row.prompt_tokens] for row in rows], pad)
        labels, written = _padded([row.ids[row.prompt_tokens :] for row in rows], pad)
        labels = labels.masked_fill(written == 0, NO_LABEL).to(device)
        with autocast(device, self.precision):
            output = self.model(
                input_ids=ids.to(device),
                attention_mask=seen.to(device),
                decoder_input_ids=lm.prepare_decoder_input_ids_from_labels(labels=labels),
                use_cache=False,
            )
        return output.logits.float(), labels


def is_seq2seq(model: torch.nn.Module) -> bool:
    """Tell whether a model reads one text and writes another, with or without an adapter around it."""
    return bool(causal_lm(model).config.is_encoder_decoder)


def plain_step(model: torch.nn.Module, *, precision: Precision = "fp32") -> StepModel:
    """Return the step that is the reference for this model."""
    return (Seq2SeqStep if is_seq2seq(model) else PlainStep)(model, precision=precision)


def still_dropout(model: torch.nn.Module) -> None:
    """Set the dropout that layers of an encoder-decoder apply as a function, and layers left out, to nothing."""
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def write(
    model: torch.nn.Module,
    bitext: Bitext,
    sources: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    progress: Progress = lambda rows: None,
) -> list[Answer]:
    """Return what the model writes greedily for each source, by transformers' own generation, in batches."""
    lm = causal_lm(model)
    answers: dict[int, Answer] = {}
    lengths = [len(source) for source in sources]
    with torch.inference_mode(), _settings(lm, _greedy(lm, bitext, max_new_tokens)):
        for places in batches(range(len(sources)), lengths, tokens=BATCH_TOKENS, rows_at_most=BATCH_ROWS):
            ids, seen = _padded([sources[place] for place in places], bitext.pad_id)
            said = lm.generate(input_ids=ids.to(lm.device), attention_mask=seen.to(lm.device))
            # The first token is the decoder's start.
            for place, written in zip(places, said[:, 1:].tolist(), strict=True):
                answers[place] = _answer(written, bitext)
            progress(len(places))
    return [answers[place] for place in range(len(sources))]


def target_losses(
    model: torch.nn.Module, rows: Sequence[Encoded], *, progress: Progress = lambda rows: None
) -> list[float]:
    """Return each row's cross-entropy in nats, summed over its target tokens."""
    step, losses = Seq2SeqStep(causal_lm(model)), dict[int, float]()
    lengths = [len(row.ids) for row in rows]
    with torch.inference_mode():
        for places in batches(range(len(rows)), lengths, tokens=BATCH_TOKENS, rows_at_most=BATCH_ROWS):
            found = step.row_logprobs([rows[place] for place in places])
            losses |= zip(places, (-found.double()).tolist(), strict=True)
            progress(len(places))
    return [losses[place] for place in range(len(rows))]


def target_logits(model: torch.nn.Module, rows: Sequence[Encoded]) -> list[Logits]:
    """Return the logits that predict each row's target tokens, (T, V), one row at a time."""
    step = Seq2SeqStep(causal_lm(model))
    with torch.inference_mode():
        return [step.logits([row])[0][0].double().cpu().numpy() for row in rows]


@contextlib.contextmanager
def _settings(lm: PreTrainedModel, settings: GenerationConfig) -> Iterator[None]:
    """Let a model write by these settings; passed to `generate`, its own would fill in what they leave open."""
    own = lm.generation_config
    lm.generation_config = settings
    try:
        yield
    finally:
        lm.generation_config = own


def _greedy(lm: PreTrainedModel, bitext: Bitext, max_new_tokens: int) -> GenerationConfig:
    """Return settings of greedy writing; of the model's own only those stay without which its decoder starts wrong."""
    own = lm.generation_config
    context, start = getattr(lm.config, "max_position_embeddings", None), own.decoder_start_token_id
    room = max_new_tokens if context is None else min(max_new_tokens, context - 1)
    return GenerationConfig(
        max_new_tokens=max(room, 1),
        do_sample=False,
        num_beams=1,
        bos_token_id=own.bos_token_id,
        eos_token_id=bitext.eos_id,
        pad_token_id=bitext.pad_id,
        decoder_start_token_id=lm.config.decoder_start_token_id if start is None else start,
        forced_bos_token_id=own.forced_bos_token_id,
    )


def _answer(ids: list[int], bitext: Bitext) -> Answer:
    stopped = bitext.eos_id in ids
    said = ids[: ids.index(bitext.eos_id)] if stopped else ids
    return Answer(said, bitext.text(said), stopped)


def _padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids, (R, T), filled up on the right, and where they are no pads."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    seen = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        seen[i, : len(row)] = 1
    return ids, seen
