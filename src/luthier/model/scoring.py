"""How likely a model finds given texts: losses of rows, and the best of a set of labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from luthier.examples.store import Encoded
from luthier.model.adapter import causal_lm
from luthier.model.attention import NAME, LayoutAttention
from luthier.model.layout import build_layout
from luthier.model.prefix_attention import PLAIN_ATTENTION, attention_by
from luthier.model.prefixes import common_prefix
from luthier.model.seq2seq import is_seq2seq, target_losses
from luthier.model.step import why_plain

BATCH_TOKENS = 4096
"""Tokens computed at once, shared ones counted once."""
HEAD_ROWS = 512
"""Positions whose logits exist at once."""

Progress = Callable[[int], None]


@dataclass(frozen=True)
class RowLoss:
    """Cross-entropy of one row in nats, summed over its target tokens, and how many there are."""

    total: float
    tokens: int


@dataclass(frozen=True)
class LabelScores:
    """Log-likelihood of each label as the whole answer, end of turn included."""

    log_likelihood: dict[str, float]

    @property
    def best(self) -> str:
        """The likeliest label; on a tie the first."""
        return max(self.log_likelihood, key=lambda label: self.log_likelihood[label])


def score_labels(
    model: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    labels: Mapping[str, Sequence[int]],
    *,
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress = lambda rows: None,
) -> list[LabelScores]:
    """Score every label (its answer's token ids) after every prompt; each prompt is computed once."""
    rows = [_answered(prompt, answer) for prompt in prompts for answer in labels.values()]
    done = _Counter(len(labels), progress)
    losses = row_losses(model, rows, batch_tokens=batch_tokens, progress=done)
    likelihoods = [-loss.total for loss in losses]
    starts = range(0, len(losses), len(labels))
    return [LabelScores(dict(zip(labels, likelihoods[start : start + len(labels)], strict=True))) for start in starts]


def _answered(prompt: Sequence[int], answer: Sequence[int]) -> Encoded:
    targets = [False] * len(prompt) + [True] * len(answer)
    return Encoded([*prompt, *answer], targets, len(prompt))


class _Counter:
    """Turn progress in rows into progress in prompts."""

    def __init__(self, per_prompt: int, progress: Progress) -> None:
        self._per_prompt, self._progress, self._rows = per_prompt, progress, 0

    def __call__(self, rows: int) -> None:
        before = self._rows // self._per_prompt
        self._rows += rows
        self._progress(self._rows // self._per_prompt - before)


def row_losses(
    model: torch.nn.Module,
    rows: Sequence[Encoded],
    *,
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress = lambda rows: None,
) -> list[RowLoss]:
    """Return each row's loss on its target tokens; the first token of a row is never one."""
    lm = causal_lm(model)
    if is_seq2seq(lm):
        totals = target_losses(lm, rows, progress=progress)
        return [RowLoss(total, sum(row.targets)) for total, row in zip(totals, rows, strict=True)]
    flat = lm.config.model_type in PLAIN_ATTENTION and why_plain(lm) is None
    batches = _batches(rows, batch_tokens) if flat else [[i] for i in range(len(rows))]
    losses: dict[int, RowLoss] = {}
    with torch.inference_mode(), attention_by(lm, NAME if flat else lm.config._attn_implementation):
        for batch in batches:
            ours = [rows[i] for i in batch]
            losses |= zip(batch, _losses_flat(lm, ours) if flat else [_loss_alone(lm, ours[0])], strict=True)
            progress(len(batch))
    return [losses[i] for i in range(len(rows))]


def _batches(rows: Sequence[Encoded], batch_tokens: int) -> list[list[int]]:
    """Cut rows, sorted by their tokens, into batches: the first row and about `batch_tokens` that it does not share.

    Behind a long beginning more is added, since every batch computes its beginning again.
    """
    batches: list[list[int]] = []
    room = 0
    for i in sorted(range(len(rows)), key=lambda i: rows[i].ids):
        own = len(rows[i].ids) - (common_prefix(rows[batches[-1][-1]].ids, rows[i].ids) if batches else 0)
        if not batches or own > room:
            batches.append([])
            own, room = 0, max(batch_tokens, 2 * len(rows[i].ids))
        batches[-1].append(i)
        room -= own
    return batches


def _losses_flat(model: PreTrainedModel, rows: list[Encoded]) -> list[RowLoss]:
    """Compute rows as one flat sequence with shared beginnings once; rows come sorted, as the layout keeps them."""
    device = model.device
    layout = build_layout(rows)
    ids, positions = (torch.from_numpy(array).to(device)[None] for array in (layout.ids, layout.positions))
    attention = LayoutAttention(layout, device)
    states = model.base_model(input_ids=ids, position_ids=positions, use_cache=False, layout=attention)
    hidden = states.last_hidden_state[0, torch.from_numpy(layout.hidden_index).to(device)]
    targets = torch.from_numpy(layout.target_ids).to(device)

    head = model.get_output_embeddings()
    pieces = zip(hidden.split(HEAD_ROWS), targets.split(HEAD_ROWS), strict=True)
    losses = torch.cat([cross_entropy(head(h).float(), t, reduction="none") for h, t in pieces]).double().cpu()
    counts = [sum(row.targets[1:]) for row in rows]
    return [RowLoss(float(part.sum()), count) for part, count in zip(losses.split(counts), counts, strict=True)]


def _loss_alone(model: PreTrainedModel, row: Encoded) -> RowLoss:
    """Compute one row plainly, for models whose attention or head is not the usual one."""
    ids = torch.tensor([row.ids], device=model.device)
    targets = torch.tensor(row.targets[1:], device=model.device)
    if not targets.any():
        return RowLoss(0.0, 0)
    before = torch.cat([targets, targets.new_zeros(1)])[None]
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=before).logits.flatten(0, -2).float()
    loss = cross_entropy(logits, ids[0, 1:][targets], reduction="none").double()
    return RowLoss(float(loss.sum()), len(loss))
