from pathlib import Path

import pytest
from tests.jobs.fakes import FACTS, FakeRooms, recipe_file

from luthier.core.errors import CheckpointError
from luthier.jobs.manifest import Manifest, data_hashes
from luthier.jobs.plan import resolve
from luthier.recipe_io.read import load_recipe


def test_it_is_written_and_read_back(tmp_path: Path) -> None:
    plan = resolve(load_recipe(recipe_file(tmp_path)), FACTS)
    manifest = Manifest.of(plan, FakeRooms().base("b", print))
    manifest.write(tmp_path / "manifest.json")
    assert Manifest.read(tmp_path / "manifest.json") == manifest
    assert manifest.seed == 7 and manifest.threads == 2 and manifest.packages["torch"]


def test_an_unreadable_one_is_explained(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    for name in ("manifest.json", "none.json"):
        with pytest.raises(CheckpointError, match="cannot be read"):
            Manifest.read(tmp_path / name)


def test_only_files_here_are_hashed(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, "data: {path: [rows.jsonl, 'org/name'], test_path: none.csv}\n"))
    assert list(data_hashes(recipe)) == [str(tmp_path / "rows.jsonl")]
