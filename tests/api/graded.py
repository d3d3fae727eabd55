"""A service with graders and evals behind the real routes; its models say what a test tells them to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import openai
from tests.api.fakes import FakeEngine, app_with, client_of, pieces_of, served
from tests.jobs.service.made import service_of

from luthier.api.routes import evals, graders
from luthier.jobs.service.eval_runner import EvalRunner
from luthier.jobs.service.evals import Evals
from luthier.jobs.service.grading import Grading
from luthier.jobs.service.inference import Inference, Loaded
from luthier.jobs.service.service import Service
from luthier.model.render import Renderer
from luthier.model.template import Template
from luthier.model.tiny import CONTEXT, tiny_tokenizer
from luthier.score.graders.sandbox import Limits
from luthier.serve.request import Ask, Piece
from luthier.serve.spec import ServeSpec

SOURCE = "def grade(sample, item):\n    return 1.0 if sample['output_text'] == item['want'] else 0.25"
EQUAL = {
    "type": "string_check",
    "name": "equal",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.want }}",
    "operation": "eq",
}
NEAR = {
    "type": "text_similarity",
    "name": "near",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.want }}",
    "evaluation_metric": "fuzzy_match",
    "pass_threshold": 0.9,
}
CODE = {"type": "python", "name": "code", "source": SOURCE}
ASKED = [{"role": "user", "content": "Grade: {{ sample.output_text }}"}]
SCORE = {"type": "score_model", "name": "score", "model": "tiny", "input": ASKED, "sampling_params": {"seed": 1}}
LABEL = {
    "type": "label_model",
    "name": "label",
    "model": "tiny",
    "input": ASKED,
    "labels": ["good", "bad"],
    "passing_labels": ["good"],
}
SCHEMA = {"type": "object", "properties": {"ask": {"type": "string"}, "want": {"type": "string"}}, "required": ["want"]}
CONFIG = {"type": "custom", "item_schema": SCHEMA, "include_sample_schema": True}


@dataclass
class Parts:
    """What the door holds."""

    service: Service
    engine: FakeEngine
    inference: Inference
    grading: Grading
    runner: EvalRunner
    evals: Evals

    def stop(self) -> None:
        self.grading.stop()
        self.inference.close()
        self.runner.stop()
        self.service.database.close()


def speak(ask: Ask) -> list[Piece]:
    """Say "yes" where the prompt asks for it, else "no"; where a grammar asks for a result, give one."""
    prompt = tiny_tokenizer().decode(ask.ids)
    if not ask.sampling.grammar:
        return pieces_of("yes" if "affirm" in prompt else "no")
    good = "yes" in prompt
    if "enum" in ask.sampling.grammar:
        return pieces_of('{"result": "good"}' if good else '{"result": "bad"}')
    return pieces_of('{"result": 0.75}' if good else '{"result": 0.25}')


def parts_in(folder: Path, script: Callable[[Ask], list[Piece]] = speak) -> Parts:
    """Put the parts together as the door does, over a fake engine; the runner is not started."""
    service = service_of(folder)
    engine = FakeEngine(script)

    def open_fake(base_model: str, spec: ServeSpec, render: Renderer) -> Loaded:
        return Loaded(base_model, engine, Template(tiny_tokenizer(), render), CONTEXT, "fp_fake")

    inference = Inference(service, service.settings, open_base=open_fake)
    limits = Limits(seconds=5, memory_bytes=400_000_000, file_bytes=1_000_000)
    grading = Grading(service.home.path, service.catalogue, inference, limits)
    runner = EvalRunner(service.database, service.files, grading)
    return Parts(
        service, engine, inference, grading, runner, Evals(service.database, service.files, grading, runner.wake)
    )


@dataclass
class Graded:
    """A served house of graders."""

    parts: Parts
    address: str

    def client(self, **options: object) -> openai.OpenAI:
        return client_of(self.address, **{"_strict_response_validation": True, **options})


@contextmanager
def graded_in(folder: Path) -> Iterator[Graded]:
    """Serve graders and evals over a fake engine."""
    parts = parts_in(folder)
    app = app_with(parts.inference)
    app.state.grading, app.state.evals = parts.grading, parts.evals
    for routes in (graders, evals):
        app.include_router(routes.router, prefix="/v1")
    parts.runner.start()
    with served(app) as address:
        yield Graded(parts, address)
    parts.stop()
