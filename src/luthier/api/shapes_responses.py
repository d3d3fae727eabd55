"""The bodies of /responses in OpenAI's words: what is taken, what is refused by name, what is told."""

from typing import Annotated, Any, Literal

from pydantic import Field

from luthier.api.shapes_talk import (
    LONGEST_TALK,
    AnyJson,
    Body,
    FreeText,
    Json,
    JsonSchema,
    Metadata,
    ResponseFormat,
    Sampled,
    SchemaJson,
    StreamOptions,
    Text,
    Told,
)


class SchemaText(Body):
    """The answer fits a JSON schema."""

    type: Literal["json_schema"]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    schema_: Json = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None
    """Taken and without effect: the answer always fits."""


class TextOptions(Body):
    """The form of the answer."""

    format: Annotated[FreeText | AnyJson | SchemaText, Field(discriminator="type")] | None = None
    verbosity: Literal["medium"] | None = None

    def form(self) -> ResponseFormat | None:
        """Return the form in the words of chat."""
        if not isinstance(self.format, SchemaText):
            return self.format
        schema = JsonSchema(name=self.format.name, schema=self.format.schema_)
        return SchemaJson(type="json_schema", json_schema=schema)


class ResponseRequest(Body):
    """POST /responses."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    input: Text | Annotated[list[Json], Field(min_length=1, max_length=LONGEST_TALK)]
    """A question, or messages, function calls and their outputs."""
    instructions: Text | None = None
    """A system message before the input."""
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    text: TextOptions | None = None
    tools: Annotated[list[Json], Field(max_length=128)] | None = None
    """Functions only."""
    tool_choice: str | Json | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    include: list[str] | None = None
    """Only "message.output_text.logprobs" and "reasoning.encrypted_content", of which there is none."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    metadata: Metadata | None = None
    user: str | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: Json | None = None
    max_tool_calls: int | None = None
    """Taken and without effect: it bounds built-in tools, and there are none."""
    truncation: str | None = None
    """Only "disabled"."""
    store: bool | None = None
    """Refused if true, as all below if set: no response is kept."""
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: str | Json | None = None
    prompt: Json | None = None
    reasoning: Json | None = None
    context_management: list[Json] | None = None
    moderation: Json | None = None
    background_options: Json | None = None
    access_programs: Json | None = None
    image: Json | None = None

    def sampled(self) -> Sampled:
        """Return how tokens are chosen, in the words of chat."""
        return Sampled(model=self.model, temperature=self.temperature, top_p=self.top_p)


RESPONSES_UNDONE: dict[str, tuple[object, ...]] = {
    "truncation": ("disabled",),
    "store": (False,),
    "background": (False,),
    "previous_response_id": (),
    "conversation": (),
    "prompt": (),
    "reasoning": ({}, {"effort": None}, {"effort": "none"}),
    "context_management": ([],),
    "moderation": (),
    "background_options": (),
    "access_programs": (),
    "image": (),
}


class InputDetails(Told):
    """Of the prompt's tokens."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(Told):
    """Of the answer's tokens."""

    reasoning_tokens: int = 0


class ResponseUsage(Told):
    """What was computed."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class IncompleteDetails(Told):
    """Why an answer is not whole."""

    reason: Literal["max_output_tokens"]


class ResponseProblem(Told):
    """Why an answer failed."""

    code: Literal["server_error"]
    message: str


class Response(Told):
    """The reply of /responses; `model` names what really ran."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    background: Literal[False]
    error: ResponseProblem | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[Json]
    """Items: messages with `output_text` parts, and function calls."""
    parallel_tool_calls: bool
    previous_response_id: None
    service_tier: Literal["default"]
    store: Literal[False]
    temperature: float
    text: dict[str, Any]
    tool_choice: str | Json
    tools: list[Json]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"]
    usage: ResponseUsage | None
    user: str | None
