"""Endpoint: one question to any server that speaks OpenAI's chat completions."""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from luthier.core.errors import LuthierError, RecipeError

if TYPE_CHECKING:
    import httpx2

SERVED = "served"
"""The word for the address at which `luthier serve` listens unless told otherwise."""
SERVED_URL = "http://127.0.0.1:8765/v1"
TIMEOUT_S = 120.0
WAITS_S = (1.0, 2.0, 4.0)
"""Before the second, third and fourth try."""
LONGEST_WAIT_S = 60.0
LONGEST_REASON = 200
REFUSED = (401, 403, 404)
PASSING = (408, 409, 425, 429)


class EndpointError(LuthierError):
    """The model that judges cannot be asked at all."""

    code = "endpoint_failed"
    exit_status = 6


class UnansweredError(Exception):
    """This one question got no usable answer; the reason is the text."""

    def __init__(self, reason: str, *, is_outage: bool = False, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.is_outage = is_outage
        """Whether nothing answers there, so that the next question would fare no better."""
        self.wait_s = wait_s
        """How long the server wants to be left alone, where it says so."""


class _FinalError(UnansweredError):
    """Trying again would change nothing."""


@dataclass
class Endpoint:
    """An address, a model there, and how to ask it."""

    url: str
    model: str
    key: str = field(default="", repr=False)
    sleep: Callable[[float], None] = time.sleep
    options: dict[str, Any] = field(default_factory=lambda: {"temperature": 0, "max_tokens": 1024})
    """What is asked for beside the messages; a server that does not know one is asked without it."""

    @cached_property
    def _client(self) -> "httpx2.Client":
        import httpx2

        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return httpx2.Client(headers=headers, timeout=TIMEOUT_S)

    def ask(self, system: str, question: str, read: Callable[[str], str | None]) -> str:
        """Return what is read from the answer, trying again where there is none; raises UnansweredError in the end."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        for wait_s in (*WAITS_S, None):
            try:
                text = self._answer(messages)
                found = read(text)
                if found is None:
                    raise UnansweredError(f"no verdict in the answer: {self._short(text[-LONGEST_REASON:])}")
                return found
            except _FinalError:
                raise
            except UnansweredError as error:
                if wait_s is None:
                    raise
                self.sleep(min(error.wait_s or wait_s, LONGEST_WAIT_S))
        raise AssertionError("the last try either returns or raises")

    def _answer(self, messages: list[dict[str, str]]) -> str:
        reply = self._posted({"model": self.model, "messages": messages, **self.options})
        dropped = self._unknown_option(reply)
        while dropped:
            del self.options[dropped]
            reply = self._posted({"model": self.model, "messages": messages, **self.options})
            dropped = self._unknown_option(reply)
        if reply.status_code != 200:
            raise self._failure(reply)
        try:
            text = reply.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError):
            raise UnansweredError(f"no chat completion: {self._short(reply.text)}") from None
        if not isinstance(text, str) or not text.strip():
            raise UnansweredError("the model said nothing")
        return text

    def _posted(self, body: dict[str, Any]) -> "httpx2.Response":
        import httpx2

        try:
            # A redirect is not followed: the key is for this address alone.
            return self._client.post(f"{self.url}/chat/completions", json=body)
        except httpx2.RequestError as error:
            raise UnansweredError(self._short(f"{type(error).__name__}: {error}"), is_outage=True) from None

    def _unknown_option(self, reply: "httpx2.Response") -> str | None:
        if reply.status_code not in (400, 422):
            return None
        return next((name for name in self.options if name in reply.text), None)

    def _failure(self, reply: "httpx2.Response") -> UnansweredError:
        reason = self._short(f"status {reply.status_code}: {reply.text}")
        if reply.status_code in REFUSED:
            hint = (
                "name the variable that holds the key with `--key-env`, and a model that is served there with `--model`"
            )
            where = {"endpoint": self.url, "model": self.model}
            raise EndpointError("the endpoint refuses to judge", where=where, why=reason, hint=hint)
        if reply.status_code in PASSING or reply.status_code >= 500:
            told = reply.headers.get("retry-after", "")
            wait_s = float(told) if re.fullmatch(r"\d{1,6}(\.\d+)?", told) else None
            return UnansweredError(reason, is_outage=True, wait_s=wait_s)
        return _FinalError(reason)

    def _short(self, text: str) -> str:
        one_line = " ".join(text.split())
        # Some servers repeat the key they refuse.
        return (one_line.replace(self.key, "(key)") if self.key else one_line)[:LONGEST_REASON]


def open_endpoint(address: str, model: str, key_env: str) -> Endpoint:
    """Return the endpoint at an address; the key comes from an environment variable, where there is one."""
    url = SERVED_URL if address == SERVED else address.rstrip("/")
    url = url if "://" in url else f"http://{url}"
    if "@" in url:
        hint = "put the key into an environment variable and name it with `--key-env`"
        raise RecipeError("an address must not hold a password", where={"--with-model": "(hidden)"}, hint=hint)
    if not _is_address(url):
        hint = "such as https://api.openai.com/v1, or `served` for `luthier serve` on this machine"
        raise RecipeError("this is no address of an endpoint", where={"--with-model": address}, hint=hint)
    key = os.environ.get(key_env, "").strip()
    if not all("!" <= letter <= "~" for letter in key):
        raise RecipeError("this is no key", where={"variable": key_env}, hint="it holds letters that no key has")
    return Endpoint(url.removesuffix("/chat/completions"), model, key)


def _is_address(url: str) -> bool:
    import httpx2

    try:
        httpx2.URL(url)
    except httpx2.InvalidURL:
        return False
    return re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url) is not None
