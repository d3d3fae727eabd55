"""The file of a loss of the user's own, kept beside the checkpoints: a resumed run computes what it began with."""

import shutil
from pathlib import Path

from luthier.core.errors import CheckpointError
from luthier.core.files import sha256_of
from luthier.train.methods.embed.spec import EmbedSpec, LossFile
from luthier.train.methods.method import Method
from luthier.train.spec import AnyMethod

FOLDER = "loss"


def built(method: AnyMethod, out: Path) -> Method:
    """Return the method's loss; one of the user's own from its copy in `out`, which is made where it is not there."""
    if not (isinstance(method, EmbedSpec) and isinstance(method.loss, LossFile)):
        return method.build()
    from luthier.train.methods.embed.loss import EmbedLoss

    return EmbedLoss(method, file=_kept(method.loss, out))


def _kept(loss: LossFile, out: Path) -> Path:
    from luthier.train.methods.embed.own import check_file

    copy = out / FOLDER / Path(loss.file).name
    if not copy.exists():
        check_file(loss)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(loss.file, copy)
    if loss.sha256 is not None and sha256_of(copy) != loss.sha256:
        why, hint = "it is not the one that the plan names by its hash", "start a new run without `--resume`"
        raise CheckpointError("the run's copy of the loss has changed", where={"file": copy}, why=why, hint=hint)
    return copy
