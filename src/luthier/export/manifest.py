"""The manifest of an export: what each file's bytes are, what it was made from, and its certificates."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from luthier.core.certificate import Certificate
from luthier.core.errors import CheckpointError
from luthier.core.files import sha256_of, write_atomic
from luthier.export.spec import Form

FILE = "manifest.json"


class Manner(BaseModel):
    """How the training rows speak, so that a typed message reaches the model as a trained one did."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    system: str = ""
    """The system message that all rows share."""
    instruction: str = ""
    """What all rows put before the text, up to its last blank line; in bare text, what the template puts there."""
    closing: str = ""
    """What the template of bare text puts after the text, where the answer begins."""
    many_turns: bool = False
    """Whether any row has more than one question; else each message stands alone."""
    raw: bool = False
    """Rows are bare text: a message is continued, not answered."""


class Manifest(BaseModel):
    """What an export is."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    format: str
    """The form's title."""
    form: Form
    files: dict[str, str]
    """SHA-256 of every file but this one, by its path in the folder."""
    bytes: int
    """Their sizes together."""
    template_sha256: str
    """Hash over the tokenizer and the chat template."""
    prompts_sha256: str
    """Hash over the tokens of the certificate's prompts."""
    base_model: str
    base_weights_sha256: str
    licence: str | None = None
    tuned_weights_sha256: str = ""
    data_sha256: str = ""
    run: str | None = None
    """The run it comes from."""
    adapters: dict[str, str] = Field(default_factory=dict)
    """Switchable adapters: their files by name."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Of what made it and ran it."""
    certificates: dict[str, Certificate]
    """By adapter where it has several; else one, `model`."""
    allowed_failed: bool = False
    """It did not pass, and was exported all the same, because a person said so."""
    manner: Manner = Manner()


def hashes(folder: Path) -> tuple[dict[str, str], int]:
    """Return the SHA-256 of every file by its path in the folder, and their sizes together."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FILE)
    return (
        {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths},
        sum(path.stat().st_size for path in paths),
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a finished export's manifest, last of all."""
    write_atomic(folder / FILE, manifest.model_dump_json(indent=2) + "\n")


def is_export(folder: Path) -> bool:
    """Whether a folder is an export."""
    return (folder / FILE).is_file() and not (folder / "events.jsonl").exists()


def read_manifest(folder: Path) -> Manifest:
    """Return an export's manifest; CheckpointError where it cannot be read."""
    path = folder / FILE
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = "name a folder that `luthier export` wrote"
        raise CheckpointError("this is no export", where={"file": path}, why=error.strerror, hint=hint) from error
    except (ValidationError, UnicodeDecodeError) as error:
        hint = "export it again"
        raise CheckpointError("the manifest cannot be read", where={"file": path}, why=str(error), hint=hint) from error


def check_files(folder: Path, manifest: Manifest) -> None:
    """Refuse an export whose files are not, byte for byte, those that were certified."""
    found, _ = hashes(folder)
    changed = sorted(name for name in manifest.files if found.get(name, "") != manifest.files[name])
    added = sorted(found.keys() - manifest.files.keys())
    if not changed and not added:
        return
    name = (changed or added)[0]
    gone = "is missing" if name not in found else "was changed"
    why = f"`{name}` {gone if changed else 'was added'} after it was certified"
    hint = "export it again, or get the folder anew from where it was made"
    raise CheckpointError("this export is not what was certified", where={"export": folder}, why=why, hint=hint)
