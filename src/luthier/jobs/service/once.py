"""Requests with an Idempotency-Key: what is asked twice is done once, and answered alike."""

import json
import time
from collections.abc import Callable
from typing import Any

from luthier.jobs.service.database import Database
from luthier.jobs.service.refusal import Refusal

Reply = dict[str, Any]
KEPT_S = 24 * 3600
"""How long a key is remembered."""


class Once:
    """The replies of all projects."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def reply(self, owner: str, key: str, digest: str) -> Reply | None:
        """Return what was answered under this key, if it was used; Refusal if it was for something else."""
        row = self.database.one("reply", owner=owner, key=key, since=int(time.time()) - KEPT_S)
        if row is None:
            return None
        if row["digest"] != digest:
            message = "This Idempotency-Key was used for another request. Take a new key for each request."
            raise Refusal(message, status=409, code="idempotency_key_reused", param="Idempotency-Key")
        return json.loads(row["reply"])

    def do(self, owner: str, key: str, digest: str, *, work: Callable[[], Reply]) -> Reply:
        """Work and keep the reply, both or neither; where it was kept before, return that and do not work."""
        with self.database.transaction():
            known = self.reply(owner, key, digest)
            if known is not None:
                return known
            now, made = int(time.time()), work()
            self.database.query("forget_replies", since=now - KEPT_S)
            self.database.query("keep_reply", owner=owner, key=key, now=now, digest=digest, reply=made)
            return made
