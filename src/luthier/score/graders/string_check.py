"""Comparing two texts: equal, not equal, containing."""

from luthier.score.graders.spec import StringCheck


def check(spec: StringCheck, given: str, reference: str) -> float:
    """Return 1 where the two texts are as asked, else 0."""
    match spec.operation:
        case "eq":
            return float(given == reference)
        case "ne":
            return float(given != reference)
        case "like":
            return float(reference in given)
        case "ilike":
            return float(reference.casefold() in given.casefold())
