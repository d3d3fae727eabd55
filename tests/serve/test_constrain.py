"""Answers held to a schema parse and validate, and what cannot be held is said."""

import json
import random

import jsonschema_rs
import pytest
import torch

from luthier.model.tiny import tiny_tokenizer
from luthier.serve import constrain
from luthier.serve.constrain import GrammarError, Grammars, json_object, json_schema

TOKENIZER = tiny_tokenizer()
END = TOKENIZER.eos_token_id
SCHEMAS = [
    {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"], "additionalProperties": False},
    {"type": "array", "items": {"enum": ["a", "é😀", 3, None]}, "minItems": 1, "maxItems": 4},
    {"type": "string", "maxLength": 12},
    {"type": "integer", "minimum": -20, "maximum": 1000},
    {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^[a-f]{2,5}$"}]},
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 6},
            "at": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "maxItems": 3},
            "next": {"$ref": "#/$defs/leaf"},
        },
        "required": ["name", "at", "next"],
        "additionalProperties": False,
        "$defs": {"leaf": {"type": "object", "properties": {"n": {"const": 7}}, "required": ["n"]}},
    },
]
CLOSED = {"leaf": {"additionalProperties": False}}


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(TOKENIZER, len(TOKENIZER))


def any_answer(grammars: Grammars, grammar: str, draw: random.Random, most: int = 2000) -> list[int]:
    """Return what a model that knows nothing says when it is held to a grammar."""
    follower, ids = grammars.follow(grammar), []
    while not follower.is_done and len(ids) < most:
        allowed = follower.allowed().nonzero().flatten().tolist()
        assert allowed, "nothing may follow, and it is not done"
        token = END if END in allowed else draw.choice(allowed)
        if token == END:
            return ids
        ids.append(token)
        follower.take(token)
    return ids


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: str(schema.get("type", "any")))
def test_any_answer_held_to_a_schema_is_valid(grammars, schema) -> None:
    grammar, draw = json_schema(schema), random.Random(1)
    validator = jsonschema_rs.validator_for(schema)
    answers = {TOKENIZER.decode(any_answer(grammars, grammar, draw)) for _ in range(8)}
    for answer in answers:
        validator.validate(json.loads(answer))
    assert len(answers) > 1


def test_a_json_object_is_one(grammars) -> None:
    follower = grammars.follow(json_object())
    for token in TOKENIZER('{"a": [1, {"b": null}]}')["input_ids"]:
        assert not follower.is_done and bool(follower.allowed()[token])
        follower.take(token)
    assert follower.is_done or bool(follower.allowed()[END])
    wrong = grammars.follow(json_object()).allowed()
    assert not any(wrong[token] for token in TOKENIZER('[1"tn')["input_ids"])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "no such type"},
        {"type": "string", "pattern": "("},
        {"$ref": "#/$defs/nowhere"},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"enum": []},
        {"not": {}},
        {"type": "array", "uniqueItems": True},
    ],
    ids=str,
)
def test_a_schema_that_cannot_be_held_is_refused(schema) -> None:
    with pytest.raises(GrammarError) as caught:
        json_schema(schema)
    assert caught.value.why


def test_a_schema_that_is_too_large_is_refused() -> None:
    with pytest.raises(GrammarError, match="too large"):
        json_schema({"enum": ["x" * constrain.MOST_BYTES]})


def test_a_deep_schema_is_refused_or_used(grammars) -> None:
    schema: dict = {"type": "null"}
    for _ in range(300):
        schema = {"type": "array", "items": schema}
    with pytest.raises(GrammarError):
        grammars.follow(json_schema(schema))


def test_rubbish_in_place_of_a_grammar_is_refused(grammars) -> None:
    with pytest.raises(GrammarError):
        grammars.follow("no grammar at all")


def test_a_token_that_is_not_allowed_is_an_error(grammars) -> None:
    follower = grammars.follow(json_object())
    with pytest.raises(GrammarError):
        follower.take(TOKENIZER("x")["input_ids"][0])


def test_bytes_of_tokens_join_to_the_text(grammars) -> None:
    text = "the thing — é 😀 in 東京"
    ids = TOKENIZER(text)["input_ids"]
    assert b"".join(grammars.utf8(token) for token in ids).decode() == text
    assert any(grammars.utf8(token).decode(errors="replace") == "\ufffd" for token in ids)


def test_the_mask_has_one_place_for_each_logit() -> None:
    grammars = Grammars(TOKENIZER, len(TOKENIZER) + 5)
    allowed = grammars.follow(json_object()).allowed()
    assert allowed.shape == (len(TOKENIZER) + 5,) and allowed.dtype == torch.bool
    assert not allowed[len(TOKENIZER) :].any()
