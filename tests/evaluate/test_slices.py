"""Slices: which rows are in them, which one is called the weakest, and what the reports say."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.evaluate import made
from tests.evaluate.test_room import MAKERS, Heard, trained

from luthier.core.artifacts import Estimate, Report, Slice
from luthier.evaluate import room
from luthier.evaluate.render import write_reports
from luthier.evaluate.slices import shown_slices, slices, weakest_text
from luthier.evaluate.slices_language import language_of
from luthier.evaluate.spec import EvaluateSpec
from luthier.examples.example import Example, Message
from luthier.score.scores import Scores, mean_scores


@dataclass
class Exam:
    """As much of an exam as slices look at."""

    examples: list[Example]
    labels: tuple[str, ...] = ()
    asked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.asked = self.asked or list(range(len(self.examples)))

    @property
    def rows(self) -> list[Example]:
        return self.examples

    def reference(self, row: int) -> str:
        return self.examples[row].answer


def row(question: str, answer: str) -> Example:
    return Example(messages=(Message(role="user", content=question), Message(role="assistant", content=answer)))


def sliced(scores: Scores, exam: Exam) -> dict[str, Slice]:
    found = slices(scores, exam, resamples=200, seed=1)
    assert len({(one.by, one.name) for one in found}) == len(found)
    return {one.name: one for one in found}


def test_labels_and_the_weakest_of_them() -> None:
    exam = Exam([row("Why?", "ab"[n % 2]) for n in range(60)], labels=("a", "b"))
    found = sliced(mean_scores("accuracy", [float(n % 2 == 0 or n < 6) for n in range(60)]), exam)
    assert set(found) == {"a", "b"}
    assert (found["b"].estimate.n, found["b"].estimate.value, found["b"].weakest) == (30, 0.1, True)
    assert found["a"].estimate.value == 1 and not found["a"].weakest
    said = weakest_text(list(found.values()), 0.55)
    assert said.startswith("Weakest where label is “b”: accuracy 0.100 [") and said.endswith("against 0.550 over all.")


def test_no_slice_is_named_where_rows_are_few_or_alike() -> None:
    exam = Exam([row("Why?", "ab"[n == 0]) for n in range(60)], labels=("a", "b"))
    few = sliced(mean_scores("token_f1", [float(n > 0) for n in range(60)]), exam)
    assert few["b"].estimate.high == 0 and not few["b"].weakest
    alike = sliced(mean_scores("accuracy", [float(n % 3 > 0) for n in range(60)]), exam)
    assert not any(one.weakest for one in alike.values()) and weakest_text(list(alike.values()), 0.6) == ""


def test_lower_is_better_is_turned() -> None:
    exam = Exam([row("Why?", "x" * (1 + 40 * (n % 3))) for n in range(90)])
    losses = [2.0 if n % 3 == 2 else 1.0 for n in range(90)]
    found = sliced(mean_scores("perplexity", losses), exam)
    assert [one.weakest for one in found.values()] == [False, False, True]


def test_lengths_are_thirds_as_far_as_they_differ() -> None:
    exam = Exam([row("Why?", "x" * n) for n in range(1, 31)])
    found = sliced(mean_scores("rouge_l", [1.0] * 30), exam)
    assert {one.by for one in found.values()} == {"answer length"}
    sizes = {name: one.estimate.n for name, one in found.items()}
    assert sizes == {"up to 10 characters": 10, "11 to 20 characters": 10, "more than 20 characters": 10}
    assert sliced(mean_scores("rouge_l", [1.0] * 5), Exam([row("Why?", "same")] * 5)) == {}


def test_only_the_rows_that_were_asked_count() -> None:
    exam = Exam([row("Why?", "ab"[n % 2]) for n in range(8)], labels=("a", "b"), asked=[0, 1, 2, 5])
    found = sliced(mean_scores("accuracy", [1, 0, 1, 0]), exam)
    assert {name: (one.estimate.n, one.estimate.value) for name, one in found.items()} == {"a": (2, 1), "b": (2, 0)}


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of the country?", "English"),
        ("Wie heißt die Hauptstadt und wo ist sie?", "German"),
        ("Quelle est la capitale de la France?", "French"),
        ("¿Cuál es la capital del país y por qué?", "Spanish"),
        ("Hello", "Latin"),
        ("Какая столица?", "Cyrillic"),
        ("首都はどこですか", "Japanese"),
        ("首都在哪里", "Chinese"),
        ("수도는 어디입니까", "Korean"),
        ("ما هي العاصمة", "Arabic"),
        ("2 + 2 = ?", "no letters"),
        ("", "no letters"),
    ],
)
def test_languages_are_guessed(text: str, language: str) -> None:
    assert language_of(text) == language


def test_languages_part_the_rows() -> None:
    questions = ["What is the time of the day?", "Wie spät ist es und wo ist die Uhr?"]
    exam = Exam([row(questions[n % 2], "same") for n in range(40)])
    found = sliced(mean_scores("rouge_l", [float(n % 2 == 0) for n in range(40)]), exam)
    assert found["German"].weakest and found["English"].by == "language"


def test_a_report_shows_the_weakest_of_many() -> None:
    many = [
        Slice(by="label", name=str(n), metric="accuracy", estimate=Estimate(value=n / 50, low=0, high=1, n=9))
        for n in range(50)
    ]
    assert [one.name for one in shown_slices(many[::-1])] == [str(n) for n in range(19, -1, -1)]


def test_reports_name_the_weakest(tmp_path: Path) -> None:
    exam = Exam([row("Why?", reference) for reference in made.references()], labels=made.LABELS)
    right = [float(reference != "neutral") for reference in made.references()]
    report = made.report(tmp_path)
    report = report.model_copy(update={"slices": slices(mean_scores("accuracy", right), exam, resamples=200, seed=1)})
    write_reports(report, made.samples(), made.CURVES, tmp_path)
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text()
        assert "Parts of the test rows" in text and "Weakest where label is “neutral”: accuracy 0.000" in text


@pytest.mark.parametrize("kind", MAKERS)
def test_the_room_parts_every_kind_of_rows(tmp_path: Path, kind: str) -> None:
    (tmp_path / "run" / "data").mkdir(parents=True)
    given = trained(tmp_path / "run", kind)
    spec = EvaluateSpec(resamples=200, max_new_tokens=2, baselines=())
    report = room.run(spec, given, tmp_path / "evaluate", Heard(), seed=7)
    assert all(one.metric == report.primary_metric for one in report.slices)
    assert Report.read(tmp_path / "evaluate") == report
    assert (kind == "closed") == any(one.by == "label" for one in report.slices)
