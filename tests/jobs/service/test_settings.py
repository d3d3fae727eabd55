import stat
from pathlib import Path

import pytest

from luthier.core.errors import RecipeError
from luthier.jobs.service.settings import ServiceSettings, read_settings, write_default


def read(tmp_path: Path, text: str) -> ServiceSettings:
    path = tmp_path / "service.yaml"
    path.write_text(text)
    return read_settings(path)


def test_the_default_file_says_the_defaults_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "service.yaml"
    write_default(path)
    assert read_settings(path) == ServiceSettings()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # Every line that is commented out works as well.
    lines = path.read_text().replace("# aliases:\n#   ", "aliases:\n  ")
    lines = lines.replace("# train:\n#   adapter", "train:\n  adapter").replace("#   learning", "  learning")
    lines = lines.replace("# serve:\n#   rows", "serve:\n  rows").replace("#   queue", "  queue")
    assert read(tmp_path, lines).aliases == {"gpt-4o-mini-2024-07-18": "smollm2-135m-instruct"}


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "# nothing\n") == ServiceSettings()


@pytest.mark.parametrize(
    ("text", "what", "line", "hint"),
    [
        ("organization: me\njob_at_once: 2\n", "unknown key `job_at_once`", "2", "did you mean `jobs_at_once`?"),
        ("serve:\n  row: 3\n", "unknown key `serve.row`", "2", "did you mean `rows`?"),
        ("jobs_at_once: 0\n", "`jobs_at_once` cannot be used", "1", "delete"),
        ("jobs_at_once: two\n", "`jobs_at_once` cannot be used", "1", "delete"),
        ("bases: {a:b: c}\n", "`bases.a:b` cannot be used", "1", ""),
        ('bases: {"../x": c}\n', "cannot be used", "1", ""),
        ("- 1\n", "no settings", None, ""),
        ("aliases: {gpt: nothing}\n", "not among `bases`", None, ""),
        ("train: {adapter: {name: full}}\n", "must be `lora`", None, ""),
        ("train: {steps: 5}\n", "jobs count epochs", None, ""),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, what: str, line: str | None, hint: str) -> None:
    with pytest.raises(RecipeError) as error:
        read(tmp_path, text)
    assert what in error.value.what and error.value.where.get("line") == line and hint in (error.value.hint or "")


def test_a_model_folder_beside_the_settings_is_found_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert read(tmp_path, "bases: {mine: mine, hub: org/name}\n").bases == {
        "mine": str(tmp_path / "mine"),
        "hub": "org/name",
    }
