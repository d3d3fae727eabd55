"""The bodies of chat, completions and embeddings in OpenAI's words: what is taken, what is refused, what is told.

Values are strict (a number is no text); an unknown field is an error, since ignoring it could change the answer.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from luthier.jobs.service.refusal import Refusal

LONGEST_TALK = 2048
"""Messages of a request, as hosted."""
MOST_ANSWERS = 8
Text = Annotated[str, Field(max_length=4_000_000)]
Json = dict[str, Any]
Metadata = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]]


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Told(BaseModel):
    """A part of a reply."""

    model_config = ConfigDict(use_attribute_docstrings=True)


def refuse_undone(body: Body, undone: dict[str, tuple[object, ...]]) -> None:
    """Refuse by name each field that would change the answer and is not done; some of its values change nothing."""
    for name, harmless in undone.items():
        value = getattr(body, name)
        if value is not None and value not in harmless:
            message = f"Unsupported parameter: '{name}' is not supported with this model."
            raise Refusal(message, code="unsupported_parameter", param=name)


class ChatMessage(Body):
    """One turn; what is known beside its role and content is taken, the rest ignored as the hosted service does."""

    model_config = ConfigDict(extra="allow")

    role: Annotated[str, Field(max_length=64)]
    """developer, system, user, assistant or tool; `function` is the old form and refused."""
    content: Text | list[Json] | None = None
    """Text, or parts of it; images, sound and files are refused."""
    name: str | None = None
    tool_calls: list[Json] | None = None
    tool_call_id: str | None = None


class StreamOptions(Body):
    """What a stream tells besides."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    """Taken and without effect: nothing is padded."""


class JsonSchema(Body):
    """A schema that the answer is held to."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: str | None = None
    schema_: Json | None = Field(None, alias="schema")
    strict: bool | None = None
    """Taken and without effect: the answer always fits."""


class FreeText(Body):
    """No constraint."""

    type: Literal["text"]


class AnyJson(Body):
    """The answer is one JSON object."""

    type: Literal["json_object"]


class SchemaJson(Body):
    """The answer fits a JSON schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[FreeText | AnyJson | SchemaJson, Field(discriminator="type")]


class Sampled(Body):
    """What chat and completions both say about choosing tokens."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] | None = None
    # The list first, since the first alternative is the one an error names.
    stop: Annotated[list[str], Field(max_length=4)] | str | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    """By token id of the model that answers."""
    user: str | None = None
    """Taken and not kept."""


class ChatRequest(Sampled):
    """POST /chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=LONGEST_TALK)
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Json], Field(max_length=128)] | None = None
    """Functions; they reach the model's template just as they are written."""
    tool_choice: str | Json | None = None
    """auto, required, {type: function, function: {name}}, or none, which leaves the tools out of the prompt."""
    parallel_tool_calls: bool | None = None
    store: bool | None = None
    """Taken; nothing is stored."""
    metadata: Metadata | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: Json | None = None
    prediction: Json | None = None
    """Taken and without effect: it could only save time."""
    modalities: list[str] | None = None
    """Only ["text"]."""
    reasoning_effort: str | None = None
    """Only "none"."""
    verbosity: str | None = None
    """Only "medium"."""
    audio: Json | None = None
    """Refused, as all below."""
    functions: list[Json] | None = None
    function_call: str | Json | None = None
    moderation: Json | None = None
    web_search_options: Json | None = None


CHAT_UNDONE: dict[str, tuple[object, ...]] = {
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "audio": (),
    "functions": (),
    "function_call": ("none",),
    "moderation": (),
    "web_search_options": (),
}


class CompletionRequest(Sampled):
    """POST /completions: raw text is continued, no template is put around it."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=LONGEST_TALK)] | list[int] | list[list[int]]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """16 if absent, as hosted."""
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: Annotated[int, Field(ge=1, le=20)] | None = None
    """Only equal to `n`."""
    suffix: str | None = None
    """Refused."""


class EmbeddingRequest(Body):
    """POST /embeddings."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=LONGEST_TALK)] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """The first numbers of the vector, brought to length one again."""
    user: str | None = None


class TopChance(Told):
    """A token that could have been said."""

    token: str
    bytes: list[int] | None
    logprob: float


class TokenChance(TopChance):
    """A token that was said, and what could have been in its place."""

    top_logprobs: list[TopChance]


class ChatLogprobs(Told):
    """The tokens of an answer."""

    content: list[TokenChance] | None
    refusal: None = None


class CalledFunction(Told):
    """A function to call."""

    name: str
    arguments: str


class ToolCall(Told):
    """A call that the client is asked to make."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(Told):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    refusal: None = None
    annotations: list[Json] = []
    tool_calls: list[ToolCall] | None = None


class ChatChoice(Told):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class PromptDetails(Told):
    """Of the prompt's tokens."""

    cached_tokens: int
    audio_tokens: int = 0


class AnswerDetails(Told):
    """Of the answer's tokens."""

    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(Told):
    """What was computed."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: AnswerDetails = AnswerDetails()


class ChatCompletion(Told):
    """The reply of /chat/completions; `model` names what really ran."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    service_tier: Literal["default"] = "default"
    system_fingerprint: str


class OldLogprobs(Told):
    """The tokens of an answer, in the old form."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class CompletionChoice(Told):
    """One continuation."""

    text: str
    index: int
    logprobs: OldLogprobs | None
    finish_reason: Literal["stop", "length"]


class Completion(Told):
    """The reply of /completions."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    system_fingerprint: str


class Embedding(Told):
    """One text's vector: numbers, or base64 of them as little-endian 32-bit floats."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Told):
    """What was computed."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(Told):
    """The reply of /embeddings."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
