"""The talk routes over the real engine and a tiny model: what is served is what the model says offline."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import openai
import pytest
from tests.api.fakes import OWNER, FakeService, app_with, client_of, served

from luthier.examples.example import Example, Message, Segment
from luthier.jobs.service.inference import Inference
from luthier.model.generate import generate
from luthier.model.load import load_model, load_tokenizer
from luthier.model.template import Template
from luthier.model.tiny import save_tiny
from luthier.serve.spec import ServeSpec

QUESTION = "the thing in the house?"
SCHEMA = {
    "type": "object",
    "properties": {"yes": {"type": "boolean"}, "n": {"enum": [1, 2]}},
    "required": ["yes", "n"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"), "llama")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[openai.OpenAI]:
    service = FakeService()
    service.names = {"tiny": ("tiny", str(folder), None)}
    inference = Inference(service, SimpleNamespace(serve=ServeSpec(threads=1)))
    with served(app_with(inference)) as address:
        yield client_of(address, default_headers={"x-project": OWNER}, _strict_response_validation=True)
    inference.close()


@pytest.fixture(scope="module")
def offline(folder: Path):
    """Answer an example greedily, in this process and without the service."""
    model, template = load_model(folder), Template(load_tokenizer(folder))

    def answer(example: Example, tokens: int) -> str:
        return generate(model, template, [template.prompt_ids(example)], max_new_tokens=tokens)[0].text

    return answer


def test_chat_says_what_the_model_says(client: openai.OpenAI, offline) -> None:
    expected = offline(Example(messages=(Message(role="user", content=QUESTION),)), 24)
    body = {"model": "tiny", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 24}
    whole = client.chat.completions.create(**body)
    chunks = list(client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True}))
    assert whole.choices[0].message.content == expected
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == expected
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens


def test_completions_and_responses_say_it_too(client: openai.OpenAI, offline) -> None:
    raw = offline(Example(segments=(Segment(text=QUESTION, target=False),)), 12)
    said = client.completions.create(model="tiny", prompt=QUESTION, temperature=0, max_tokens=12)
    assert said.choices[0].text == raw
    expected = offline(Example(messages=(Message(role="user", content=QUESTION),)), 24)
    answer = client.responses.create(model="tiny", input=QUESTION, temperature=0, max_output_tokens=24)
    assert answer.output_text == expected


def test_the_same_seed_says_the_same(client: openai.OpenAI) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 12, "n": 2}
    first, second, other = (
        [choice.message.content for choice in client.chat.completions.create(**body, seed=seed).choices]
        for seed in (1, 1, 5)
    )
    assert first == second != other and first[0] != first[1]


def test_answers_are_held_to_json_and_calls_to_their_schema(client: openai.OpenAI) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": QUESTION}], "seed": 3, "max_tokens": 200}
    form = {"type": "json_schema", "json_schema": {"name": "look", "schema": SCHEMA, "strict": True}}
    said = json.loads(client.chat.completions.create(**body, response_format=form).choices[0].message.content)
    assert set(said) == {"yes", "n"} and said["n"] in (1, 2)
    choice = client.chat.completions.create(**body, tools=[TOOL], tool_choice="required").choices[0]
    assert choice.finish_reason == "tool_calls"
    assert json.loads(choice.message.tool_calls[0].function.arguments)["n"] in (1, 2)


def test_a_schema_that_cannot_be_is_refused_by_name(client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "bad", "schema": {"type": "no such type"}}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": QUESTION}], response_format=form
        )
    assert refused.value.param == "response_format"


def test_log_probabilities_are_natural_and_sorted(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        max_tokens=5,
        logprobs=True,
        top_logprobs=3,
    ).choices[0]
    for token in choice.logprobs.content:
        chances = [other.logprob for other in token.top_logprobs]
        assert chances == sorted(chances, reverse=True) and chances[0] == token.logprob
        assert sum(math.exp(chance) for chance in chances) <= 1.0001
        assert bytes(token.bytes).decode(errors="replace") == token.token


def test_embeddings_are_unit_vectors_of_their_own_text(client: openai.OpenAI) -> None:
    one, two = client.embeddings.create(model="tiny", input=["the", "an other"], encoding_format="float").data
    assert math.hypot(*one.embedding) == pytest.approx(1, abs=1e-5) and one.embedding != two.embedding
    (alone,) = client.embeddings.create(model="tiny", input="the", encoding_format="float").data
    assert alone.embedding == pytest.approx(one.embedding, abs=1e-5)
