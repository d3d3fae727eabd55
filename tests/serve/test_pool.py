"""Rows share a pool without seeing each other: each attends to its own tokens, wherever it lies."""

import random

import pytest
import torch
from tests.serve.made import MAKERS, plain

from luthier.serve.pool import FAMILIES, STEP_ROWS, STEP_TOKENS, Pool, Prompt, Shape

SHAPE = Shape(layers=2, groups=2, channels=4)
HEADS = 6
SCALE = 0.5


class Told:
    """One row as it should be: all its keys, values and queries, one token after the other."""

    def __init__(self, tokens: int) -> None:
        self.kv = torch.randn(SHAPE.layers, 2, SHAPE.groups, tokens, SHAPE.channels)

    def grow(self, kv: torch.Tensor) -> None:
        self.kv = torch.cat([self.kv, kv], dim=-2)

    def attended(self, layer: int, query_HD: torch.Tensor, window: int | None) -> torch.Tensor:
        keys, values = self.kv[layer].repeat_interleave(HEADS // SHAPE.groups, dim=1)
        if window is not None:
            keys, values = keys[:, -window:], values[:, -window:]
        scores = torch.einsum("hd,hld->hl", query_HD * SCALE, keys)
        return torch.einsum("hl,hld->hd", scores.softmax(dim=-1), values)


def step(pool: Pool, rows: list[Told], window: int | None) -> None:
    """Give each row one token more, and compare what its queries see."""
    positions = pool.begin()
    assert positions.tolist() == [row.kv.shape[-2] for row in rows]
    kv = torch.randn(SHAPE.layers, 2, len(rows), SHAPE.groups, 1, SHAPE.channels)
    for number, row in enumerate(rows):
        row.grow(kv[:, :, number])
    for layer in range(SHAPE.layers):
        query = torch.randn(len(rows), HEADS, 1, SHAPE.channels)
        found = pool.attend(layer, (query, kv[layer, 0], kv[layer, 1]), SCALE, window)
        expected = torch.stack([row.attended(layer, query[place, :, 0], window) for place, row in enumerate(rows)])
        assert torch.allclose(found[:, 0], expected, atol=1e-5)
    pool.end()


@pytest.mark.parametrize("window", [None, 1, 5])
def test_rows_join_and_leave_in_any_order(window) -> None:
    draw, pool, rows = random.Random(4), Pool(SHAPE), []
    for _ in range(150):
        if draw.random() < 0.35 and len(rows) < 3 * STEP_ROWS:
            rows.append(Told(draw.choice([1, 3, 40, STEP_TOKENS - 1, STEP_TOKENS + 3])))
            pool.join(rows[-1].kv)
        if rows and draw.random() < 0.3:
            place = draw.randrange(len(rows))
            pool.leave(place)
            rows[place] = rows[-1]
            rows.pop()
        if rows:
            step(pool, rows, window)
        assert pool.lengths == [row.kv.shape[-2] for row in rows]


def test_one_row_grows_past_the_room_there_was() -> None:
    pool, row = Pool(SHAPE), Told(STEP_TOKENS - 2)
    pool.join(row.kv)
    for _ in range(5):
        step(pool, [row], None)
    assert pool.lengths == [STEP_TOKENS + 3]


def test_numbers_that_are_none_stay_with_the_row_that_had_them() -> None:
    pool, rows = Pool(SHAPE), [Told(30), Told(4)]
    for row in (torch.full_like(rows[0].kv, float("nan")), rows[1].kv):
        pool.join(row)
    pool.wipe(0)
    pool.leave(0)
    step(pool, rows[1:], None)
    rows.append(Told(2))
    pool.join(rows[2].kv)
    step(pool, rows[1:], None)
    assert pool.lengths == [6, 3]


@pytest.mark.parametrize("window", [None, 1, 7])
def test_a_prompt_in_pieces_sees_what_it_sees_whole(window) -> None:
    tokens = 23
    kv, query = torch.randn(2, SHAPE.groups, tokens, SHAPE.channels), torch.randn(1, HEADS, tokens, SHAPE.channels)
    row, expected = Told(0), []
    for place in range(tokens):
        row.grow(kv[None, :, :, place : place + 1].expand(SHAPE.layers, -1, -1, -1, -1))
        expected.append(row.attended(1, query[0, :, place], window))
    for size in (1, 4, tokens):
        prompt, found = Prompt(SHAPE.empty(tokens)), []
        for first in range(0, tokens, size):
            piece = slice(first, first + size)
            states = (query[:, :, piece], kv[None, 0, :, piece], kv[None, 1, :, piece])
            found.append(prompt.attend(1, states, SCALE, window)[0])
            prompt.done += found[-1].shape[0]
        assert torch.allclose(torch.cat(found), torch.stack(expected), atol=1e-5)
        assert torch.equal(prompt.kv[1], kv)


def test_shapes_are_those_of_the_models(offline) -> None:
    families = set()
    for family in MAKERS:
        model = plain(offline(family).base)
        families.add(model.config.model_type)
        cache = model(input_ids=torch.tensor([[1, 2, 3]]), use_cache=True).past_key_values
        shape = Shape.of(model)
        assert len(cache.layers) == shape.layers
        assert cache.layers[0].keys.shape == (1, shape.groups, 3, shape.channels)
    assert families == set(FAMILIES), "a served kind of model is not tested"
