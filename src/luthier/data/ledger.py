"""What the pass over all rows found: a few numbers for each row, and what is wrong with which."""

from array import array
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from luthier.data.answers import Answers
from luthier.data.duplicates import PERMUTATIONS
from luthier.data.formats.recognise import Format
from luthier.data.rows import RowIssue


@dataclass
class Ledger:
    """A few numbers for each row put aside; the rows themselves lie on disk."""

    part: array = field(default_factory=lambda: array("B"))
    source: array = field(default_factory=lambda: array("L"))
    row: array = field(default_factory=lambda: array("Q"))
    key: array = field(default_factory=lambda: array("Q"))
    """Hash of the whole content."""
    prompt: array = field(default_factory=lambda: array("Q"))
    """Hash of what precedes the answer; 0 where nothing does."""
    passage: array = field(default_factory=lambda: array("Q"))
    """Hash of the text that is asked about; 0 where there is none."""
    answer: array = field(default_factory=lambda: array("Q"))
    label: array = field(default_factory=lambda: array("l"))
    """Number of the answer in the closed set, or -1."""
    tokens: array = field(default_factory=lambda: array("L"))
    """Of both answers, where there is a rejected one."""
    longest: array = field(default_factory=lambda: array("L"))
    """Tokens of the prompt with the longer answer."""
    targets: array = field(default_factory=lambda: array("L"))
    answer_tokens: array = field(default_factory=lambda: array("L"))

    def column(self, name: str) -> np.ndarray:
        """Return one column as numbers."""
        return np.array(getattr(self, name))


@dataclass
class Survey:
    """What the pass found, and where it put the rows."""

    folder: Path
    format: Format
    files: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    """One per file: of its bytes, or of its rows where it has no bytes here."""
    ledger: Ledger = field(default_factory=Ledger)
    rows: int = 0
    """Rows seen, readable or not."""
    unreadable: list[RowIssue] = field(default_factory=list)
    dropped: list[RowIssue] = field(default_factory=list)
    cut: list[RowIssue] = field(default_factory=list)
    only_last: int = 0
    """Conversations whose earlier answers the template cannot train."""
    lengths: array = field(default_factory=lambda: array("L"))
    """Tokens of each readable row, before any is cut or dropped."""
    answers: Answers = field(default_factory=Answers)
    suspects: dict[str, list[str]] = field(default_factory=dict)
    """Rows, as `file:row`, by kind of suspect."""

    @property
    def rows_file(self) -> Path:
        """The rows put aside, in the order of the ledger."""
        return self.folder / "rows.arrow"

    @property
    def signatures_file(self) -> Path:
        """Their MinHash signatures, one after the other."""
        return self.folder / "signatures.u32"

    def signatures(self) -> np.ndarray:
        """Return the signatures, mapped from disk: 64 numbers a row."""
        if not self.ledger.row:
            return np.zeros((0, PERMUTATIONS), dtype=np.uint32)
        return np.memmap(self.signatures_file, dtype=np.uint32, mode="r").reshape(-1, PERMUTATIONS)

    def place(self, index: int) -> str:
        """Return where a row put aside comes from, as `file:row`."""
        return f"{self.files[self.ledger.source[index]]}:{self.ledger.row[index]}"
