"""Artifacts: what each room hands on. `artifact.json`, written last and atomically, means "done"."""

from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from luthier.core.certificate import Certificate
from luthier.core.errors import CheckpointError
from luthier.core.files import write_atomic

FILE = "artifact.json"
VectorKind = Literal["match", "triplet", "likeness"]
"""What rows tell of texts whose vectors are trained: pairs that belong together, those with a text that does not, or
how alike two texts are."""
HeadKind = Literal["label", "labels", "score", "spans", "quote", VectorKind]
"""What a head says of a text: one label of a set, any of them, a number, the places of its entities, the piece of it
that answers a question, or a vector."""
AnswerKind = Literal["closed", "json", "free", "accepted", "pair", "text", HeadKind]
"""A closed set of answers, JSON objects, free answers to a prompt, one of several accepted answers to a question about
a text, pairs of a better and a worse answer, text without a prompt, or what a head says."""
HEAD_KINDS: tuple[AnswerKind, ...] = get_args(HeadKind)
VECTOR_KINDS: tuple[AnswerKind, ...] = get_args(VectorKind)

Family = Literal["trivial", "prompt", "few-shot", "retrieve", "head", "tune", "tune + retrieve"]
"""Kinds of alternatives that advice compares, from the cheapest to keep to the dearest."""


class Artifact(BaseModel):
    """The result of a room; `inputs_sha256` names what it was made from."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    inputs_sha256: str = ""
    """Hash of the room's spec and of the artifact it was given: the same hash means skip."""
    seconds: float = 0.0
    """How long the room worked."""

    def write(self, folder: Path) -> Self:
        """Write `artifact.json` into the room's folder, last of all, and return the artifact."""
        write_atomic(folder / FILE, self.model_dump_json(indent=2) + "\n")
        return self

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return the finished artifact of a folder, or None where the room did not finish."""
        path = folder / FILE
        if not path.exists():
            return None
        try:
            return cls.model_validate_json(path.read_text())
        except ValidationError as error:
            hint = "delete this folder and run again"
            raise CheckpointError(
                "this result cannot be read", where={"file": path}, why=str(error), hint=hint
            ) from error


class Base(Artifact):
    """A base model on this disk, safe to load."""

    name: str
    """What the recipe called it."""
    folder: Path
    """Folder with config.json, safetensors and tokenizer files."""
    weights_sha256: str
    """Hash over the weight files."""
    licence: str | None = None
    """The licence its model card names, where there is one."""
    kind: Literal["causal", "encoder", "encoder-decoder"] = "causal"
    """Whether it goes on with a text, only reads it, or reads one text and writes another."""

    @property
    def title(self) -> str:
        """The name without this machine's folders, for what is shared with others."""
        return Path(self.name).name if Path(self.name).is_absolute() else self.name


class Prepared(Artifact):
    """Tokenised splits: `<folder>/examples/{train,validation,test}.arrow`."""

    folder: Path
    base: Base
    format: str
    """The recognised data format."""
    rows: dict[str, int]
    """Rows per split."""
    target_tokens: int
    """Tokens of the training split that carry loss."""
    total_tokens: int
    """Tokens of the training split."""
    longest: int
    """Tokens of the longest row kept, over all splits."""
    labels: tuple[str, ...] = ()
    """The closed set of answers, sorted; empty where answers are open."""
    answer_kind: AnswerKind
    data_sha256: str
    """Hash over the source files' content."""
    context_tokens: int
    """The most tokens a row may have."""

    def split(self, name: Literal["train", "validation", "test"]) -> Path:
        """Return the Arrow file of one split."""
        return self.folder / "examples" / f"{name}.arrow"


