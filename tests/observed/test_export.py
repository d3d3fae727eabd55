"""Every option of an export changes the bytes of the model."""

import itertools
from pathlib import Path

import pytest
from tests.export.building import build_here
from tests.export.wide import save_wide
from tests.observed.seen import Cases, unseen

from luthier.core.files import sha256_of
from luthier.export.formats.onnx import build
from luthier.export.spec import Form

CASES: Cases = {
    Form: {"name": "onnx-int8", "target": "cuda", "block_size": 64, "algorithm": "k_quant", "wider": ("0",)}
}


def test_every_option_of_an_export_is_seen_in_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_here(monkeypatch)
    base, number = save_wide(tmp_path / "base"), itertools.count()

    def bytes_of(form: Form) -> dict[str, str]:
        folder = tmp_path / str(next(number))
        folder.mkdir()
        build(form, base, folder)
        return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}

    assert unseen(Form, CASES[Form], bytes_of, name="onnx-int4") == []
