"""Tokens are drawn as often as they should be, and log-probabilities are those of the model."""

import math
from collections import Counter

import pytest
import torch

from luthier.serve.request import Sampling
from luthier.serve.sampling import Chooser, likeliest

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])
DRAWS = 6_000


def sampling(**changes) -> Sampling:
    return Sampling(**({"max_tokens": 1, "seed": 11} | changes))


def shares(asked: Sampling, allowed: torch.Tensor | None = None) -> torch.Tensor:
    """Return how often each token is drawn, where nothing was said before."""
    chooser, counts = Chooser(asked), Counter()
    for _ in range(DRAWS):
        counts[chooser.choose(LOGITS, allowed)] += 1
        chooser.said.clear()
    return torch.tensor([counts[token] / DRAWS for token in range(len(LOGITS))])


def check_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    # Five standard errors of a share: one test in a million fails by chance, and the seed is fixed.
    errors = (expected * (1 - expected) / DRAWS).sqrt()
    assert bool(((found - expected).abs() <= 5 * errors + 1e-9).all()), (found, expected)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_draws_follow_the_temperature(temperature: float) -> None:
    check_close(shares(sampling(temperature=temperature)), (LOGITS / temperature).softmax(dim=-1))


@pytest.mark.parametrize(("top_p", "kept"), [(0.5, 1), (0.62, 2), (0.8, 3), (0.95, 4), (0.0001, 1)])
def test_top_p_keeps_the_smallest_set_that_has_it(top_p: float, kept: int) -> None:
    chances = LOGITS.softmax(dim=-1)
    assert chances[:kept].sum() >= top_p > chances[: kept - 1].sum()
    expected = torch.where(torch.arange(len(LOGITS)) < kept, chances, 0.0)
    check_close(shares(sampling(top_p=top_p)), expected / expected.sum())


def test_temperature_comes_before_top_p() -> None:
    found = shares(sampling(temperature=0.25, top_p=0.9))
    check_close(found, torch.tensor([1.0, 0, 0, 0, 0, 0]))
    assert (LOGITS / 0.25).softmax(dim=-1)[0] > 0.9


def test_what_is_not_allowed_is_never_drawn() -> None:
    allowed = torch.tensor([False, True, False, True, False, True])
    check_close(shares(sampling(), allowed), LOGITS.masked_fill(~allowed, float("-inf")).softmax(dim=-1))
    assert Chooser(sampling(temperature=0)).choose(LOGITS, allowed) == 1


def test_bias_moves_the_shares_and_bans() -> None:
    bias = {0: -100.0, 4: 3.0, 999: 100.0}
    expected = LOGITS + torch.tensor([-100.0, 0, 0, 0, 3.0, 0])
    check_close(shares(sampling(logit_bias=bias)), expected.softmax(dim=-1))
    assert Chooser(sampling(temperature=0, logit_bias={5: 100.0})).choose(LOGITS) == 5


def test_penalties_count_what_was_said() -> None:
    presence = Chooser(sampling(temperature=0, presence_penalty=1.25))
    assert [presence.choose(LOGITS) for _ in range(4)] == [0, 1, 0, 0]
    frequency = Chooser(sampling(temperature=0, frequency_penalty=0.6))
    assert [frequency.choose(LOGITS) for _ in range(5)] == [0, 0, 1, 0, 2]
    rewarded = Chooser(sampling(temperature=0, presence_penalty=-1.0))
    assert [rewarded.choose(LOGITS) for _ in range(3)] == [0, 0, 0]


def test_logits_are_left_as_they_are() -> None:
    before = LOGITS.clone()
    chooser = Chooser(sampling(presence_penalty=1, frequency_penalty=1, logit_bias={1: 5.0}, top_p=0.5))
    for _ in range(3):
        chooser.choose(LOGITS, torch.ones(len(LOGITS), dtype=torch.bool))
    assert torch.equal(LOGITS, before)


def test_a_seed_repeats_itself_and_no_seed_does_not() -> None:
    def draws(seed: int | None) -> list[int]:
        chooser = Chooser(sampling(seed=seed, temperature=2.0))
        return [chooser.choose(LOGITS) for _ in range(50)]

    assert draws(7) == draws(7) != draws(8)
    assert draws(None) != draws(None)


def test_only_the_unchanged_likeliest_token_is_plain() -> None:
    assert Chooser(sampling(temperature=0)).is_plain
    for change in ({"temperature": 0.5}, {"logprobs": 0}, {"logit_bias": {1: 1.0}}, {"presence_penalty": 0.1}):
        assert not Chooser(sampling(**({"temperature": 0} | change))).is_plain


def test_likeliest_are_natural_logs_in_order() -> None:
    chosen, others = likeliest(LOGITS, 3, 4)
    expected = torch.log_softmax(LOGITS, dim=-1).tolist()
    assert chosen == pytest.approx(expected[3])
    assert [token for token, _ in others] == [0, 1, 2, 3]
    assert [chance for _, chance in others] == pytest.approx(expected[:4])
    assert sum(math.exp(chance) for _, chance in likeliest(LOGITS, 0, 6)[1]) == pytest.approx(1)
    assert likeliest(LOGITS, 0, 0)[1] == []
