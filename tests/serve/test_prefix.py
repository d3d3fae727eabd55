"""A prompt's beginning is found where it was seen, for the same adapter and no other, within the budget."""

import random
from pathlib import Path

import torch

from luthier.serve.prefix import BLOCK, Prefixes, Whose

A, B, BASE = ("one", Path("a"), 1), ("one", Path("b"), 2), ("one", None, 0)


def kv_of(adapter: Whose, ids: tuple[int, ...]) -> torch.Tensor:
    """Return numbers that tell each token, its adapter and all before it apart."""
    sums = [float(hash((str(adapter), ids[: end + 1])) % 1_000_003) for end in range(len(ids))]
    return torch.tensor(sums).view(1, 1, 1, -1, 1).expand(1, 2, 1, -1, 2).contiguous()


def ids_of(length: int, seed: int = 0) -> tuple[int, ...]:
    draw = random.Random(seed)
    return tuple(draw.randrange(50) for _ in range(length))


def keep(prefixes: Prefixes, adapter: Whose, ids: tuple[int, ...]) -> None:
    prefixes.keep(adapter, ids, kv_of(adapter, ids))


def test_the_longest_common_beginning_is_found_in_blocks() -> None:
    prefixes, ids = Prefixes(10**6), ids_of(100)
    keep(prefixes, BASE, ids)
    for common in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 100):
        asked = ids[:common] + ids_of(40, seed=9)
        tokens, kv = prefixes.find(BASE, asked)
        assert tokens == min(common, 100) // BLOCK * BLOCK
        assert (kv is None) if not tokens else torch.equal(kv, kv_of(BASE, asked[:tokens]))


def test_the_last_token_is_always_left_to_compute() -> None:
    prefixes, ids = Prefixes(10**6), ids_of(2 * BLOCK)
    keep(prefixes, BASE, ids)
    assert prefixes.find(BASE, ids)[0] == BLOCK
    assert prefixes.find(BASE, (*ids, 1))[0] == 2 * BLOCK


def test_another_adapter_finds_nothing() -> None:
    prefixes, ids = Prefixes(10**6), ids_of(64)
    keep(prefixes, A, ids)
    assert prefixes.find(B, ids) == (0, None) and prefixes.find(BASE, ids) == (0, None)
    keep(prefixes, BASE, ids)
    tokens, kv = prefixes.find(BASE, ids)
    assert tokens == 48 and torch.equal(kv, kv_of(BASE, ids[:48]))


def test_the_same_folder_read_again_finds_nothing() -> None:
    prefixes, ids = Prefixes(10**6), ids_of(64)
    keep(prefixes, A, ids)
    assert prefixes.find(("one", A[1], 7), ids) == (0, None) and prefixes.find(A, ids)[0] == 48


def test_forgetting_an_adapter_leaves_the_others() -> None:
    prefixes, ids = Prefixes(10**6), ids_of(64)
    for adapter in (A, B, BASE):
        keep(prefixes, adapter, ids)
    prefixes.forget(A[1])
    assert [prefixes.find(adapter, ids)[0] for adapter in (A, B, BASE)] == [0, 48, 48]


def test_a_collision_of_hashes_is_no_match() -> None:
    # -1 and -2 have one hash in CPython.
    ids = tuple([-1] * 40)
    prefixes = Prefixes(10**6)
    keep(prefixes, BASE, ids)
    assert hash(-1) == hash(-2) and prefixes.find(BASE, tuple([-2] * 40)) == (0, None)
    assert prefixes.find(BASE, ids)[0] == 32


def test_the_least_recently_used_make_room() -> None:
    one = kv_of(BASE, ids_of(32)).nbytes
    prefixes, prompts = Prefixes(2 * one), [ids_of(32, seed) for seed in range(3)]
    keep(prefixes, BASE, prompts[0])
    keep(prefixes, BASE, prompts[1])
    assert prefixes.find(BASE, prompts[0])[0]
    keep(prefixes, BASE, prompts[2])
    assert [bool(prefixes.find(BASE, ids)[0]) for ids in prompts] == [True, False, True]


def test_what_is_too_large_or_too_short_or_not_wanted_is_not_kept() -> None:
    ids = ids_of(32)
    for limit, length in ((10, 32), (0, 32), (10**6, BLOCK - 1)):
        prefixes = Prefixes(limit)
        keep(prefixes, BASE, ids[:length])
        assert prefixes.find(BASE, ids) == (0, None)


def test_anything_found_is_what_was_kept() -> None:
    draw, found = random.Random(6), 0
    limit = 4 * kv_of(BASE, ids_of(64)).nbytes
    prefixes = Prefixes(limit)
    beginnings = [ids_of(length, seed) for seed, length in enumerate((16, 32, 40, 64))]
    for number in range(400):
        adapter = draw.choice([BASE, A, B])
        ids = draw.choice(beginnings) + ids_of(draw.randrange(1, 30), seed=draw.randrange(8))
        tokens, kv = prefixes.find(adapter, ids)
        assert tokens < len(ids) and (not tokens or torch.equal(kv, kv_of(adapter, ids[:tokens])))
        found += bool(tokens)
        keep(prefixes, adapter, ids)
        if number % 50 == 49:
            prefixes.forget(B[1])
        assert sum(seen.kv.nbytes for seen in prefixes._seen.values()) == prefixes._bytes <= limit
    assert found > 100
    for adapter in (A, B):
        prefixes.forget(adapter[1])
    assert all(seen.whose == BASE for seen in prefixes._by_block.values())


def test_what_one_owner_asked_is_not_known_to_another() -> None:
    prefixes, ids = Prefixes(10**6), ids_of(48)
    keep(prefixes, BASE, ids)
    assert prefixes.find(("two", None, 0), ids) == (0, None)
