"""API keys: 256 random bits each; only a hash is kept, and a revoked key is refused at once."""

import hashlib
import hmac
import re
import secrets
import time
import zlib

from luthier.jobs.service.database import Database, as_record
from luthier.jobs.service.ids import new_id
from luthier.jobs.service.records import KeyRecord
from luthier.jobs.service.refusal import Refusal, not_found

PREFIX = "sk-ft-"
FORM = re.compile(r"sk-ft-([A-Za-z0-9_-]{43})([0-9a-f]{8})")
PROJECT = re.compile(r"[A-Za-z0-9_-]{1,64}")
LONGEST_NAME = 80


class Keys:
    """The keys of all projects."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def create(self, name: str, *, project_id: str = "default", admin: bool = False) -> tuple[KeyRecord, str]:
        """Make a key; its secret is returned here and never again."""
        if not PROJECT.fullmatch(project_id):
            raise Refusal("A project's id is made of letters, digits, '-' and '_', at most 64.", param="project_id")
        if not 1 <= len(name) <= LONGEST_NAME:
            raise Refusal(f"A key's name has 1 to {LONGEST_NAME} characters.", param="name")
        secret = new_secret()
        (row,) = self.database.query(
            "add_key",
            id=new_id("key_"),
            created_at=int(time.time()),
            name=name,
            hash=_hash(secret),
            last4=secret[-4:],
            project_id=project_id,
            admin=admin,
        )
        return as_record(KeyRecord, row), secret

    def check(self, secret: str) -> KeyRecord | None:
        """Return the key that a client shows, or None for one that is unknown, mistyped or revoked."""
        if not is_well_formed(secret):
            return None
        shown = _hash(secret)
        row = self.database.one("key_by_hash", hash=shown)
        # The index finds by hash, which tells nothing about a secret; the decision itself takes constant time.
        return as_record(KeyRecord, row) if row is not None and hmac.compare_digest(row["hash"], shown) else None

    def list(self) -> list[KeyRecord]:
        """Return all keys, the revoked ones too, oldest first."""
        return [as_record(KeyRecord, row) for row in self.database.query("keys")]

    def revoke(self, id: str) -> KeyRecord:
        """Refuse a key from now on."""
        row = self.database.one("revoke_key", id=id, now=int(time.time()))
        if row is None:
            raise not_found("Key", id)
        return as_record(KeyRecord, row)


def new_secret() -> str:
    """Return a fresh secret with its checksum, so that a mistyped one is known without a look-up."""
    body = secrets.token_urlsafe(32)
    return f"{PREFIX}{body}{_checksum(body)}"


def is_well_formed(secret: str) -> bool:
    """Say whether a text can be a key of ours."""
    match = FORM.fullmatch(secret)
    return match is not None and hmac.compare_digest(_checksum(match[1]), match[2])


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
