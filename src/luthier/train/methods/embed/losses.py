"""The losses of vectors, each as sentence-transformers has it: (columns of vectors, numbers) to the mean over rows.

A column is (R, D): the vectors of the rows' first texts, of their second ones, and of their third ones.
"""

from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import cosine_similarity, cross_entropy, mse_loss, normalize, relu

from luthier.train.methods.embed.spec import MARGINS, TEMPERATURE, EmbedSpec

Columns = Sequence[torch.Tensor]
Price = Callable[[Columns, torch.Tensor], torch.Tensor]
LEAST_DISTANCE = 1e-6
"""The root of 0 has no gradient."""


def in_batch_negatives(columns: Columns, numbers: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """Return the cross-entropy of finding each text's own match among all of the batch (van den Oord et al. 2018).

    Source: MultipleNegativesRankingLoss (Henderson et al. 2017); negatives of triplets are among the candidates.
    """
    scores = likeness(columns) / temperature
    return cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def likeness(columns: Columns) -> torch.Tensor:
    """Return the cosine of each first text and all others of the batch, (R, R) or (R, 2R); its own match at (i, i)."""
    return normalize(columns[0], dim=-1) @ normalize(torch.cat(list(columns[1:])), dim=-1).T


def contrastive(columns: Columns, numbers: torch.Tensor, *, margin: float) -> torch.Tensor:
    """Return half of the squared cosine distance of what is alike, and of what others lack to the margin.

    Source: ContrastiveLoss (Hadsell et al. 2006).
    """
    distance = 1 - cosine_similarity(columns[0], columns[1])
    return (0.5 * (numbers * distance.square() + (1 - numbers) * relu(margin - distance).square())).mean()


def cosine(columns: Columns, numbers: torch.Tensor) -> torch.Tensor:
    """Return the squared error of the cosine. Source: CosineSimilarityLoss."""
    return mse_loss(cosine_similarity(columns[0], columns[1]), numbers)


def triplet(columns: Columns, numbers: torch.Tensor, *, margin: float) -> torch.Tensor:
    """Return what the negative lacks to be farther than the positive by the margin. Source: TripletLoss."""
    anchor, positive, negative = columns
    return relu(_distance(anchor, positive) - _distance(anchor, negative) + margin).mean()


def price_of(spec: EmbedSpec) -> Price:
    """Return the named loss of a recipe with its options."""
    if spec.loss == "in_batch_negatives":
        temperature = spec.temperature or TEMPERATURE
        return lambda columns, numbers: in_batch_negatives(columns, numbers, temperature=temperature)
    if spec.loss == "cosine":
        return cosine
    loss = {"contrastive": contrastive, "triplet": triplet}[str(spec.loss)]
    margin = spec.margin or MARGINS[str(spec.loss)]
    return lambda columns, numbers: loss(columns, numbers, margin=margin)


def cut_to(columns: Columns, dimensions: int) -> list[torch.Tensor]:
    """Return the vectors' first numbers, at length 1. Source: MatryoshkaLoss (arXiv:2205.13147)."""
    return [normalize(column[:, :dimensions], dim=-1) for column in columns]


def _distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).square().sum(-1).clamp(min=LEAST_DISTANCE**2).sqrt()
