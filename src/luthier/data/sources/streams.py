"""Bytes of a data file, unpacked where it is gzip, under a guard against bombs; and its lines."""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from luthier.core.errors import DataError

BOM = b"\xef\xbb\xbf"
MAX_LINE_BYTES = 64 << 20
BOMB_BYTES = 64 << 20
"""What may always be unpacked, however well it was packed."""
BOMB_RATIO = 200
"""Unpacked bytes per packed byte beyond which larger files are refused; text packs 3 to 30 times."""
MISTAKEN = {
    b"\x1f\x8b": ("it is gzip", "rename it to end in `.gz`"),
    b"PAR1": ("it is Parquet", "rename it to end in `.parquet`"),
    b"PK\x03\x04": ("it is a zip archive (or a spreadsheet)", "unpack it, or save it as CSV"),
    b"\xff\xfe": ("it is UTF-16, not UTF-8", "convert it with `iconv -f UTF-16 -t UTF-8`"),
    b"\xfe\xff": ("it is UTF-16, not UTF-8", "convert it with `iconv -f UTF-16 -t UTF-8`"),
}


class _Unpacked(io.RawIOBase):
    """A gzip file's content; damage and bombs become DataErrors while reading."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = gzip.GzipFile(path)
        self._total = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._file.read(len(buffer))
        except (EOFError, OSError, zlib.error) as error:
            where, hint = {"file": self._path}, "fetch it or pack it again"
            raise DataError("a gzip file is damaged or cut short", where=where, why=str(error), hint=hint) from error
        self._total += len(data)
        # By what is read so far, not by the whole file: a large bomb is refused as soon as a small one.
        check_bomb(self._path, self._total, max(BOMB_BYTES, BOMB_RATIO * self._file.fileobj.tell()))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def check_bomb(path: Path, unpacked: int, limit: int) -> None:
    """Refuse a small file that unpacks to more than `limit` bytes."""
    if unpacked > limit:
        why = f"{path.stat().st_size:,} bytes unpack to more than {limit:,}, over {BOMB_RATIO} times as much"
        raise DataError(
            "a file unpacks to suspiciously much",
            where={"file": path},
            why=why,
            hint="unpack it yourself if you trust it",
        )


def is_packed(path: Path) -> bool:
    """Return whether the file's name ends in `.gz`."""
    return path.suffix.lower() == ".gz"


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, through gzip where its name says so."""
    raw = io.BufferedReader(_Unpacked(path), 1 << 18) if is_packed(path) else path.open("rb")
    return raw  # type: ignore[return-value]


def open_text(path: Path) -> BinaryIO:
    """Open a text file behind its BOM; refuse what its first bytes show to be something else."""
    stream = open_bytes(path)
    head = stream.peek(4)[:4]  # type: ignore[attr-defined]
    for magic, (why, hint) in MISTAKEN.items():
        if head.startswith(magic):
            raise DataError("this file is not what its name says", where={"file": path}, why=why, hint=hint)
    if b"\0" in head:
        why = "its first bytes contain zeros: UTF-16, UTF-32, or no text at all"
        raise DataError("this file is not UTF-8 text", where={"file": path}, why=why, hint="save it as UTF-8")
    if head.startswith(BOM):
        stream.read(len(BOM))
    return stream


def lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Yield lines split at `\\n` only (never at U+2028); None stands for a line over 64 MB."""
    while line := stream.readline(MAX_LINE_BYTES):
        whole = len(line) < MAX_LINE_BYTES or line.endswith(b"\n")
        yield line if whole else None
        while not whole:
            rest = stream.readline(MAX_LINE_BYTES)
            whole = rest.endswith(b"\n") or not rest
