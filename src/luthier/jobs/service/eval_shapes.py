"""What an eval and its runs are asked to be, in OpenAI's words: where rows come from and what is asked of a model."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from luthier.score.graders.spec import Message

Json = dict[str, Any]
Tokens = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class Shape(BaseModel):
    """A part of a request; what is unknown is refused, since leaving it out could change the result."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def _not_stored(value: object) -> object:
    """Refuse, by name, what would need answers that this service does not keep."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind in ("logs", "stored_completions", "responses"):
        raise ValueError(f"'{kind}' is not supported: this server keeps no answers; send the rows or a file of them")
    return value


class CustomConfig(Shape):
    """Rows of one's own, described by a schema."""

    type: Literal["custom"]
    item_schema: Json
    """JSON schema of a row: types, required, properties, items, enum and additionalProperties are checked."""
    include_sample_schema: bool = False
    """Whether criteria use `sample`."""


Config = Annotated[CustomConfig, BeforeValidator(_not_stored)]


class Row(Shape):
    """One row, with an answer where one is at hand."""

    item: Json
    sample: Json | None = None


class FileContent(Shape):
    """Rows within the request."""

    type: Literal["file_content"]
    content: list[Row]


class FileId(Shape):
    """Rows in an uploaded file, one JSON object `{"item": …}` a line."""

    type: Literal["file_id"]
    id: str


Source = Annotated[Annotated[FileContent | FileId, Field(discriminator="type")], BeforeValidator(_not_stored)]


class TemplateMessages(Shape):
    """Messages that name variables of the row."""

    type: Literal["template"]
    template: Annotated[list[Message], Field(min_length=1, max_length=1000)]


class ItemReference(Shape):
    """A variable of the row that holds a list of messages."""

    type: Literal["item_reference"]
    item_reference: str


InputMessages = Annotated[TemplateMessages | ItemReference, Field(discriminator="type")]


class TextFormat(Shape):
    """Free text."""

    type: Literal["text"]


class ObjectFormat(Shape):
    """One JSON object."""

    type: Literal["json_object"]


class NamedSchema(Shape):
    """A JSON schema and its name."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: str | None = None
    schema_: Json | None = Field(None, alias="schema")
    strict: bool | None = None
    """Taken and without effect: the answer always fits."""


class SchemaFormat(Shape):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class FlatSchemaFormat(NamedSchema):
    """JSON that fits a schema, as the Responses API writes it."""

    type: Literal["json_schema"]


class Function(Shape):
    """A function that may be called."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None
    """Taken and without effect."""


class Tool(Shape):
    """A function, as chat writes it."""

    type: Literal["function"]
    function: Function


class FlatTool(Function):
    """A function, as the Responses API writes it."""

    type: Literal["function"]


class Sampling(Shape):
    """How the model that is judged chooses its tokens."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Seed | None = None
    max_completion_tokens: Tokens | None = None
    """2,048 where it is not given."""
    reasoning_effort: Literal["none"] | None = None
    """Only "none": models that reason at will are not served."""

    def options(self) -> Json:
        """Return what is set, as options of a chat request."""
        given = self.model_dump(exclude_none=True, by_alias=True)
        return {name: given[name] for name in given if name in Sampling.model_fields}


class ChatSampling(Sampling):
    """The same, with what chat completions know besides."""

    response_format: Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None

    def options(self) -> Json:
        """Return what is set, as options of a chat request."""
        return self.model_dump(exclude_none=True, by_alias=True)


class TextOptions(Shape):
    """The form of the answer."""

    format: Annotated[TextFormat | ObjectFormat | FlatSchemaFormat, Field(discriminator="type")] | None = None


class ResponsesSampling(Sampling):
    """The same, with what responses know besides."""

    text: TextOptions | None = None
    tools: Annotated[list[FlatTool], Field(max_length=128)] | None = None

    def options(self) -> Json:
        """Return what is set, as options of a chat request."""
        options = super().options()
        for tool in self.tools or ():
            function = tool.model_dump(exclude_none=True, exclude={"type"})
            options.setdefault("tools", []).append({"type": "function", "function": function})
        if self.text and self.text.format:
            form = self.text.format.model_dump(exclude_none=True, by_alias=True)
            kind = form.pop("type")
            options["response_format"] = {"type": kind} | ({"json_schema": form} if form else {})
        return options


class JsonlSource(Shape):
    """Rows as they are, with the answers that they hold."""

    type: Literal["jsonl"]
    source: Source


class CompletionsSource(Shape):
    """Rows that a model answers first, in the words of chat completions."""

    type: Literal["completions"]
    source: Source
    input_messages: InputMessages | None = None
    model: str | None = None
    sampling_params: ChatSampling | None = None


class ResponsesSource(Shape):
    """Rows that a model answers first, in the words of responses."""

    type: Literal["responses"]
    source: Source
    input_messages: InputMessages | None = None
    model: str | None = None
    sampling_params: ResponsesSampling | None = None


DataSource = Annotated[JsonlSource | CompletionsSource | ResponsesSource, Field(discriminator="type")]
