"""Keys and values of the rows under way, and attention to them.

The pool keeps rows compact: row 0 to the last one, each from its first token on the left. It is plugged into
transformers through its public attention interface; the model itself keeps no cache.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

NAME = "luthier_serve"
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3", "gpt2")
"""Model types whose attention is softmax(scale q k) v, over all tokens or a window, with nothing added; tested."""
STEP_TOKENS = 256
STEP_ROWS = 4

States = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Query (B, H, T, D), key and value (B, G, T, D)."""


@dataclass(frozen=True)
class Shape:
    """What a token's keys and values need."""

    layers: int
    groups: int
    channels: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Shape":
        """Read it from a model's config."""
        config = model.config
        heads = config.num_attention_heads
        groups = getattr(config, "num_key_value_heads", None) or heads
        channels = getattr(config, "head_dim", None) or config.hidden_size // heads
        return cls(config.num_hidden_layers, groups, channels)

    @property
    def token_bytes(self) -> int:
        """Memory of one token's keys and values, in fp32."""
        return self.layers * 2 * self.groups * self.channels * torch.float32.itemsize

    def empty(self, *places: int) -> torch.Tensor:
        """Return room for keys and values: (layers, 2, …, groups, tokens, channels)."""
        *rows, tokens = places
        return torch.zeros(self.layers, 2, *rows, self.groups, tokens, self.channels)


class Attending(Protocol):
    """Where a step's keys and values go, and what its queries see."""

    def attend(self, layer: int, states: States, scale: float, window: int | None) -> torch.Tensor:
        """Store the keys and values, and return what the queries see, (B, T, H, D)."""
        ...


class Pool:
    """Rows under way, each adding one token a step."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.lengths: list[int] = []
        """Tokens of each row, without the one of the present step."""
        self._kv = shape.empty(STEP_ROWS, STEP_TOKENS)
        self._place_S = self._length_B = torch.empty(0, dtype=torch.long)
        self._longest = 0

    def bytes_with(self, tokens: int = 0, rows: int = 0) -> int:
        """Return the memory that the next steps need with `rows` more rows of so many tokens each."""
        longest = max([tokens, *(length + 1 for length in self.lengths)])
        rows += len(self.lengths)
        return _steps(rows, STEP_ROWS) * _steps(longest, STEP_TOKENS) * self.shape.token_bytes

    def join(self, kv: torch.Tensor) -> None:
        """Take a row whose prompt is computed: (layers, 2, G, T, D)."""
        tokens, row = kv.shape[-2], len(self.lengths)
        self._grow(row + 1, tokens + 1)
        self._kv[:, :, row, :, :tokens] = kv
        self.lengths.append(tokens)

    def leave(self, row: int) -> None:
        """Let a row go; the last one takes its place."""
        last = len(self.lengths) - 1
        if row != last:
            tokens = self.lengths[last]
            self._kv[:, :, row, :, :tokens] = self._kv[:, :, last, :, :tokens]
            self.lengths[row] = tokens
        self.lengths.pop()
        if not self.lengths:
            self._kv = self.shape.empty(STEP_ROWS, STEP_TOKENS)

    def wipe(self, row: int) -> None:
        """Make a row's numbers zero: hidden ones count nothing only where they are finite."""
        self._kv[:, :, row] = 0

    def begin(self) -> torch.Tensor:
        """Make ready for a token of each row, and return their positions (B,)."""
        self._longest = max(self.lengths, default=0) + 1
        self._grow(len(self.lengths), self._longest)
        rows, groups, room = self._kv.shape[2:5]
        self._length_B = torch.tensor(self.lengths, dtype=torch.long)
        # Where each row's and group's next token lies in a layer's keys, and in its values.
        first_BG = torch.arange(rows * groups).view(rows, groups)[: len(self.lengths)] * room
        self._place_S = (first_BG + self._length_B[:, None]).flatten()
        return self._length_B

    def end(self) -> None:
        """Count the step's token in each row."""
        self.lengths = [length + 1 for length in self.lengths]

    def attend(self, layer: int, states: States, scale: float, window: int | None) -> torch.Tensor:
        """Store the step's keys and values, and let each row's query see its own tokens."""
        query_BH1D, key_BG1D, value_BG1D = states
        rows = len(self.lengths)
        keys, values = self._kv[layer, 0], self._kv[layer, 1]
        for kept, new_BG1D in ((keys, key_BG1D), (values, value_BG1D)):
            kept.view(-1, self.shape.channels).index_copy_(0, self._place_S, new_BG1D.reshape(-1, self.shape.channels))
        keys_BGLD, values_BGLD = keys[:rows, :, : self._longest], values[:rows, :, : self._longest]

        # The heads of a group share keys: they become several queries of one product.
        query = (query_BH1D * scale).reshape(rows, self.shape.groups, -1, self.shape.channels)
        scores_BGQL = query @ keys_BGLD.transpose(-1, -2)
        scores_BGQL.masked_fill_(self._hidden(window)[:, None, None], float("-inf"))
        output = scores_BGQL.softmax(dim=-1) @ values_BGLD
        return output.reshape(rows, 1, -1, self.shape.channels)

    def _hidden(self, window: int | None) -> torch.Tensor:
        places = torch.arange(self._longest)
        hidden_BL = places > self._length_B[:, None]
        return hidden_BL if window is None else hidden_BL | (places <= self._length_B[:, None] - window)

    def _grow(self, rows: int, tokens: int) -> None:
        if rows <= self._kv.shape[2] and tokens <= self._kv.shape[4]:
            return
        # As large as is needed now: one long answer must not leave all later ones its room.
        longest = max([tokens, *self.lengths])
        new = self.shape.empty(_steps(rows, STEP_ROWS), _steps(longest, STEP_TOKENS))
        kept, width = len(self.lengths), min(new.shape[4], self._kv.shape[4])
        new[:, :, :kept, :, :width] = self._kv[:, :, :kept, :, :width]
        self._kv = new


