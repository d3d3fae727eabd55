"""How far an export's next-token chances lie from the tuned model's."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from luthier.core.certificate import Divergence

Chances = np.ndarray[Any, np.dtype[np.float32]]
TINY = 1e-30
ROUNDING = 3e-5
"""How far from 1 a sum of chances in fp32 was seen to be."""


def divergence(source: Sequence[Chances], export: Sequence[Chances]) -> Divergence:
    """Return the Kullback-Leibler divergence KL(source ‖ export) over all positions, in nats per token.

    Both hold natural-log probabilities, (positions, vocabulary) each. Where the export's are NaN, which is what an
    engine leaves that tells its likeliest tokens only, they count as one event: by the log-sum inequality the result
    is then a lower bound. A vocabulary that is padded on one side is compared as far as both go.
    """
    found: list[float] = []
    is_partial = False
    for ours, theirs in zip(source, export, strict=True):
        width = min(ours.shape[-1], theirs.shape[-1])
        for p_log, q_log in zip(ours[:, :width], theirs[:, :width], strict=True):
            known = ~np.isnan(q_log)
            is_partial = is_partial or not known.all()
            q_log = q_log.astype(np.float64)
            found.append(_one(_normal(p_log.astype(np.float64)), _normal(q_log) if known.all() else q_log, known))
    mean, worst = float(np.mean(found)), float(np.max(found))
    return Divergence(mean=mean, worst=worst, positions=len(found), is_partial=is_partial)


def _normal(logs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Let the chances sum to 1 in fp64: what fp32 leaves of a sum would count at first order."""
    highest = logs.max()
    return logs - highest - np.log(np.exp(logs - highest).sum())


def _one(p_log: np.ndarray[Any, Any], q_log: np.ndarray[Any, Any], known: np.ndarray[Any, Any]) -> float:
    p = np.exp(p_log)
    # What can be in no answer (probability 0) adds nothing, however the export sees it.
    terms = p[known] * (p_log[known] - np.maximum(q_log[known], np.log(TINY)))
    total = float(terms[p[known] > 0].sum())
    if not known.all():
        rest_p, rest_q = float(1 - p[known].sum()), float(1 - np.exp(q_log[known]).sum())
        # A rest within what fp32 leaves of a sum over a vocabulary says nothing.
        if min(rest_p, rest_q) > ROUNDING:
            total += rest_p * float(np.log(rest_p / rest_q))
    return max(total, 0.0)
