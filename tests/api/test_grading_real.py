"""Graders and an eval over the embedded model and its real engine: answers are held to numbers and labels."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.api.graded import EQUAL, LABEL, NEAR, SCORE

from luthier.jobs.service.asking import answer
from luthier.jobs.service.eval_judge import Judge
from luthier.jobs.service.eval_runner import CRITERIA, SOURCES
from luthier.jobs.service.eval_shapes import Row
from luthier.jobs.service.grading import Grading, House
from luthier.jobs.service.inference import Inference
from luthier.jobs.service.service import open_service
from luthier.jobs.service.settings import ServiceSettings
from luthier.score.graders.graded import Question
from luthier.score.graders.spec import LabelModel, ScoreModel, TextSimilarity

pytestmark = pytest.mark.embedded
MODEL = "smollm2-135m-instruct"
OWNER = "default"


@pytest.fixture(scope="module")
def grading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grading]:
    service = open_service(
        tmp_path_factory.mktemp("real") / "home", ServiceSettings.model_validate({"serve": {"threads": 1}})
    )
    inference = Inference(service, service.settings)
    yield Grading(service.home.path, service.catalogue, inference)
    inference.close()
    service.database.close()


def test_a_score_is_a_number_within_the_range(grading: Grading) -> None:
    spec = ScoreModel.model_validate(SCORE | {"model": MODEL, "range": [1, 5]})
    graded = grading.run(spec, "Paris is the capital of France.", {}, OWNER)
    assert not graded.metadata.errors.any and 1 <= graded.reward <= 5
    assert graded.model_grader_token_usage_per_model == {MODEL: graded.metadata.token_usage}


def test_a_label_is_one_of_the_labels(grading: Grading) -> None:
    spec = LabelModel.model_validate(LABEL | {"model": MODEL})
    graded = grading.run(spec, "Paris is the capital of France.", {}, OWNER)
    assert not graded.metadata.errors.any and graded.reward in (0.0, 1.0)


def test_cosine_knows_what_is_near(grading: Grading) -> None:
    plain = {name: value for name, value in NEAR.items() if name != "pass_threshold"}
    spec = TextSimilarity.model_validate(plain | {"evaluation_metric": "cosine"})
    same, near, far = (
        grading.run(spec, text, {"want": "The cat sat on the mat."}, OWNER).reward
        for text in ("The cat sat on the mat.", "A cat is sitting on a mat.", "{'x': 17, 'y': [0, 0, 255]}")
    )
    assert same == pytest.approx(1, abs=1e-4) and same > near > far


def test_a_row_is_answered_and_judged(grading: Grading) -> None:
    source = {
        "type": "completions",
        "model": MODEL,
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "What is {{ item.ask }}?"}]},
        "source": {"type": "file_content", "content": [{"item": {"want": ""}}]},
        "sampling_params": {"temperature": 0, "max_completion_tokens": 12},
    }
    judge = Judge(
        grading, SOURCES.validate_python(source), CRITERIA.validate_python([EQUAL | {"operation": "ne"}]), OWNER
    )
    verdict = judge.verdict(Row(item={"ask": "the capital of France", "want": ""}), 0)
    sample = verdict.data["sample"]
    assert verdict.status == "pass" and sample["model"] == MODEL and "Paris" in sample["output"][0]["content"]
    assert 0 < sample["usage"]["completion_tokens"] <= 12 < sample["usage"]["prompt_tokens"]


def test_seeds_repeat(grading: Grading) -> None:
    house = House(grading, OWNER, is_patient=False)
    question = Question(MODEL, [{"role": "user", "content": "Say a word."}], {"seed": 4, "max_completion_tokens": 8})
    first, second = house.ask(question), asyncio.run(answer(grading.inference, question, OWNER))
    assert first.text == second.text
