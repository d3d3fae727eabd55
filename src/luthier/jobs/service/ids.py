"""Ids: made by the server only, of one form, and the only thing that a path in the home is ever built from."""

import hashlib
import re
import secrets
import string

ALPHABET = string.ascii_lowercase + string.digits
LENGTH = 24
FORM = re.compile(r"[a-z]+[-_][a-z0-9]{24}")


class Id(str):
    """An id of the form that this server makes; anything else cannot be one, and names no file."""

    __slots__ = ()

    def __new__(cls, text: str) -> "Id":
        """Check the form; raise ValueError for anything else."""
        if not FORM.fullmatch(text):
            raise ValueError("this is not an id")
        return super().__new__(cls, text)


def new_id(prefix: str) -> Id:
    """Return a fresh id, such as `file-…` for the prefix `file-`; 124 random bits."""
    return Id(prefix + "".join(secrets.choice(ALPHABET) for _ in range(LENGTH)))


def derived_id(prefix: str, *parts: object) -> Id:
    """Return the id that the same parts always give, so that work done twice is stored once."""
    number = int.from_bytes(hashlib.sha256("\n".join(map(str, parts)).encode()).digest(), "big")
    text = ""
    for _ in range(LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        text += ALPHABET[digit]
    return Id(prefix + text)
