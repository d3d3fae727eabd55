"""What a model folder's own files say of words and ends, beside what the tuned model was trained with."""

from pathlib import Path
from typing import TYPE_CHECKING

from luthier.jobs.export.source import Source

if TYPE_CHECKING:
    from luthier.model.template import Template

SETTINGS = "generation_config.json"


def wrong_words(source: Source, folder: Path) -> list[str]:
    """Return what is wrong with a folder's tokenizer files, whoever loads them; nothing where all is as in training.

    Luthier's own engine reads the template for the ends of answers and adds no token to a prompt; other programs go by
    these files.
    """
    from luthier.core.errors import ModelError
    from luthier.model.load import load_tokenizer
    from luthier.model.template import Template

    try:
        own = Template(load_tokenizer(folder))
    except ModelError as error:
        return [f"its tokenizer does not work: {error.what}"]
    reasons = []
    if own.source != source.template.source:
        reasons.append("its chat template is another")
    added = own.leading_ids
    if added != source.template.leading_ids:
        names = " ".join(f"`{name}`" for name in own.tokenizer.convert_ids_to_tokens(list(added))) or "nothing"
        usual = " ".join(f"`{name}`" for name in _names(source.template)) or "nothing"
        reasons.append(f"its tokenizer puts {names} before each text; in training it was {usual}")
    elif own.sha256 != source.template.sha256 and own.source == source.template.source:
        reasons.append("its tokenizer is another: the same text becomes other tokens")
    return reasons + _wrong_ends(source, folder)


def _names(template: "Template") -> list[str]:
    return list(template.tokenizer.convert_ids_to_tokens(list(template.leading_ids)))


def _wrong_ends(source: Source, folder: Path) -> list[str]:
    from luthier.model.checks import read_json

    told = read_json(folder / SETTINGS).get("eos_token_id")
    ends = set(told if isinstance(told, list) else [told])
    lost = sorted(source.template.stop_ids - ends)
    if not lost:
        return []
    names = ", ".join(f"`{source.template.tokenizer.convert_ids_to_tokens(token)}` ({token})" for token in lost)
    return [f"{names}, which ends an answer, is not among the ends that its {SETTINGS} names"]
