"""Preference accuracy: how often a model finds the better one of two answers the likelier one."""

from collections.abc import Sequence

from luthier.score.scores import Scores, mean_scores


def preference_accuracy(better: Sequence[float], worse: Sequence[float]) -> Scores:
    """Return the share of pairs, 0 to 1, whose better answer has the lower loss; a tie is a miss.

    Losses are summed over an answer's target tokens, in nats, so they are log-probabilities with the sign turned.
    """
    return mean_scores("preference_accuracy", [float(a < b) for a, b in zip(better, worse, strict=True)])
