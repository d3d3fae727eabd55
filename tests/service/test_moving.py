"""Scripts written for hosted fine-tuning, run unchanged against `luthier serve` with the embedded model."""

import asyncio
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob
from tests.laws.source import clean_environment

LUTHIER = str(Path(sys.executable).with_name("luthier"))
BASE = "smollm2-135m-instruct"
HOSTED = "gpt-4o-mini-2024-07-18"
LONGEST_S = 400
SETTINGS = f"""\
aliases:
  {HOSTED}: {BASE}
train:
  threads: 1
  precision: fp32
  compile: false
serve:
  threads: 1
"""
SYSTEM = (
    "You are a helpful recipe assistant. You are to extract the generic ingredients from each of the recipes provided."
)
DISHES = ("Leek soup", "Plum cake", "Bean salad", "Rye bread", "Fish pie", "Oat bars")
FOODS = ("flour", "butter", "leeks", "plums", "beans", "salt", "eggs", "milk", "oats", "honey", "cod", "rye")

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(900)]


@dataclass
class Server:
    """A running `luthier serve`."""

    process: subprocess.Popen
    url: str
    key: str
    home: Path

    def client(self, **options: object) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key=self.key, max_retries=0, timeout=LONGEST_S, **options)

    def azure(self) -> openai.AzureOpenAI:
        endpoint = self.url.removesuffix("/v1")
        return openai.AzureOpenAI(
            azure_endpoint=endpoint, api_key=self.key, api_version="2025-04-01-preview", timeout=LONGEST_S
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("service") / "home"
    home.mkdir(mode=0o700)
    (home / "service.yaml").write_text(SETTINGS)
    command = [LUTHIER, "serve", "--home", str(home), "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=clean_environment(), start_new_session=True, **pipes)
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in process.stderr], daemon=True).start()
    url = None
    while url is None:
        found = re.search(r"serving at (\S+/v1)", lines.get(timeout=120))
        url = found[1] if found else None
    yield Server(process, url, process.stdout.readline().strip(), home)
    process.terminate()
    assert process.wait(timeout=60) == 0


def recipe_rows(count: int, *, first: int = 0) -> str:
    """Return rows as the cookbook's notebook writes them."""
    lines = []
    for number in range(first, first + count):
        foods = [FOODS[(number * step + step) % len(FOODS)] for step in (1, 5, 7)]
        asked = f"Title: {DISHES[number % len(DISHES)]}\n\nIngredients: {json.dumps([f'2 cups {f}' for f in foods])}"
        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"{asked}\n\nGeneric ingredients: "},
            {"role": "assistant", "content": json.dumps(foods)},
        ]
        lines.append(json.dumps({"messages": messages}))
    return "\n".join(lines) + "\n"


def finished(client: openai.OpenAI, job: str) -> FineTuningJob:
    """Poll a job as the notebook does."""
    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end:
        found = client.fine_tuning.jobs.retrieve(job)
        if found.status in ("succeeded", "failed", "cancelled"):
            return found
        time.sleep(0.5)
    raise AssertionError(f"{job} is {found.status} after {LONGEST_S} s")


@pytest.fixture(scope="module")
def tuned(server: Server) -> FineTuningJob:
    """The notebook's job: two files, a suffix, and patience; every reply is checked strictly."""
    client = server.client(_strict_response_validation=True)
    files = {
        name: client.files.create(file=(f"{name}.jsonl", recipe_rows(count, first=first).encode()), purpose="fine-tune")
        for name, count, first in (("training", 12, 0), ("validation", 4, 100))
    }
    job = client.fine_tuning.jobs.create(
        training_file=files["training"].id,
        validation_file=files["validation"].id,
        model=HOSTED,
        suffix="recipe-ner",
        seed=7,
        metadata={"notebook": "recipes"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 1.0}},
        },
    )
    assert job.status == "validating_files" and job.model == HOSTED
    return finished(client, job.id)


def test_the_job_succeeds_and_says_what_it_did(server: Server, tuned: FineTuningJob) -> None:
    client = server.client(_strict_response_validation=True)
    assert tuned.status == "succeeded", tuned.error
    assert re.fullmatch(rf"ft:{BASE}:luthier:recipe-ner:[a-z0-9]{{8}}", tuned.fine_tuned_model)
    assert (tuned.hyperparameters.n_epochs, tuned.hyperparameters.batch_size) == (2, 4)
    assert tuned.trained_tokens > 0 and tuned.finished_at >= tuned.created_at

    events = list(client.fine_tuning.jobs.list_events(tuned.id, limit=5))
    messages = [event.message for event in reversed(events)]
    assert messages[0] == f"Created fine-tuning job: {tuned.id}"
    assert messages[1].startswith(f"Validating training file: {tuned.training_file} and validation file: ")
    assert messages[-2:] == [
        f"New fine-tuned model created: {tuned.fine_tuned_model}",
        "The job has successfully completed",
    ]
    steps = [event.data["step"] for event in reversed(events) if event.type == "metrics"]
    assert steps == [1, 2, 3, 4, 5, 6]

    checkpoints = client.fine_tuning.jobs.checkpoints.list(tuned.id).data
    assert [checkpoint.step_number for checkpoint in checkpoints] == [6, 3]
    assert checkpoints[0].metrics.full_valid_loss > 0
    table = client.files.content(tuned.result_files[0]).text
    assert "step,train_loss" in __import__("base64").b64decode(table).decode().splitlines()[0]
    assert tuned.id in [job.id for job in client.fine_tuning.jobs.list(metadata={"notebook": "recipes"})]


