"""The manifest of an export: what each file's bytes are, and what the model was made from."""

import json
from pathlib import Path

from luthier.core.artifacts import Exported, Trained
from luthier.core.files import sha256_of, write_atomic
from luthier.export.formats.proof import Proof

FILE = "manifest.json"


def seal(folder: Path, given: Trained, *, name: str, proof: Proof | None, at: Path) -> Exported:
    """Hash every file of a finished export, write its manifest, and return what was exported to `at`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}
    manifest = {
        "format": name,
        "files": files,
        "base_model": given.prepared.base.title,
        "base_weights_sha256": given.prepared.base.weights_sha256,
        "licence": given.prepared.base.licence,
        "tuned_weights_sha256": given.weights_sha256,
        "data_sha256": given.prepared.data_sha256,
        "proof": proof.model_dump() if proof else "the files are byte for byte those that training wrote",
    }
    write_atomic(folder / FILE, json.dumps(manifest, indent=2) + "\n")
    size = sum(path.stat().st_size for path in paths)
    return Exported(folder=at, format=name, files=files, bytes=size)
