"""The evaluation room on tiny models: what it writes, and that an untrained adapter makes no difference."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from luthier.core.artifacts import AnswerKind, Base, Prepared, Report, Trained
from luthier.core.errors import LuthierError
from luthier.core.events import Event
from luthier.data.opened import encode_row
from luthier.evaluate import room
from luthier.evaluate.exam import set_exam
from luthier.evaluate.sample import Sample
from luthier.evaluate.spec import EvaluateSpec
from luthier.examples.example import Example, Message, Segment
from luthier.examples.store import Split, write_split
from luthier.model.adapter import load_tuned
from luthier.model.adapters.full import FullSpec
from luthier.model.adapters.lora import LoraSpec
from luthier.model.load import load_model, load_tokenizer
from luthier.model.scoring import row_losses
from luthier.model.template import Template
from luthier.model.tiny import save_tiny, tiny_model
from luthier.score.intervals import wilson

LABELS = ("blue", "green", "red")
SPEC = EvaluateSpec(resamples=200, max_new_tokens=6)
CLOSED = [
    "zero-shot",
    "zero-shot (label-scored)",
    "few-shot",
    "few-shot (label-scored)",
    "tuned",
    "tuned (label-scored)",
]


def closed_row(number: int) -> Example:
    question = Message(role="user", content=f"Colour of thing {number}?")
    answer = Message(role="assistant", content=LABELS[number % 3])
    return Example(messages=(question, answer), file="colours.jsonl", row=number)


def free_row(number: int) -> Example:
    segments = (Segment(text=f"Number {number} is ", target=False), Segment(text=f"the {number}th number", target=True))
    return Example(segments=segments, file="numbers.jsonl", row=number)


def json_row(number: int) -> Example:
    question = Message(role="user", content=f"Give {number} as JSON.")
    answer = Message(role="assistant", content=json.dumps({"value": number}))
    return Example(messages=(question, answer), file="json.jsonl", row=number)


def text_row(number: int) -> Example:
    return Example(segments=(Segment(text=f"Once there was {number}.", target=True),), file="text.jsonl", row=number)


def pair_row(number: int) -> Example:
    question = Message(role="user", content=f"Number {number}?")
    better, worse = (Message(role="assistant", content=word) for word in (f"the {number}th", f"nothing {number}"))
    return Example(messages=(question, better), rejected=worse, file="pairs.jsonl", row=number)


MAKERS = {"closed": closed_row, "free": free_row, "json": json_row, "pair": pair_row, "text": text_row}


def prepared(
    folder: Path, kind: AnswerKind, *, family: str = "llama", sizes: tuple[int, int, int] = (12, 4, 9)
) -> Prepared:
    base = Base(name="tiny", folder=save_tiny(folder / "base", family), weights_sha256="w")
    template = Template(load_tokenizer(base.folder))
    (folder / "examples").mkdir()
    counts, start = {}, 1
    for name, count in zip(("train", "validation", "test"), sizes, strict=True):
        examples = [MAKERS[kind](number) for number in range(start, start + count)]
        pairs = ((encode_row(example, template.encode), example) for example in examples)
        counts[name], start = write_split(folder / "examples" / f"{name}.arrow", pairs), start + count
    return Prepared(
        folder=folder,
        base=base,
        format="chat",
        rows=counts,
        target_tokens=1,
        total_tokens=1,
        longest=99,
        labels=LABELS if kind == "closed" else (),
        answer_kind=kind,
        data_sha256="d",
        context_tokens=99,
    )


def trained(folder: Path, kind: AnswerKind, *, adapter: str = "lora", **changes) -> Trained:
    """An adapter as it starts, or full weights of another seed, in place of a training."""
    given = prepared(folder / "data", kind, **changes)
    if adapter == "lora":
        spec = LoraSpec(r=4).build()
        spec.save(spec.attach(load_model(given.base.folder), seed=0), folder / "weights", base_model="tiny")
    else:
        FullSpec().build().save(tiny_model("llama", seed=5), folder / "weights", base_model="tiny")
    return Trained(
        folder=folder,
        prepared=given,
        adapter=adapter,
        steps=0,
        best_step=0,
        train_loss=1.0,
        trainable_parameters=1,
        total_parameters=2,
        tokens_per_second=1.0,
    )


class Heard(list):
    def __call__(self, event: Event) -> None:
        self.append(event)

    def messages(self, kind: str) -> list[str]:
        return [event.message for event in self if event.kind == kind]


def read_samples(out: Path) -> list[Sample]:
    return [Sample.model_validate_json(line) for line in (out / "samples.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("closed")
    given, heard = trained(folder, "closed"), Heard()
    return given, room.run(SPEC, given, folder / "evaluate", heard, seed=7), heard


def test_an_untrained_adapter_makes_no_detectable_difference(closed) -> None:
    _, report, _ = closed
    assert [system.name for system in report.systems] == CLOSED
    by_name = {system.name: system for system in report.systems}
    assert by_name["tuned"].metrics["perplexity"] == by_name["zero-shot"].metrics["perplexity"]
    perplexity = next(one for one in report.comparisons if one.metric == "perplexity")
    assert (perplexity.b, perplexity.difference) == ("zero-shot", 0.0)
    assert perplexity.verdict.startswith("no detectable difference")
    assert "No detectable difference" in report.conclusion


def test_the_report_has_the_promised_shape(closed) -> None:
    _, report, _ = closed
    written = json.loads((report.folder / "report.json").read_text())
    assert set(written["systems"][0]["metrics"]["accuracy"]) == {"value", "low", "high", "n"}
    assert set(written["comparisons"][0]) >= {"a", "b", "metric", "difference", "low", "high", "p", "verdict"}
    assert list(dict.fromkeys(one["metric"] for one in written["comparisons"])) == [
        *("accuracy", "macro_f1", "format_followed", "perplexity")
    ]
    assert [one["b"] for one in written["comparisons"] if one["metric"] == "accuracy"] == [
        n for n in CLOSED if n != "tuned"
    ]
    assert Report.read(report.folder) == report
    assert (report.folder / "report.md").exists() and (report.folder / "report.html").exists()


def test_systems_say_how_they_answered(closed) -> None:
    _, report, _ = closed
    for system in report.systems:
        assert system.latency_s > 0 and 0 <= system.stops_share <= 1
        assert sum(sum(row.values()) for row in system.confusion.values()) == 9
        assert ("format_followed" in system.metrics) == (not system.name.endswith("(label-scored)"))
    prompt_tokens = {system.name: system.prompt_tokens for system in report.systems}
    assert prompt_tokens["few-shot"] > prompt_tokens["zero-shot"] > prompt_tokens["tuned"]


def test_samples_hold_every_answer(closed) -> None:
    given, report, _ = closed
    samples = read_samples(report.folder)
    assert [sample.row for sample in samples] == [f"colours.jsonl:{number}" for number in range(17, 26)]
    assert [sample.reference for sample in samples] == [LABELS[number % 3] for number in range(17, 26)]
    first = samples[0]
    assert list(first.answers) == CLOSED and "<|im_start|>user\nColour of thing 17?" in first.prompt
    assert first.answers["tuned (label-scored)"].label in LABELS
    assert set(first.answers["tuned"].scores) == {"accuracy", "macro_f1", "format_followed", "perplexity"}


def test_progress_reaches_its_total(closed) -> None:
    _, _, heard = closed
    progress = [event.data for event in heard if event.kind == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"] == 9 * 6 + 9 * 2
    assert {one["system"] for one in progress} == set(CLOSED)
    assert heard.messages("note") == [
        "few-shot: 3 examples of the training split before each question (6 were wanted; no more fit or exist)"
    ]


def test_the_same_seed_gives_the_same_report(closed, tmp_path: Path) -> None:
    given, report, _ = closed
    again = room.run(SPEC, given, tmp_path, Heard(), seed=7)
    assert read_samples(tmp_path) == read_samples(report.folder)
    times = {"latency_s"}
    assert [s.model_dump(exclude=times) for s in again.systems] == [s.model_dump(exclude=times) for s in report.systems]
    assert again.comparisons == report.comparisons


def test_trainings_with_other_seeds_are_in_every_comparison(closed, tmp_path: Path) -> None:
    given, report, _ = closed
    several = given.model_copy(update={"again": (given.weights, given.weights)})
    found = room.run(SPEC, several, tmp_path, Heard(), seed=7)
    names = {system.name for system in found.systems}
    assert {"tuned", "tuned (seed 8)", "tuned (seed 9)"} <= names
    assert found.comparisons and {one.seeds for one in found.comparisons} == {3}
    assert {(one.a, one.b, one.metric) for one in found.comparisons} == {
        (one.a, one.b, one.metric) for one in report.comparisons
    }
    for one, before in zip(found.comparisons, report.comparisons, strict=True):
        # Three times the same weights: the same difference, and no spread of seeds.
        assert one.difference == pytest.approx(before.difference) and one.low <= one.difference <= one.high
    assert "over 3 trainings" in found.conclusion


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_pairs_are_judged_by_the_likelier_answer(adapter: str, tmp_path: Path) -> None:
    given, heard = trained(tmp_path, "pair", adapter=adapter), Heard()
    report = room.run(SPEC, given, tmp_path / "evaluate", heard, seed=7)
    assert [system.name for system in report.systems] == ["zero-shot", "tuned"]
    assert report.primary_metric == "preference_accuracy"
    split = Split(given.prepared.split("test"))
    models = {"zero-shot": load_model(given.prepared.base.folder)}
    models["tuned"] = load_tuned(given.prepared.base.folder, given.weights)
    right = {}
    for system in report.systems:
        losses = [row_losses(models[system.name], split.encoded(row).answers) for row in range(9)]
        right[system.name] = [better.total < worse.total for better, worse in losses]
        found = system.metrics["preference_accuracy"]
        assert (found.value, found.n) == (sum(right[system.name]) / 9, 9)
        assert (found.low, found.high) == pytest.approx(wilson(sum(right[system.name]), 9))
    compared = report.comparisons[0]
    assert (compared.metric, compared.b) == ("preference_accuracy", "zero-shot")
    assert compared.won == sum(t and not z for t, z in zip(right["tuned"], right["zero-shot"], strict=True))
    assert "preference accuracy" in report.conclusion

    # What a system finds likelier stands in the samples as its answer.
    for place, sample in enumerate(read_samples(tmp_path / "evaluate")):
        number = 17 + place
        likelier = f"the {number}th" if right["tuned"][place] else f"nothing {number}"
        assert (sample.reference, sample.answers["tuned"].text) == (f"the {number}th", likelier)
    text = (tmp_path / "evaluate" / "report.md").read_text()
    assert "| system | preference accuracy | perplexity |" in text
    progress = [event.data for event in heard if event.kind == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"] == 9 * 2 * 2


def test_free_answers(tmp_path: Path) -> None:
    report = room.run(SPEC, trained(tmp_path, "free"), tmp_path / "evaluate", Heard(), seed=7)
    assert [system.name for system in report.systems] == ["zero-shot", "few-shot", "tuned"]
    assert report.primary_metric == "rouge_l"
    samples = read_samples(tmp_path / "evaluate")
    assert all(sample.answers["tuned"].text == sample.answers["zero-shot"].text for sample in samples)
    assert report.comparisons[0].difference == 0.0


@pytest.mark.parametrize("told", [True, False])
def test_json_is_asked_for_where_the_prompts_do_not(
    told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asking(number: int) -> Example:
        text = f"Give {number} as JSON, as `value`." if told else f"Give {number}."
        answer = Message(role="assistant", content=json.dumps({"value": number}))
        return Example(messages=(Message(role="user", content=text), answer), file="json.jsonl", row=number)

    monkeypatch.setitem(MAKERS, "json", asking)
    report = room.run(SPEC, trained(tmp_path, "json"), tmp_path / "evaluate", Heard(), seed=7)
    assert report.primary_metric == "field_f1"
    tokens = {system.name: system.prompt_tokens for system in report.systems}
    assert (tokens["zero-shot"] == tokens["tuned"]) is told


def test_text_without_prompts_is_only_priced(tmp_path: Path) -> None:
    heard = Heard()
    report = room.run(SPEC, trained(tmp_path, "text"), tmp_path / "evaluate", heard, seed=7)
    assert [system.name for system in report.systems] == ["zero-shot", "tuned"]
    assert all(set(system.metrics) == {"perplexity"} for system in report.systems)
    assert report.primary_metric == "perplexity"
    assert [event.data["done"] for event in heard if event.kind == "progress"][-1] == 18


def test_full_weights_differ_from_the_base(tmp_path: Path) -> None:
    report = room.run(SPEC, trained(tmp_path, "closed", adapter="full"), tmp_path / "evaluate", Heard(), seed=7)
    perplexity = {system.name: system.metrics.get("perplexity") for system in report.systems}
    assert perplexity["tuned"].value != perplexity["zero-shot"].value


def test_an_empty_test_split_falls_back_on_validation_and_says_so(tmp_path: Path) -> None:
    heard = Heard()
    given = trained(tmp_path, "closed", sizes=(12, 5, 0))
    report = room.run(SPEC, given, tmp_path / "evaluate", heard, seed=7)
    assert report.test_rows == 5
    assert "the test split is empty" in heard.messages("warning")[0]


def test_nothing_held_out_is_an_error(tmp_path: Path) -> None:
    given = trained(tmp_path, "closed", sizes=(12, 0, 0))
    with pytest.raises(LuthierError, match="no held-out rows"):
        room.run(SPEC, given, tmp_path / "evaluate", Heard(), seed=7)
    assert not (tmp_path / "evaluate").exists()


def test_rows_are_drawn_by_the_seed(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"max_rows": 4, "baselines": ()})
    given = trained(tmp_path, "closed")
    drawn = []
    for place, seed in enumerate((7, 7, 8)):
        report = room.run(spec, given, tmp_path / f"evaluate-{place}", Heard(), seed=seed)
        assert report.test_rows == 4 and [system.name for system in report.systems] == CLOSED[-2:]
        drawn.append([sample.row for sample in read_samples(report.folder)])
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == sorted(drawn[0])


def test_metrics_that_the_recipe_names_are_used_first_one_first(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"metrics": ("chrf", "exact_match"), "baselines": ("zero-shot",)})
    report = room.run(spec, trained(tmp_path, "free"), tmp_path / "evaluate", Heard(), seed=7)
    assert report.primary_metric == "chrf"
    assert set(report.systems[-1].metrics) == {"chrf", "exact_match", "perplexity"}


def test_questions_that_fill_the_context_stand_alone(tmp_path: Path) -> None:
    heard = Heard()
    spec = SPEC.model_copy(update={"max_new_tokens": 440})
    report = room.run(spec, trained(tmp_path, "closed", family="gpt2"), tmp_path / "evaluate", heard, seed=7)
    prompt_tokens = {system.name: system.prompt_tokens for system in report.systems}
    assert prompt_tokens["few-shot"] == prompt_tokens["zero-shot"] == prompt_tokens["tuned"]
    assert "zero-shot: 9 questions stand alone, since more does not fit into the context" in heard.messages("note")


def spaced_row(number: int) -> Example:
    segments = (Segment(text=f"Thing {number}:", target=False), Segment(text=f" {LABELS[number % 3]}", target=True))
    return Example(segments=segments, file="spaced.jsonl", row=number)


def test_white_space_around_answers_is_no_part_of_the_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MAKERS, "closed", spaced_row)
    given = trained(tmp_path, "closed", sizes=(12, 0, 3))
    spaced = given.prepared.model_copy(update={"labels": tuple(f" {label}" for label in LABELS)})
    exam = set_exam(SPEC, spaced, Heard(), seed=7)
    assert exam.labels == LABELS
    text = exam.template.tokenizer.decode
    assert {label: text(ids) for label, ids in exam.label_ids.items()} == {x: f" {x}<|im_end|>" for x in LABELS}
    right = [exam.label_ids[example.answer.strip()] for example in exam.questions]
    assert right == [row.ids[row.prompt_tokens :] for row in exam.rows]


def test_an_answer_in_bare_text_ends_at_a_blank_line_for_everyone(tmp_path: Path) -> None:
    exam = set_exam(SPEC, prepared(tmp_path, "free"), Heard(), seed=7)
    assert [exam.read(text) for text in ("one\n\nNumber 2 is", "\n\n one", "a\nb", "")] == ["one", "one", "a\nb", ""]
    turns = set_exam(SPEC, prepared(tmp_path / "json", "json"), Heard(), seed=7)
    assert turns.read("one\n\ntwo") == "one\n\ntwo"
    texts = tuple(Segment(text=text, target=target) for text, target in (("Q\n\n", False), ("one\n\ntwo", True)))
    long = replace(exam, examples=[Example(segments=texts)], asked=[0])
    assert long.read("one\n\ntwo") == "one\n\ntwo"


def test_a_call_of_a_tool_is_compared_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def calling(number: int) -> Example:
        call = {"type": "function", "function": {"name": "colour", "arguments": {"of": number}}}
        asked = Message(role="user", content=f"Colour of thing {number}?")
        return Example(messages=(asked, Message(role="assistant", tool_calls=(call,))), file="calls.jsonl", row=number)

    monkeypatch.setitem(MAKERS, "free", calling)
    exam = set_exam(SPEC, prepared(tmp_path, "free", sizes=(4, 0, 1)), Heard(), seed=7)
    assert exam.references == ['<tool_call>{"name": "colour", "arguments": {"of": 5}}</tool_call>']


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_handful_of_rows_is_measured_and_decides_nothing(rows: int, kind: AnswerKind, tmp_path: Path) -> None:
    given = trained(tmp_path, kind, adapter="full", sizes=(6, 0, rows))
    report = room.run(SPEC, given, tmp_path / "evaluate", Heard(), seed=7)
    assert report.test_rows == rows
    assert {one.verdict.partition(":")[0] for one in report.comparisons} == {"no detectable difference"}
    assert report.conclusion.endswith("Fewer than 6 rows cannot show any difference, however large.")


def test_rows_without_a_prompt_are_priced_but_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MAKERS, "free", lambda number: text_row(number) if number % 3 == 0 else free_row(number))
    heard = Heard()
    report = room.run(SPEC, trained(tmp_path, "free"), tmp_path / "evaluate", heard, seed=7)
    metrics = report.systems[-1].metrics
    assert (metrics["perplexity"].n, metrics["rouge_l"].n) == (9, 6)
    assert "3 test rows have no prompt: only their perplexity is measured" in heard.messages("note")
    greeting = Example(messages=(Message(role="assistant", content="Hello."),), file="text.jsonl", row=99)
    monkeypatch.setitem(MAKERS, "free", lambda number: free_row(number) if number % 3 else greeting)
    exam = set_exam(SPEC, prepared(tmp_path / "greetings", "free"), Heard(), seed=7)
    assert (len(exam.rows), len(exam.asked)) == (9, 6)
    unasked = [sample for sample in read_samples(tmp_path / "evaluate") if sample.row.startswith("text.jsonl")]
    assert len(unasked) == 3
    assert all(set(sample.answers["tuned"].scores) == {"perplexity"} for sample in unasked)