@dataclass
class Prompt:
    """One prompt's keys and values while it is computed, piece by piece."""

    kv: torch.Tensor
    """(layers, 2, G, T, D) for the whole prompt."""
    done: int = 0
    """Tokens computed, or taken from the prefix cache."""

    def attend(self, layer: int, states: States, scale: float, window: int | None) -> torch.Tensor:
        """Store the piece's keys and values, and let each token see those before it."""
        query_1HTD, key_1GTD, value_1GTD = states
        end = self.done + key_1GTD.shape[2]
        keys, values = self.kv[layer]
        keys[:, self.done : end], values[:, self.done : end] = key_1GTD[0], value_1GTD[0]
        distance_TL = torch.arange(self.done, end)[:, None] - torch.arange(end)
        sees_TL = distance_TL >= 0 if window is None else (distance_TL >= 0) & (distance_TL < window)
        output = scaled_dot_product_attention(
            query_1HTD, keys[None, :, :end], values[None, :, :end], attn_mask=sees_TL, scale=scale, enable_gqa=True
        )
        return output.transpose(1, 2)


@dataclass(frozen=True)
class Together:
    """One pass over a token of each row under way and, after them, the next tokens of some prompts."""

    pool: Pool
    pieces: list[tuple[Prompt, int]]
    """Prompts, and how many of their tokens."""

    def attend(self, layer: int, states: States, scale: float, window: int | None) -> torch.Tensor:
        """Let each part attend as it does alone; states are of a batch of one, (1, H or G, T, D)."""
        rows = len(self.pool.lengths)
        seen = []
        if rows:
            query_BH1D, key_BG1D, value_BG1D = (state[:, :, :rows].transpose(0, 2) for state in states)
            seen.append(self.pool.attend(layer, (query_BH1D, key_BG1D, value_BG1D), scale, window).transpose(0, 1))
        start = rows
        for prompt, tokens in self.pieces:
            query, key, value = (state[:, :, start : start + tokens] for state in states)
            seen.append(prompt.attend(layer, (query, key, value), scale, window))
            start += tokens
        return seen[0] if len(seen) == 1 else torch.cat(seen, dim=1)


def _steps(number: int, step: int) -> int:
    return -(-number // step) * step


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **given: Any,
) -> tuple[torch.Tensor, None]:
    scale = given.get("scaling")
    attending: Attending = given["attending"]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return attending.attend(module.layer_idx, (query, key, value), scale, given.get("sliding_window")), None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
