"""Rooms that do nothing but hand on artifacts, and a recipe for them."""

from dataclasses import dataclass, field
from pathlib import Path

from luthier.advise.facts import DataFacts, Facts, MachineFacts, ModelFacts
from luthier.core.artifacts import Artifact, Base, Estimate, Exported, Exports, Prepared, Report, SystemResult, Trained
from luthier.core.events import Emit, Event
from luthier.jobs.rooms import Rooms
from luthier.recipe import Recipe

FACTS = Facts(
    DataFacts(
        rows=800,
        has_validation=True,
        format="labelled",
        answer_kind="closed",
        labels=3,
        mean_tokens=60.0,
        longest_tokens=210,
        longest_answer_tokens=4,
        complete=True,
    ),
    ModelFacts(
        parameters=135_000_000,
        context_tokens=2048,
        linear_layers=("down_proj", "q_proj"),
        layers=30,
        hidden=576,
        activation_bytes_per_token=1.6e6,
    ),
    MachineFacts(
        cores=2,
        available_bytes=8_000_000_000,
        accelerator=None,
        fast_dtype="fp32",
        fast_dtype_because="bf16 is no faster here",
        has_compiler=True,
    ),
)


@dataclass
class FakeRooms:
    """Records which doors were opened; `fails` names a room that breaks once."""

    opened: list[str] = field(default_factory=list)
    fails: str | None = None
    error: BaseException = field(default_factory=KeyboardInterrupt)
    weights: str = "w1"
    rows: dict[str, int] = field(default_factory=lambda: {"train": 800, "validation": 100, "test": 100})

    def rooms(self) -> Rooms:
        return Rooms(
            base=self.base,
            facts=self.facts,
            data=self.data,
            train=self.train,
            evaluate=self.evaluate,
            export=self.export,
        )

    def enter(self, name: str) -> None:
        self.opened.append(name)
        if self.fails == name:
            self.fails = None
            raise self.error

    def base(self, name: str, emit: Emit) -> Base:
        return Base(name=name, folder=Path("base"), weights_sha256=self.weights, licence="apache-2.0")

    def facts(self, recipe: Recipe, base: Base, emit: Emit) -> Facts:
        self.enter("facts")
        return FACTS

    def data(self, spec: object, given: Base, out: Path, emit: Emit, *, seed: int) -> Prepared:
        self.enter("data")
        (out / "rows").write_text("kept")
        return self.done(
            out,
            Prepared(
                folder=out,
                base=given,
                format="labelled",
                rows=self.rows,
                target_tokens=4000,
                total_tokens=48_000,
                longest=210,
                labels=("a", "b"),
                answer_kind="closed",
                data_sha256="d",
                context_tokens=2048,
            ),
        )

    def train(self, spec: object, given: Prepared, out: Path, emit: Emit, *, seed: int) -> Trained:
        (out / "checkpoint").write_text("kept")
        emit(Event(room="train", kind="metrics", data={"step": 1, "steps": 2, "loss": 1.5, "tokens_per_second": 99.0}))
        self.enter("train")
        return self.done(
            out,
            Trained(
                folder=out,
                prepared=given,
                adapter="lora",
                steps=2,
                best_step=2,
                train_loss=0.5,
                trainable_parameters=10,
                total_parameters=1000,
                tokens_per_second=99.0,
            ),
        )

    def evaluate(self, spec: object, given: Trained, out: Path, emit: Emit, *, seed: int) -> Report:
        self.enter("evaluate")
        accuracy = Estimate(value=0.8, low=0.7, high=0.9, n=100)
        system = SystemResult(
            name="tuned", metrics={"accuracy": accuracy}, prompt_tokens=50, latency_s=0.1, stops_share=1.0
        )
        return self.done(
            out,
            Report(
                folder=out,
                systems=[system],
                comparisons=[],
                primary_metric="accuracy",
                test_rows=100,
                conclusion="The tuned model is better.",
            ),
        )

    def export(self, spec: tuple[str, ...], given: Trained, out: Path, emit: Emit, *, card: str = "") -> Exports:
        self.enter("export")
        assert "The tuned model is better." in card
        exported = [Exported(folder=out / name, format=name, files={}, bytes=1) for name in spec]
        return self.done(out, Exports(folder=out, exported=exported))

    def done(self, out: Path, artifact: Artifact) -> Artifact:
        return artifact.write(out)


def recipe_file(folder: Path, text: str = "data: rows.jsonl\n", name: str = "tones.yaml") -> Path:
    """Write a recipe with one row of data beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text('{"text": "a", "label": "b"}\n')
    (folder / name).write_text(text)
    return folder / name
