"""How training rows speak: read from them, so that a typed message reaches the model as a trained one did."""

import os

from luthier.examples.example import Example
from luthier.export.manifest import Manner

LOOKED_AT = 64
"""Training rows from which the manner of speaking is read."""
PARAGRAPH = "\n\n"


def manner_of(examples: list[Example], text_template: str | None = None) -> Manner:
    """Read the manner from training rows, and from the template of rows that are bare text."""
    if any(example.segments for example in examples):
        before, after = _around(text_template) if text_template else ("", "")
        return Manner(instruction=before, closing=after, raw=True)
    questions = [[m.content for m in example.messages if m.role == "user"] for example in examples]
    systems = {next((m.content for m in example.messages if m.role == "system"), "") for example in examples}
    many = any(len(asked) > 1 for asked in questions)
    shared = os.path.commonprefix([asked[0] for asked in questions if asked]) if len(examples) > 1 else ""
    end = shared.rfind(PARAGRAPH)
    instruction = "" if many or end < 0 else shared[: end + len(PARAGRAPH)]
    return Manner(system=systems.pop() if len(systems) == 1 else "", instruction=instruction, many_turns=many)


def _around(text_template: str) -> tuple[str, str]:
    """Return what stands before and after the one field that is not learned; nothing where there are several."""
    from luthier.data.formats.templated import pieces_of

    pieces = pieces_of(text_template)
    fields = [place for place, (_, is_field) in enumerate(pieces) if is_field]
    if len(fields) != 2:
        return "", ""
    texts = [text for text, _ in pieces]
    return "".join(texts[: fields[0]]), "".join(texts[fields[0] + 1 : fields[1]])
