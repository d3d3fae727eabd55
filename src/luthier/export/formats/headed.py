"""A model with a head in one folder: the updates added in, the head beside them, the base's tokenizer unchanged."""

import shutil
from pathlib import Path

from luthier.export.formats.merged import TOKENIZER_FILES
from luthier.model.adapter import load_tuned, merge
from luthier.model.load import quiet


def write_headed(base: Path, weights: Path, folder: Path) -> None:
    """Write what transformers' AutoModelForSequenceClassification, …TokenClassification or …QuestionAnswering loads."""
    with quiet():
        merge(load_tuned(base, weights)).save_pretrained(str(folder))
    for pattern in TOKENIZER_FILES:
        for path in sorted(base.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)
