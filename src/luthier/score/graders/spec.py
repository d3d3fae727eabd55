"""What can be said about grading: the hosted service's graders, word for word."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from luthier.core.spec import Spec

SOURCE_BYTES = 256 * 1024
Name = Annotated[str, Field(min_length=1, max_length=256)]
Template = Annotated[str, Field(max_length=1_000_000)]
Metric = Literal[
    "cosine",
    "fuzzy_match",
    "bleu",
    "gleu",
    "meteor",
    "rouge_1",
    "rouge_2",
    "rouge_3",
    "rouge_4",
    "rouge_5",
    "rouge_l",
]


class TextBlock(Spec):
    """A piece of text within a message; pictures and sound are not understood here."""

    type: Literal["input_text", "output_text"]
    """Who wrote it makes no difference."""
    text: Template
    """The text, which may name variables in double braces."""


Content = Template | TextBlock | Annotated[list[Template | TextBlock], Field(max_length=1000)]


class Message(Spec):
    """One message to a model that grades or is graded."""

    role: Literal["user", "assistant", "system", "developer"]
    """Who speaks."""
    content: Content
    """What is said: text, or pieces of text."""
    type: Literal["message"] | None = None
    """Always `message`."""

    @property
    def text(self) -> str:
        """All its text."""
        pieces = self.content if isinstance(self.content, list) else [self.content]
        return "".join(piece if isinstance(piece, str) else piece.text for piece in pieces)


class StringCheck(Spec):
    """Compare two texts: 1 or 0."""

    type: Literal["string_check"]
    """Always `string_check`."""
    name: Name
    """The grader's name."""
    input: Template
    """The text that is graded; it may name variables in double braces."""
    reference: Template
    """The text that it is held against; it may name variables, too."""
    operation: Literal["eq", "ne", "like", "ilike"]
    """Equal, not equal, or containing the reference, with or without regard to case."""


class TextSimilarity(Spec):
    """Measure how near two texts are: 0 to 1."""

    type: Literal["text_similarity"]
    """Always `text_similarity`."""
    name: Name
    """The grader's name."""
    input: Template
    """The text that is graded; it may name variables in double braces."""
    reference: Template
    """The text that it is held against; it may name variables, too."""
    evaluation_metric: Metric
    """How nearness is measured."""


class PythonCode(Spec):
    """Run `grade(sample, item)` of a Python source, behind walls."""

    type: Literal["python"]
    """Always `python`."""
    name: Name
    """The grader's name."""
    source: Annotated[str, Field(max_length=SOURCE_BYTES)]
    """Python with a function `grade(sample, item)` that returns a number; 256 KB at most."""
    image_tag: str | None = None
    """The hosted service's set of packages; here it is what is installed beside Luthier, and errors say so."""

    @model_validator(mode="after")
    def _is_short(self) -> "PythonCode":
        if len(self.source.encode(errors="replace")) > SOURCE_BYTES:
            raise ValueError("the source is longer than 256 KB")
        return self


class GradingParams(Spec):
    """How a model that grades chooses its tokens."""

    seed: int | None = None
    """The same seed gives the same answer."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """0 takes the likeliest token; 0 where it is not given."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """The share of probability that is chosen from."""
    max_completions_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of the answer at most."""
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    """Taken, and without effect on models that do not reason."""


class ScoreModel(Spec):
    """Ask a served model for a number."""

    type: Literal["score_model"]
    """Always `score_model`."""
    name: Name
    """The grader's name."""
    model: str
    """The model that grades; one of those served here."""
    input: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    """What it is asked; texts may name variables in double braces."""
    range: tuple[float, float] | None = None
    """Least and greatest score, 0 and 1 where it is not given."""
    sampling_params: GradingParams | None = None
    """How it chooses its tokens."""

    @model_validator(mode="after")
    def _is_a_range(self) -> "ScoreModel":
        if self.range and self.range[0] >= self.range[1]:
            raise ValueError("the range must rise")
        return self


class LabelModel(Spec):
    """Ask a served model for one of some labels: 1 where it is a passing one, else 0."""

    type: Literal["label_model"]
    """Always `label_model`."""
    name: Name
    """The grader's name."""
    model: str
    """The model that grades; one of those served here."""
    input: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    """What it is asked; texts may name variables in double braces."""
    labels: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=1000)]
    """The labels it chooses from."""
    passing_labels: list[str]
    """Those of them that pass."""

    @model_validator(mode="after")
    def _labels_fit(self) -> "LabelModel":
        unknown = sorted(set(self.passing_labels) - set(self.labels))
        if unknown:
            raise ValueError(f"passing_labels must be among the labels, and {unknown[0]!r} is not")
        return self


Plain = StringCheck | TextSimilarity | PythonCode | ScoreModel | LabelModel
PlainGrader = Annotated[Plain, Field(discriminator="type")]


class Multi(Spec):
    """Combine the rewards of several graders by a formula."""

    type: Literal["multi"]
    """Always `multi`."""
    name: Name
    """The grader's name."""
    graders: Annotated[dict[Name, PlainGrader], Field(min_length=1, max_length=64)] | PlainGrader
    """Graders by the names that the formula uses; or, as the official client types it, one by its own name."""
    calculate_output: Annotated[str, Field(max_length=2000)]
    """The formula: names, numbers, + - * / ^, and min max abs floor ceil exp sqrt log."""


AnyGrader = Plain | Multi
Grader = Annotated[AnyGrader, Field(discriminator="type")]


class SimilarityCriterion(TextSimilarity):
    """A text similarity that passes or fails."""

    pass_threshold: float
    """The least score that passes."""


class PythonCriterion(PythonCode):
    """A python grader that passes or fails."""

    pass_threshold: float | None = None
    """The least score that passes; one half where it is not given."""


class ScoreCriterion(ScoreModel):
    """A score from a model that passes or fails."""

    pass_threshold: float | None = None
    """The least score that passes; the middle of the range where it is not given."""


AnyCriterion = StringCheck | SimilarityCriterion | PythonCriterion | ScoreCriterion | LabelModel
Criterion = Annotated[AnyCriterion, Field(discriminator="type")]
