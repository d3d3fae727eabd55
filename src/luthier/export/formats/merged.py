"""`merged`: one plain model in safetensors with the tuned weights added in, proven to say the same."""

import shutil
from pathlib import Path

from transformers import PreTrainedModel

from luthier.core.artifacts import Exported, Trained
from luthier.core.files import whole_folder
from luthier.export.formats.manifest import seal
from luthier.export.formats.proof import compare, prompts_of, what_it_says
from luthier.model.adapter import load_tuned, merge
from luthier.model.load import load_model, load_tokenizer, quiet
from luthier.model.template import Template

# Everything but the weights and the config of a base model: its words, as they are.
TOKENIZER_FILES = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "generation_config.json",
)


def export(given: Trained, out: Path, *, card: str) -> Exported:
    """Merge in full precision, write, load what was written, and compare its answers with the unmerged model's."""
    base = given.prepared.base.folder
    template, prompts = Template(load_tokenizer(base)), prompts_of(given)
    tuned = load_tuned(base, given.weights)
    before = what_it_says(tuned, template, prompts)
    with whole_folder(out) as folder:
        write_model(merge(tuned), folder, tokenizer_from=base)
        del tuned
        again = Template(load_tokenizer(folder))
        proof = compare(before, what_it_says(load_model(folder), again, prompts), name="merged")
        (folder / "README.md").write_text(card, encoding="utf-8")
        return seal(folder, given, name="merged", proof=proof, at=out)


def write_model(model: PreTrainedModel, folder: Path, *, tokenizer_from: Path) -> None:
    """Write weights and config, and the base model's tokenizer files unchanged."""
    with quiet():
        model.save_pretrained(str(folder))
    for pattern in TOKENIZER_FILES:
        for path in sorted(tokenizer_from.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)
