"""Secrets planted in all that is sent: none is found in logs, errors, events, the database or beside the data."""

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.zoo.asking import HOST, JSON, ask
from tests.zoo.served import ROW, House, build_house

from luthier.model.tiny import save_tiny

Plant = Callable[[str], str]
GRADER = {"type": "string_check", "name": "n", "input": "{{item.a}}", "reference": "b", "operation": "eq"}
BROKEN = ('{"messages": "%s"', '{"a": 1, "a": "%s"}', '{"%s": NaN}', '["%s" "b"]', '{"a": "%s\\ud800"}')


class Secrets:
    """Words that must not be found anywhere, and where each was put."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}

    def plant(self, place: str) -> str:
        word = f"planted{len(self.places):02d}q7xz"
        self.places[word] = place
        return word

    def in_text(self, text: str) -> list[str]:
        return [f"{place} ({word})" for word, place in self.places.items() if word in text]


def user(content: Any) -> list[Any]:
    return [{"role": "user", "content": content}]


def bodies_with_secrets(plant: Plant) -> Iterator[tuple[str, Any]]:
    """Yield requests with secrets in what must not be kept, good ones and bad ones."""
    hello = {"model": "tiny", "max_tokens": 2}
    tool = {"type": "function", "function": {"name": "f", "description": plant("a tool"), "parameters": {}}}
    talk = [{"role": "system", "content": plant("a system message")}, *user(plant("a prompt"))]
    for more in ({}, {"stream": True}, {"tools": [tool]}, {"temperature": 99}, {"n": "x"}, {"audio": {"voice": "x"}}):
        yield "/v1/chat/completions", {**hello, "messages": talk, **more}
    for messages in (
        user(plant("a prompt that is too long") * 900),
        user([{"type": "text", "text": 5}, plant("a part of the wrong type")]),
        user([{"type": "image_url", "image_url": {"url": plant("an address")}}]),
        {"role": plant("messages of the wrong type")},
        [plant("a message of the wrong type")],
    ):
        yield "/v1/chat/completions", {**hello, "messages": messages}
    for prompt in (plant("a prompt to complete"), {"text": plant("a prompt of the wrong type")}):
        yield "/v1/completions", {**hello, "prompt": prompt}
    for given in (plant("a text to embed"), [plant("a text beside a number"), 1, None]):
        yield "/v1/embeddings", {"model": "tiny", "input": given}
    for given in (plant("an input"), {"a": plant("an input of the wrong type")}):
        yield "/v1/responses", {"model": "tiny", "input": given, "instructions": plant("instructions")}
    for answer in (plant("an answer to grade"), {"a": plant("an answer of the wrong type")}):
        graded = {"grader": GRADER, "model_sample": answer, "item": {"a": plant("a row to grade")}}
        yield "/v1/fine_tuning/alpha/graders/run", graded


def ask_with_secrets(house: House, plant: Plant) -> list[str]:
    """Send requests full of secrets; return the bodies of the errors."""
    head = [HOST, ("authorization", f"Bearer {house.key}"), JSON]
    answers = [house.ask("POST", target, body) for target, body in bodies_with_secrets(plant)]
    for text in BROKEN:
        answers.append(ask(house.app, "POST", "/v1/chat/completions", head, (text % plant("broken JSON")).encode()))
    for name in ("user-agent", "cookie", "x-request-id", "openai-organization", "referer"):
        answers.append(ask(house.app, "GET", "/v1/nothing", [*head, (name, plant(f"the header {name}"))]))
    answers.append(ask(house.app, "GET", "/v1/models", [HOST, ("authorization", f"Bearer {plant('a wrong key')}")]))
    answers.append(ask(house.app, "GET", f"/v1/models?key={plant('a query')}", [HOST]))
    answers.append(ask(house.app, plant("a method").upper(), "/v1/models", head))
    return [answer.body.decode() for answer in answers if answer.status >= 400]


def bad_files(plant: Plant) -> Iterator[bytes]:
    """Return training files with a bad row each; the row's texts are secrets."""
    rows = [json.dumps(ROW)] * 25
    for bad in (
        '{"messages": [{"role": "user", "content": "%s"}',
        '{"messages": [{"content": "%s"}]}',
        '{"messages": [{"role": "user", "content": "%s"}, {"role": "assistant", "content": 7}]}',
        '{"messages": "%s"}',
        '{"messages": [{"role": "user", "content": "%s"}], "messages": []}',
        '{"prompt": "%s"}',
        '"%s"',
    ):
        yield "\n".join([*rows, bad % plant("a bad training row")]).encode()


def ended(house: House, job: str, seconds: float = 120) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        told = house.ask("GET", f"/v1/fine_tuning/jobs/{job}").json
        if told["status"] in ("succeeded", "failed", "cancelled"):
            return told
        time.sleep(0.1)
    raise AssertionError(f"the job did not end: {told}")


def train_with_secrets(house: House, plant: Plant) -> list[str]:
    """Run a job over rows that are secrets, and jobs over files that are bad; return what was told of them."""
    row = {"messages": [*user(plant("a row")), {"role": "assistant", "content": plant("a row's answer")}]}
    files = [(json.dumps(row) + "\n").encode() * 12, *bad_files(plant)]
    told = []
    house.service.start()
    try:
        for content in files:
            uploaded = house.upload(content)
            if uploaded.status != 200:
                told.append(uploaded.body.decode())
                continue
            options = {"hyperparameters": {"n_epochs": 1, "batch_size": 4}}
            asked = {"model": "tiny", "training_file": uploaded.json["id"], **options}
            job = house.ask("POST", "/v1/fine_tuning/jobs", asked).json["id"]
            told.append(json.dumps(ended(house, job)))
            told.append(house.ask("GET", f"/v1/fine_tuning/jobs/{job}/events").body.decode())
    finally:
        house.service.stop()
    assert '"succeeded"' in told[0], told[:2]
    return told


def dump(path: Path) -> str:
    """Return all of a database as text."""
    with sqlite3.connect(path) as connection:
        return "\n".join(connection.iterdump())


def written_beside_the_data(home: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files of the home that are neither what was uploaded nor what was prepared or learnt from it."""
    for path in sorted(home.rglob("*")):
        inside = path.relative_to(home).parts
        is_data = inside[0] == "files" or inside[-1] in ("training.jsonl", "validation.jsonl") or "data" in inside[2:3]
        if path.is_file() and not is_data and path.suffix != ".safetensors":
            yield path, path.read_bytes().decode("latin-1")


def test_s7_twenty_secrets_are_found_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    house = build_house(tmp_path, save_tiny(tmp_path / "base", "llama"))
    secrets = Secrets()
    with caplog.at_level(logging.DEBUG):
        errors = ask_with_secrets(house, secrets.plant)
        told = train_with_secrets(house, secrets.plant)
    assert len(secrets.places) >= 20 and len(errors) >= 6
    for key in (house.key, house.other_key, house.revoked_key):
        secrets.places[key] = "a key"
    out, err = capfd.readouterr()
    where = {"the log": caplog.text, "stdout": out, "stderr": err, "the database": dump(house.home / "service.db")}
    where |= {f"error {number}": text for number, text in enumerate(errors)}
    where |= {f"job {number}": text for number, text in enumerate(told)}
    where |= {str(path.relative_to(tmp_path)): text for path, text in written_beside_the_data(house.home)}
    found = [f"{place}: {hit}" for place, text in where.items() for hit in secrets.in_text(text)]
    assert not found, "\n".join(found)
