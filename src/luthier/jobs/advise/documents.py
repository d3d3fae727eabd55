"""The user's documents: read, cut into passages, and found again."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from luthier.core.errors import DataError

ENDINGS = (".txt", ".md", ".rst", ".jsonl", ".json", ".html", ".htm")
PASSAGE_WORDS = 120
MOST_BYTES = 200_000_000
TEXT_KEYS = ("text", "content", "body", "extract", "description")


def read_passages(folder: Path) -> list[str]:
    """Return the passages of all text files under a folder; DataError where there is none."""
    if not folder.is_dir():
        raise DataError("there is no such folder", where={"documents": folder}, hint="name a folder of text files")
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in ENDINGS and path.is_file()]
    size = sum(path.stat().st_size for path in files)
    if size > MOST_BYTES:
        why = f"its files have {size / 1e6:,.0f} MB, and {MOST_BYTES / 1e6:,.0f} are searched at most"
        raise DataError("the documents are too large", where={"documents": folder}, why=why, hint="name a part of them")
    passages = [passage for path in files for text in _texts(path) for passage in passages_of(text)]
    if not passages:
        hint = f"text files end with {', '.join(ENDINGS)}"
        raise DataError("there is no text in this folder", where={"documents": folder}, hint=hint)
    return list(dict.fromkeys(passages))


def passages_of(text: str, words: int = PASSAGE_WORDS) -> Iterator[str]:
    """Yield whole paragraphs together up to so many words; a longer one is cut, half of it said again."""
    gathered: list[str] = []
    for paragraph in (part.split() for part in text.split("\n\n")):
        if not paragraph:
            continue
        if gathered and len(gathered) + len(paragraph) > words:
            yield " ".join(gathered)
            gathered = []
        gathered += paragraph
        while len(gathered) > words:
            yield " ".join(gathered[:words])
            gathered = gathered[words // 2 :]
    if gathered:
        yield " ".join(gathered)


def _texts(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        hint = "save it as UTF-8, or take it out of the folder"
        why = f"byte {error.start + 1} is not UTF-8"
        raise DataError("a document cannot be read", where={"file": path}, why=why, hint=hint) from error
    if path.suffix.lower() in (".html", ".htm"):
        yield _without_tags(text)
    elif path.suffix.lower() == ".jsonl":
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield from _strings(_parsed(line, path, number))
    elif path.suffix.lower() == ".json":
        yield from _strings(_parsed(text, path, 1))
    else:
        yield text


def _parsed(text: str, path: Path, line: int) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        where = {"file": path, "line": line}
        raise DataError("a document is no JSON", where=where, why=str(error), hint="repair the line") from error


def _strings(value: object) -> Iterator[str]:
    """Yield the texts in JSON: of an object those under its usual keys, else all."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)
    elif isinstance(value, dict):
        usual: Sequence[object] = [value[key] for key in ("title", *TEXT_KEYS) if isinstance(value.get(key), str)]
        if usual:
            yield "\n".join(map(str, usual))
        else:
            for part in value.values():
                yield from _strings(part)


def _without_tags(text: str) -> str:
    from html.parser import HTMLParser

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.parts: list[str] = []
            self.hidden = 0

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.hidden += tag in ("script", "style")
            if tag in ("p", "div", "br", "li", "h1", "h2", "h3", "tr"):
                self.parts.append("\n\n")

        def handle_endtag(self, tag: str) -> None:
            self.hidden -= tag in ("script", "style")

        def handle_data(self, data: str) -> None:
            if not self.hidden:
                self.parts.append(data)

    reader = Reader()
    reader.feed(text)
    return "".join(reader.parts)
