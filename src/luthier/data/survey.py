"""The one pass over all rows: read, tokenise, put aside on disk, and keep a few numbers of each."""

import hashlib
import time
from contextlib import ExitStack
from pathlib import Path

from luthier.core.events import Emit, Event
from luthier.core.files import disk_errors
from luthier.data.duplicates import Shingler, own_text
from luthier.data.ledger import Survey
from luthier.data.opened import PARTS, Opened, encode_row, read_row
from luthier.data.rows import RawRow, RowIssue
from luthier.data.sources.find import Source
from luthier.data.suspects import suspects_in
from luthier.examples.example import Example
from luthier.examples.store import Encoded, SplitWriter
from luthier.model.bitext import Bitext, longer_side
from luthier.model.reader import Reader, cut_encoded
from luthier.model.template import Template

Maker = Template | Reader | Bitext
"""What makes tokens of rows."""
PROGRESS_S = 0.5
LATER = ("rejected", "labels", "score", "spans", "quotes", "others")
"""Fields of examples that older versions did not have."""
MAX_UNREADABLE = 10_000
"""Unreadable rows after which a run that must stop anyway stops reading."""


class Surveyor:
    """Reads every row of every part once."""

    def __init__(
        self, opened: Opened, template: Maker, *, shingler: Shingler, limit: int, folder: Path, emit: Emit
    ) -> None:
        self._opened, self._template, self._shingler = opened, template, shingler
        self._limit, self._emit = limit, emit
        self._stops = opened.spec.unreadable_rows == "stop"
        self._seen: dict[bytes, tuple[str, int]] = {}
        self._told_s = time.monotonic()
        self._stack = ExitStack()
        self.survey = Survey(folder, opened.format)

    def run(self) -> Survey:
        """Do the pass and return what it found."""
        survey = self.survey
        with disk_errors(survey.folder), self._stack:
            self._signatures = self._stack.enter_context(survey.signatures_file.open("wb"))
            self._rows = self._stack.enter_context(SplitWriter(survey.rows_file))
            for part, name in enumerate(PARTS):
                self._seen.clear()
                for source in self._opened.sources[name]:
                    self._read(source, part)
        return survey

    def _read(self, source: Source, part: int) -> None:
        survey = self.survey
        survey.files.append(source.name)
        content = hashlib.sha256()
        for row in source.rows():
            survey.rows += 1
            self._tell()
            read = read_row(row, self._opened.format)
            issue = read if isinstance(read, RowIssue) else self._take(read, part, content)
            if issue is not None:
                survey.unreadable.append(issue)
            if self._stops and len(survey.unreadable) >= MAX_UNREADABLE:
                break
        survey.hashes.append(source.sha256() or content.hexdigest())

    def _take(self, example: Example, part: int, content: "hashlib._Hash") -> RowIssue | None:
        """Put a row aside, or note why it is left out; return an issue if the template cannot read it."""
        # Rows without what came later have the keys, and so the splits, that they always had.
        later = {name for name in LATER if getattr(example, name) is None}
        key = _digest(example.model_dump_json(exclude={"file", "row"} | later))
        content.update(key)
        self._note_suspects(example)
        first = self._seen.setdefault(key, (example.file, example.row))
        if first != (example.file, example.row) and self._opened.spec.repeats == "drop":
            return self._drop(example, "duplicate", f"the same as {first[0]}:{first[1]}")
        # A run that will stop only needs the other unreadable rows, not the tokens.
        if self._stops and self.survey.unreadable:
            return None
        encoded = encode_row(example, self._template.encode)
        if isinstance(encoded, RowIssue):
            return encoded
        self._keep(example, encoded, part, key)
        return None

    def _keep(self, example: Example, encoded: Encoded, part: int, key: bytes) -> None:
        survey, tokens = self.survey, limited_tokens(encoded, self._template)
        survey.lengths.append(tokens)
        if _says_nothing(encoded):
            self._drop(example, "no_target", "no token of it would be trained")
            return
        if example.is_windowed:
            self._keep_pair(example, encoded, part, key)
            return
        cut = tokens > self._limit
        if cut and self._opened.spec.too_long == "drop":
            self._drop(example, "too_long", f"{tokens:,} tokens, more than {self._limit:,}")
            return
        if cut:
            encoded = self._cut(example, encoded)
            if _says_nothing(encoded):
                self._drop(
                    example, "too_long", f"of {tokens:,} tokens, none of the first {self._limit:,} would be trained"
                )
                return
            reason = f"{tokens:,} tokens, cut to {self._limit:,}"
            survey.cut.append(RowIssue(example.file, example.row, "cut", reason))
        survey.only_last += encoded.only_last
        self._put_aside(example, encoded, part, key)

    def _keep_pair(self, example: Example, encoded: Encoded, part: int, key: bytes) -> None:
        """Put a question and its text aside, however long the text: training and exam read it in windows."""
        rest = len(encoded.ids) - len(encoded.words)
        if len(encoded.ids) > self._limit and 2 * rest > self._limit:
            why = f"the question takes {rest:,} tokens, more than half of {self._limit:,}, and the text does not fit"
            self._drop(example, "too_long", why)
            return
        self._put_aside(example, encoded, part, key)

    def _cut(self, example: Example, encoded: Encoded) -> Encoded:
        if isinstance(self._template, Bitext):
            return self._template.cut(encoded, self._limit)
        return cut_encoded(encoded, self._limit) if example.is_judged else _cut(encoded, self._limit)

    def _put_aside(self, example: Example, encoded: Encoded, part: int, key: bytes) -> None:
        ledger, context = self.survey.ledger, example.context
        ledger.part.append(part)
        ledger.source.append(len(self.survey.files) - 1)
        ledger.row.append(example.row)
        ledger.key.append(_number(key))
        ledger.prompt.append(
            _number(_digest(context.model_dump_json(exclude={"file", "row", "label", *LATER}))) if context else 0
        )
        ledger.passage.append(_number(_digest(example.passage)) if example.passage else 0)
        # Several pairs of one prompt, or of one text, do not contradict each other.
        ledger.answer.append(0 if example.rejected or example.others else _number(_digest(example.answer)))
        ledger.label.append(self.survey.answers.add(example))
        lengths = [len(answer.ids) for answer in encoded.answers]
        ledger.tokens.append(sum(lengths))
        ledger.longest.append(max(lengths))
        ledger.targets.append(sum(sum(answer.targets) for answer in encoded.answers))
        ledger.answer_tokens.append(max(lengths) - encoded.prompt_tokens)
        self._signatures.write(self._shingler.signature(own_text(example)).tobytes())
        self._rows.add(encoded, example)

    def _drop(self, example: Example, code: str, reason: str) -> None:
        self.survey.dropped.append(RowIssue(example.file, example.row, code, reason))

    def _note_suspects(self, example: Example) -> None:
        for kind in suspects_in(_all_text(example)):
            self.survey.suspects.setdefault(kind, []).append(f"{example.file}:{example.row}")

    def _tell(self) -> None:
        if time.monotonic() - self._told_s >= PROGRESS_S:
            self._told_s = time.monotonic()
            self._emit(Event(room="data", kind="progress", message="reading rows", data={"rows": self.survey.rows}))