def test_chat_with_the_tuned_model_whole_streamed_and_async(server: Server, tuned: FineTuningJob) -> None:
    client = server.client(_strict_response_validation=True)
    row = json.loads(recipe_rows(1, first=50))
    asked = {"model": tuned.fine_tuned_model, "messages": row["messages"][:-1], "temperature": 0, "max_tokens": 24}
    answer = client.chat.completions.create(**asked)
    assert answer.model == tuned.fine_tuned_model
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens <= 24

    streamed = client.chat.completions.create(**asked, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
    assert text == answer.choices[0].message.content

    async def later() -> str:
        options = {"base_url": server.url, "api_key": server.key, "max_retries": 0, "timeout": LONGEST_S}
        async with openai.AsyncOpenAI(**options, _strict_response_validation=True) as asking:
            several = await asyncio.gather(*(asking.chat.completions.create(**asked) for _ in range(3)))
        assert len({one.choices[0].message.content for one in several}) == 1
        return several[0].choices[0].message.content

    assert asyncio.run(later()) == text
    untuned = client.chat.completions.create(**{**asked, "model": HOSTED})
    assert untuned.model == BASE, "a reply names what really ran"

    checkpoint = client.fine_tuning.jobs.checkpoints.list(tuned.id).data[0].fine_tuned_model_checkpoint
    last = client.chat.completions.create(**{**asked, "model": checkpoint})
    assert last.choices[0].message.content == text, "the last checkpoint is the model"


def test_azures_flow(server: Server, tuned: FineTuningJob) -> None:
    azure = server.azure()
    data = b"\xef\xbb\xbf" + recipe_rows(12).encode()
    file = azure.files.create(file=("training.jsonl", data), purpose="fine-tune")
    job = azure.fine_tuning.jobs.create(
        model=BASE, training_file=file.id, hyperparameters={"n_epochs": 1, "batch_size": 6}
    )
    done = finished(azure, job.id)
    assert done.status == "succeeded", done.error
    table = azure.files.content(done.result_files[0]).text
    assert table.startswith("step,train_loss"), "results are plain at Azure's door"

    made = [LUTHIER, "deployments", "create", "recipes", done.fine_tuned_model, "--home", str(server.home)]
    subprocess.run(made, check=True, env=clean_environment(), capture_output=True)
    row = json.loads(recipe_rows(1))
    answer = azure.chat.completions.create(model="recipes", messages=row["messages"][:-1], temperature=0, max_tokens=8)
    assert answer.model == done.fine_tuned_model


def test_preferences(server: Server) -> None:
    client = server.client(_strict_response_validation=True)
    rows = []
    for line in recipe_rows(12).splitlines():
        *asked, answer = json.loads(line)["messages"]
        rejected = [{"role": "assistant", "content": "I do not know."}]
        rows.append({"input": {"messages": asked}, "preferred_output": [answer], "non_preferred_output": rejected})
    data = "\n".join(map(json.dumps, rows)).encode()
    file = client.files.create(file=("preferences.jsonl", data), purpose="fine-tune")
    hyperparameters = {"beta": 0.2, "n_epochs": 1, "batch_size": 6}
    job = client.fine_tuning.jobs.create(
        model=BASE, training_file=file.id, method={"type": "dpo", "dpo": {"hyperparameters": hyperparameters}}
    )
    done = finished(client, job.id)
    assert done.status == "succeeded", done.error
    assert done.method.dpo.hyperparameters.beta == 0.2


def test_errors_are_the_hosted_ones(server: Server) -> None:
    client = server.client()
    with pytest.raises(openai.NotFoundError) as unknown:
        client.fine_tuning.jobs.retrieve("123")
    assert (unknown.value.code, unknown.value.param) == ("fine_tune_not_found", "fine_tune_id")
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="ft:123", messages=[{"role": "user", "content": "hi"}])
    assert missing.value.message.count("The model 'ft:123' does not exist") == 1
    with pytest.raises(openai.BadRequestError) as bad:
        client.files.create(file=("a.jsonl", b"[1]\n"), purpose="fine-tune")
    assert "Line 1 is not a dictionary" in bad.value.message
    with pytest.raises(openai.AuthenticationError) as wrong:
        openai.OpenAI(base_url=server.url, api_key="sk-wrong", max_retries=0).models.list()
    assert wrong.value.code == "invalid_api_key"
    file = client.files.create(file=("three.jsonl", recipe_rows(3).encode()), purpose="fine-tune")
    job = finished(client, client.fine_tuning.jobs.create(model=BASE, training_file=file.id).id)
    assert (job.status, job.error.code) == ("failed", "invalid_n_examples")
    assert job.error.message == "Training file has 3 example(s), but must have at least 10 examples"
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(
            model=BASE, training_file=file.id, method={"type": "reinforcement", "reinforcement": {"grader": {}}}
        )
    assert refused.value.code == "model_not_available"


def test_environment_variables_are_enough(server: Server) -> None:
    script = "import openai; print([model.id for model in openai.OpenAI().models.list()])"
    environment = os.environ | {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": server.key}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert BASE in done.stdout
