"""Answers from a model: greedy in batches for measuring, as a stream for talking."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from transformers import Cache, DynamicCache, PreTrainedModel

from luthier.model.adapter import causal_lm
from luthier.model.adapting.prompts import soft_prompt
from luthier.model.prefix_attention import NAME, attention_by, can_share, compute_prefix
from luthier.model.prefixes import Group, batches, group_by_prefix
from luthier.model.template import Template

BATCH_TOKENS = 4096
"""Padded prompt tokens computed at once."""
BATCH_ROWS = 64
SCORE_BYTES = 256_000_000
"""Attention scores kept at once when a prefix is shared."""

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Answer:
    """What a model said to one prompt."""

    ids: list[int]
    """Token ids, without the one that ended the answer."""
    text: str
    stopped: bool
    """Whether the model ended the answer itself."""


def generate(
    model: torch.nn.Module,
    template: Template,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress = lambda rows: None,
) -> list[Answer]:
    """Answer prompts greedily, in batches; `progress` hears how many more rows are done."""
    work = _Work(causal_lm(model), template, prompts, max_new_tokens)
    with torch.inference_mode():
        groups = _groups(work)
        progress(len(work.answers))
        for group in groups:
            _answer_group(work, group, batch_tokens, progress)
    return [work.answers[row] for row in range(len(prompts))]


@dataclass
class _Work:
    model: PreTrainedModel
    template: Template
    prompts: Sequence[Sequence[int]]
    max_new_tokens: int
    answers: dict[int, Answer] = field(default_factory=dict)

    def limit(self, row: int) -> int:
        """Return how many tokens may follow a prompt before the context is full."""
        context = (
            getattr(self.model.config, "max_position_embeddings", None) or len(self.prompts[row]) + self.max_new_tokens
        )
        soft = soft_prompt(self.model)
        context -= soft.tokens if soft else 0
        return min(self.max_new_tokens, context - len(self.prompts[row]))


def _groups(work: _Work) -> list[Group]:
    """Group the prompts that leave room for an answer; the others get an empty one."""
    open_rows = []
    for row, prompt in enumerate(work.prompts):
        if not prompt:
            raise ValueError(f"prompt {row} has no token")
        if work.limit(row) > 0:
            open_rows.append(row)
        else:
            work.answers[row] = Answer([], "", stopped=False)
    longest = max((len(work.prompts[row]) for row in open_rows), default=0)
    if soft_prompt(work.model) or not can_share(work.model, longest + work.max_new_tokens):
        return [Group(0, tuple(open_rows))] if open_rows else []
    groups = group_by_prefix([work.prompts[row] for row in open_rows])
    return [Group(group.shared, tuple(open_rows[place] for place in group.rows)) for group in groups]


def _answer_group(work: _Work, group: Group, batch_tokens: int, progress: Progress) -> None:
    lengths = [len(prompt) - group.shared for prompt in work.prompts]
    prefix = compute_prefix(work.model, work.prompts[group.rows[0]][: group.shared]) if group.shared else None
    if prefix is None:
        for rows in batches(group.rows, lengths, tokens=batch_tokens, rows_at_most=BATCH_ROWS):
            _answer_batch(work, rows, prefix)
            progress(len(rows))
        return
    keys = group.shared + max(lengths[row] for row in group.rows)
    tokens = min(batch_tokens, SCORE_BYTES // (4 * work.model.config.num_attention_heads * keys))
    with attention_by(work.model, NAME):
        for rows in batches(group.rows, lengths, tokens=tokens, rows_at_most=BATCH_ROWS):
            _answer_batch(work, rows, prefix)
            progress(len(rows))


def _answer_batch(work: _Work, rows: list[int], prefix: Cache | None) -> None:
    """Answer some rows together; a row that ends leaves the batch and costs no more."""
    batch = _Batch(work, rows, prefix)
    said: dict[int, list[int]] = {row: [] for row in rows}
    stopped = dict.fromkeys(rows, False)
    while batch.rows:
        tokens = batch.next_tokens()
        for row, token in zip(batch.rows, tokens, strict=True):
            stopped[row] = token in work.template.stop_ids
            said[row] += [] if stopped[row] else [token]
        going = [place for place, row in enumerate(batch.rows) if not stopped[row] and len(said[row]) < work.limit(row)]
        batch.keep(going)
        batch.feed([tokens[place] for place in going])
    for row in rows:
        work.answers[row] = Answer(said[row], work.template.text(said[row]), stopped[row])


class _Batch:
    """Rows under way: cache, mask and next positions, padded on the left."""

    def __init__(self, work: _Work, rows: list[int], prefix: Cache | None) -> None:
        self._model, self._prefix, self.rows = work.model, prefix, list(rows)
        self._cache = DynamicCache(config=work.model.config)
        shared = prefix.get_seq_length() if prefix is not None else 0
        pieces = [list(work.prompts[row][shared:]) for row in rows]
        longest = max(len(piece) for piece in pieces)
        pads = torch.tensor([longest - len(piece) for piece in pieces], device=work.model.device)
        ids = torch.tensor([[work.template.pad_id] * (longest - len(p)) + p for p in pieces], device=work.model.device)
        places = torch.arange(longest, device=work.model.device)
        self._mask = (places >= pads[:, None]).long()
        self._position = shared + longest - pads
        self._run(ids, (shared + places - pads[:, None]).clamp(min=0))

    def _run(self, ids: torch.Tensor, positions: torch.Tensor) -> None:
        extra = {} if self._prefix is None else {"shared_prefix": self._prefix}
        output = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            **extra,
        )
        self._logits = output.logits[:, -1]

    def next_tokens(self) -> list[int]:
        """Return each row's most likely next token."""
        return self._logits.argmax(dim=-1).tolist()

    def keep(self, places: list[int]) -> None:
        """Go on with the rows at these places only."""
        if len(places) == len(self.rows):
            return
        index = torch.tensor(places, dtype=torch.long, device=self._mask.device)
        self.rows = [self.rows[place] for place in places]
        self._cache.batch_select_indices(index)
        self._mask, self._position, self._logits = self._mask[index], self._position[index], self._logits[index]

    def feed(self, tokens: list[int]) -> None:
        """Append one token to each row and compute what follows."""
        if not tokens:
            return
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        self._run(torch.tensor(tokens, device=self._mask.device)[:, None], self._position[:, None])
        self._position = self._position + 1


def stream(model: torch.nn.Module, template: Template, ids: Sequence[int], *, max_new_tokens: int) -> Iterator[str]:
    """Yield a greedy answer piece by piece, each piece whole characters."""
    said: list[int] = []
    shown = 0
    for token in _tokens(_Work(causal_lm(model), template, [ids], max_new_tokens)):
        said.append(token)
        text = template.text(said)
        # A character of several bytes is complete only when its last token is there.
        if not text.endswith("\ufffd"):
            yield text[shown:]
            shown = len(text)
    rest = template.text(said)[shown:]
    if rest:
        yield rest


def _tokens(work: _Work) -> Iterator[int]:
    """Yield the tokens of the answer to the only prompt as they come."""
    if work.limit(0) < 1:
        return
    # No inference mode around a `yield`: it would hold for whoever reads the stream.
    with torch.inference_mode():
        batch = _Batch(work, [0], None)
    for _ in range(work.limit(0)):
        token = batch.next_tokens()[0]
        if token in work.template.stop_ids:
            return
        yield token
        with torch.inference_mode():
            batch.feed([token])