def limited_tokens(encoded: Encoded, template: Maker) -> int:
    """Return how many tokens of a row count for its limit: those of the longer answer, or of a bitext's longer side."""
    if isinstance(template, Bitext):
        return longer_side(encoded)
    return max(len(answer.ids) for answer in encoded.answers)


def learn_shingles(opened: Opened) -> Shingler:
    """Return a shingler that knows from the first rows what is common to many."""
    read = (read_row(RawRow("", 0, value), opened.format) for value in opened.sample.rows)
    return Shingler(own_text(example) for example in read if isinstance(example, Example))


def _cut(encoded: Encoded, limit: int) -> Encoded:
    prompt, rejected = min(encoded.prompt_tokens, limit), encoded.rejected and _cut(encoded.rejected, limit)
    return Encoded(encoded.ids[:limit], encoded.targets[:limit], prompt, encoded.only_last, rejected)


def _says_nothing(encoded: Encoded) -> bool:
    """Return whether nothing can be learnt from a row: no token is trained, or both answers are the same."""
    same = encoded.rejected is not None and encoded.rejected.ids == encoded.ids
    return same or not all(any(answer.targets) for answer in encoded.answers)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _number(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little")


def _all_text(example: Example) -> str:
    messages = [*example.messages, *filter(None, [example.rejected])]
    return "\n".join([message.content for message in messages] + [*example.texts])
