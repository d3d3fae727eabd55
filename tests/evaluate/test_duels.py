"""Rows won and lost: the clearest first, in the metric's own direction."""

from luthier.evaluate.duels import SHOWN, duels, shortened
from luthier.evaluate.sample import Sample, SampleAnswer


def sample(row: int, tuned: float | None, base: float | None, metric: str = "rouge_l") -> Sample:
    pairs = (("tuned", tuned), ("zero-shot", base))
    answers = {name: SampleAnswer(text=name, scores={metric: score}) for name, score in pairs if score is not None}
    return Sample(row=f"a.jsonl:{row}", prompt="p", reference="r", answers=answers)


def rows(samples: list[Sample]) -> list[str]:
    return [one.row.removeprefix("a.jsonl:") for one in samples]


def test_the_clearest_come_first_and_ties_are_neither() -> None:
    found = duels(
        [sample(1, 0.5, 0.4), sample(2, 0.9, 0.1), sample(3, 0.2, 0.2), sample(4, 0.0, 1.0)], "zero-shot", "rouge_l"
    )
    assert (rows(found.won), rows(found.lost)) == (["2", "1"], ["4"])
    assert (found.won_count, found.lost_count) == (2, 1)


def test_all_are_counted_and_few_are_shown() -> None:
    found = duels([sample(row, 1.0, 0.0) for row in range(50)], "zero-shot", "rouge_l")
    assert found.won_count == 50
    assert rows(found.won) == [str(row) for row in range(SHOWN)]


def test_lower_perplexity_wins() -> None:
    found = duels([sample(1, 2.0, 9.0, "perplexity"), sample(2, 5.0, 4.0, "perplexity")], "zero-shot", "perplexity")
    assert (rows(found.won), rows(found.lost)) == (["1"], ["2"])


def test_rows_that_one_side_did_not_answer_or_score_are_no_duel() -> None:
    found = duels([sample(1, 1.0, None), sample(2, None, 1.0), sample(3, 1.0, 0.0, "bleu")], "zero-shot", "rouge_l")
    assert (found.won_count, found.lost_count) == (0, 0)


def test_short_texts_are_left_alone() -> None:
    assert shortened("a" * 3000) == "a" * 3000
    assert len(shortened("a" * 3001)) < 3100
