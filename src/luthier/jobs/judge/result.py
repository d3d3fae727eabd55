"""Result: who wins a contest by each judge, by all people together, and how far the judges agree."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from pydantic import BaseModel, ConfigDict

from luthier.core.artifacts import Estimate
from luthier.core.files import write_atomic
from luthier.jobs.judge.contest import Contest
from luthier.jobs.judge.ledger import CHOSEN, PEOPLE, JudgeKind, Judgment, all_judgments, standing
from luthier.score.agreement import Tally, cohen_kappa, majority
from luthier.score.verdict import SIGNIFICANCE, p_text

FILE = "result.json"
FEW_SHARE = 0.1
"""A model that leaves more of its pairs unjudged says little about the contest."""


class JudgeResult(BaseModel):
    """How one judge decided."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    judge: str
    kind: JudgeKind
    won: int
    """Pairs that the first system won."""
    lost: int
    tied: int
    skipped: int = 0
    unjudged: int = 0
    """Pairs a model could not judge; they count for nobody."""
    win_rate: Estimate | None
    """The share won of the pairs that have a winner; None without any."""
    p: float
    """Of the two-sided sign test."""
    inconsistent_share: float | None = None
    """The share of pairs on which a model said otherwise in the other order; they are ties."""
    verdict: str
    """In words."""


class Agreement(BaseModel):
    """How far two judges agree on the pairs that both judged."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    judges: tuple[str, str]
    rows: int
    agreed: float
    """The share of rows on which both said the same."""
    kappa: float | None
    """Cohen's kappa; None where it is not defined."""


class JudgingResult(BaseModel):
    """What has come of a contest so far."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    first: str
    second: str
    pairs: int
    """Pairs to be judged."""
    identical: int
    """Rows on which both systems said the same; they are not asked."""
    judges: list[JudgeResult]
    agreements: list[Agreement]
    warnings: list[str]


def result_of(contest: Contest) -> JudgingResult:
    """Count what all judges of a contest have said, and write it to `result.json`."""
    said = {judge: standing(judgments, contest) for judge, judgments in all_judgments(contest).items()}
    said = {judge: judgments for judge, judgments in said.items() if judgments}
    judges = [_judge(contest, judge, list(judgments.values())) for judge, judgments in said.items()]
    choices = {judge: _choices(judgments) for judge, judgments in said.items()}

    people = [one.judge for one in judges if one.kind == "person"]
    if len(people) > 1:
        choices[PEOPLE] = _together([choices[name] for name in people])
        judges.append(_counted(contest, PEOPLE, "person", list(choices[PEOPLE].values())))
    kinds = {one.judge: one.kind for one in judges}
    result = JudgingResult(
        first=contest.first,
        second=contest.second,
        pairs=len(contest.pairs),
        identical=contest.identical,
        judges=judges,
        agreements=[made for pair in _worth_comparing(kinds) if (made := _agreement(pair, choices))],
        warnings=[text for one in judges if (text := _warning(one))],
    )
    write_atomic(contest.folder / FILE, result.model_dump_json(indent=2) + "\n")
    return result


def _worth_comparing(kinds: Mapping[str, JudgeKind]) -> list[tuple[str, str]]:
    """Return the pairs of judges; all people together are only compared with models, since each is part of them."""
    pairs = combinations(kinds, 2)
    return [pair for pair in pairs if PEOPLE not in pair or "model" in (kinds[pair[0]], kinds[pair[1]])]


def _judge(contest: Contest, judge: str, judgments: Sequence[Judgment]) -> JudgeResult:
    counted = _counted(contest, judge, judgments[0].kind, [judgment.choice for judgment in judgments])
    orders = [judgment.consistent for judgment in judgments if judgment.consistent is not None]
    share = orders.count(False) / len(orders) if orders else None
    return counted.model_copy(update={"inconsistent_share": share})


def _counted(contest: Contest, judge: str, kind: JudgeKind, choices: Sequence[str]) -> JudgeResult:
    counts = Counter(choices)
    tally = Tally(counts["first"], counts["second"], counts["tie"])
    return JudgeResult(
        judge=judge,
        kind=kind,
        won=tally.won,
        lost=tally.lost,
        tied=tally.tied,
        skipped=counts["skip"],
        unjudged=counts["unjudged"],
        win_rate=tally.win_rate,
        p=tally.p,
        verdict=_verdict(tally, contest),
    )


def _verdict(tally: Tally, contest: Contest) -> str:
    rate = tally.win_rate
    if rate is None:
        return "no pair has a winner yet"
    # As with every comparison: the test and the interval must both say so.
    is_clear = tally.p < SIGNIFICANCE and not rate.low <= 0.5 <= rate.high
    preferred = contest.first if rate.value > 0.5 else contest.second
    said = f"{preferred} is preferred" if is_clear else "no detectable difference"
    numbers = f"{contest.first} wins {rate.value:.0%} [{rate.low:.0%}–{rate.high:.0%}]"
    return f"{said}: {numbers} of {rate.n} decided pairs, {tally.tied} ties, {p_text(tally.p)}"


def _choices(judgments: Mapping[str, Judgment]) -> dict[str, str]:
    return {key: judgment.choice for key, judgment in judgments.items() if judgment.choice in CHOSEN}


def _together(people: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the majority of each pair, and a tie where there is none."""
    keys = dict.fromkeys(key for choices in people for key in choices)
    return {key: majority([choices[key] for choices in people if key in choices], otherwise="tie") for key in keys}


def _agreement(pair: tuple[str, str], choices: Mapping[str, Mapping[str, str]]) -> Agreement | None:
    first, second = (choices[judge] for judge in pair)
    shared = [key for key in first if key in second]
    if not shared:
        return None
    of_first, of_second = [first[key] for key in shared], [second[key] for key in shared]
    agreed = sum(a == b for a, b in zip(of_first, of_second, strict=True)) / len(shared)
    return Agreement(judges=pair, rows=len(shared), agreed=agreed, kappa=cohen_kappa(of_first, of_second))


def _warning(one: JudgeResult) -> str | None:
    asked = one.won + one.lost + one.tied + one.unjudged
    if not one.unjudged or one.unjudged / asked <= FEW_SHARE:
        return None
    return f"{one.judge} left {one.unjudged} of {asked} pairs unjudged: what it says may not hold for all of them"
