"""Exports behind the service's door: offered by name, answered by their own engine, never tuned."""

from pathlib import Path

import pytest
import torch
from tests.jobs.export.made import export, trained

from luthier.core.errors import RecipeError
from luthier.examples.example import Message
from luthier.jobs.export.hearing import ask_all
from luthier.jobs.service.inference import open_base
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.service import open_service
from luthier.jobs.service.settings import ServiceSettings, read_settings, with_models
from luthier.model.adapter import load_tuned
from luthier.model.adapters.lora import LoraSpec
from luthier.model.generate import generate
from luthier.model.render import Renderer
from luthier.serve.spec import ServeSpec


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("served")
    given = trained(folder, "llama", LoraSpec(r=4))
    return given, export(given, folder / "export", "merged").exported[0].folder


def test_an_export_is_on_offer_and_not_tunable(made, tmp_path: Path) -> None:
    _, folder = made
    settings = with_models(ServiceSettings(), [f"tones={folder}"], None)
    service = open_service(tmp_path / "home", settings)
    assert "tones" in [model.id for model in service.catalogue.list("someone")]
    assert service.catalogue.resolve("tones", "someone").base_model == str(folder)
    with pytest.raises(Refusal, match="not available for fine-tuning"):
        service.catalogue.tunable("tones")
    service.database.close()


def test_its_engine_says_what_the_tuned_model_says(made) -> None:
    given, folder = made
    render = Renderer()
    loaded = open_base(str(folder), ServeSpec(threads=1), render)
    try:
        ids = loaded.template.messages_ids([Message(role="user", content="say 1")])
        said = ask_all(loaded.engine, loaded.template, [ids], max_new_tokens=12)[0]
    finally:
        loaded.engine.close()
        render.close()
    tuned = load_tuned(given.prepared.base.folder, given.weights)
    with torch.inference_mode():
        assert said.ids == generate(tuned, loaded.template, [ids], max_new_tokens=12)[0].ids
    assert loaded.fingerprint.startswith("fp_")


def test_an_engine_that_does_not_read_the_files_is_refused(made) -> None:
    render = Renderer()
    try:
        with pytest.raises(Exception, match="llama.cpp"):
            open_base(str(made[1]), ServeSpec(engine="llama.cpp"), render)
    finally:
        render.close()


@pytest.mark.parametrize(
    ("models", "engine", "what"),
    [
        (["tones"], None, "no NAME=FOLDER"),
        (["to nes=x"], None, "no NAME=FOLDER"),
        (["smollm2-135m-instruct=x"], None, "two models on offer"),
        ([], "vllm", "no engine `vllm`"),
    ],
)
def test_wrong_options_are_explained(models: list[str], engine: str | None, what: str) -> None:
    with pytest.raises(RecipeError, match=what):
        with_models(ServiceSettings(), models, engine)


def test_settings_name_exports_and_remotes(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "service.yaml").write_text(
        "exports: {a: here, b: 'here#legal'}\n"
        "remotes: {big: {url: 'http://127.0.0.1:9/v1', model: m, tokenizer: smollm2-135m-instruct}}\n"
    )
    settings = read_settings(tmp_path / "service.yaml")
    assert settings.exports == {"a": str(tmp_path / "here"), "b": f"{tmp_path / 'here'}#legal"}
    assert list(settings.offered) == ["smollm2-135m-instruct", "a", "b", "big"]
    (tmp_path / "service.yaml").write_text("remotes: {big: {url: 'ftp://x', model: m, tokenizer: t}}\n")
    with pytest.raises(RecipeError, match="remotes.big.url"):
        read_settings(tmp_path / "service.yaml")