class Trained(Artifact):
    """A tuned model: adapter or full weights under `<folder>/weights`."""

    folder: Path
    prepared: Prepared
    method: str = "sft"
    """Name of the method spec."""
    adapter: str
    """Name of the adapter spec: `lora`, `full`, …"""
    steps: int
    """Optimiser updates done."""
    best_step: int
    """The step whose weights these are."""
    train_loss: float
    """Mean loss per target token, or per pair, over the last steps."""
    validation_loss: float | None = None
    """Validation loss of these weights; None without a validation split."""
    base_validation_loss: float | None = None
    """Validation loss on the same rows before the first step: the untuned model's where the adapter begins as that."""
    trainable_parameters: int
    total_parameters: int
    tokens_per_second: float
    """Real tokens (no pads, no repeats) trained per second of wall time."""
    stopped: Literal["finished", "early"] = "finished"
    weights_sha256: str = ""
    """Hash over the saved weights."""
    again: tuple[Path, ...] = ()
    """Folders of the weights that the same training gave with other seeds."""

    @property
    def weights(self) -> Path:
        """The folder of the best weights."""
        return self.folder / "weights"


class Estimate(BaseModel):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


class SystemResult(BaseModel):
    """How one system (zero-shot, few-shot, tuned, …) answered the test split."""

    name: str
    metrics: dict[str, Estimate]
    prompt_tokens: float
    """Mean prompt tokens per request."""
    latency_s: float
    """Mean seconds per answer, batched."""
    stops_share: float
    """Share of answers that ended by themselves."""
    confusion: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Counts by true label, then by answered label; `(other)` for answers outside the set."""


class Comparison(BaseModel):
    """A paired test of system a against system b on the same rows."""

    a: str
    b: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    verdict: str
    """In words, with "no detectable difference" where that is what it is."""
    won: int = 0
    lost: int = 0
    seeds: int = 1
    """Over how many trainings of system a; their spread is in the interval and in p."""


class Slice(BaseModel):
    """How the tuned system did on a part of the test rows."""

    by: str
    """What the rows are parted by: `label`, `answer length` or `language` (a guess)."""
    name: str
    metric: str
    estimate: Estimate
    weakest: bool = False
    """Whether this is the worst slice whose whole interval is worse than the value over all rows."""


class HarnessResult(BaseModel):
    """One metric of one of lm-eval's tasks, of the untuned and the tuned model."""

    task: str
    metric: str
    rows: int
    higher_is_better: bool | None
    """None where the task does not say."""
    untuned: float
    untuned_error: float | None
    """The library's standard error; None where it gives none."""
    tuned: float
    tuned_error: float | None
    comparison: Comparison | None = None
    """The paired test on the task's rows; None where its rows cannot be paired."""


class Calibration(BaseModel):
    """How far a head's probabilities are from how often it is right, before and after they were made milder."""

    temperature: float
    """What the logits are divided by; above 1 the head was too sure of itself."""
    rows: int
    """Validation rows that it was fitted on."""
    ece_before: Estimate
    """Expected calibration error on the test rows, of the head as trained."""
    ece_after: Estimate
    """The same with the temperature."""


class Report(Artifact):
    """The evaluation: systems, paired comparisons, and where the readable reports lie."""

    folder: Path
    systems: list[SystemResult]
    comparisons: list[Comparison]
    primary_metric: str
    test_rows: int
    conclusion: str
    """One or two sentences: was it worth it?"""
    slices: list[Slice] = Field(default_factory=list)
    """The tuned system's primary metric on parts of the test rows."""
    harness: list[HarnessResult] = Field(default_factory=list)
    """What the tasks of lm-eval that were asked for measured."""
    calibration: Calibration | None = None
    """How sure a head is of its labels; None where nothing has a probability."""


class Exported(Artifact):
    """A deployable model folder with its manifest of hashes."""

    folder: Path
    format: str
    """The form's title: its name, with what differs from the usual."""
    files: dict[str, str]
    """SHA-256 by file name."""
    bytes: int
    certificates: dict[str, Certificate] = Field(default_factory=dict)
    """Does it say the same? By adapter where it has several, else one, `model`."""


class Exports(Artifact):
    """Everything the export room wrote for one run."""

    folder: Path
    exported: list[Exported]
