"""Another server as an engine: whatever speaks OpenAI's text completions, such as vLLM, llama.cpp's own or Ollama.

The prompt is made here, with the tokenizer and the template of a local folder, and sent as token ids. A server that
refuses ids gets the text behind them, of which it makes ids by itself: it may put a BOS before it, or, as Ollama does,
lay a template of its own around it, and neither can be seen from here. Stop texts are looked for here, too.
"""

import contextlib
import functools
import json
import math
import os
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from luthier.core.errors import LuthierError, ModelError
from luthier.model.load import context_length, load_tokenizer
from luthier.model.template import Template
from luthier.serve.engines.line import LONGEST_WAIT_S, Line, Turn
from luthier.serve.request import (
    Ask,
    Chance,
    EngineError,
    EngineStats,
    Heard,
    Piece,
    QueueFullError,
    Spoken,
    answer_limit,
)
from luthier.serve.spec import ServeSpec
from luthier.serve.text import Speaker

CONNECT_S, SILENCE_S = 10.0, 600.0
BUSY = (429, 503)
NO_ACCESS = (401, 403)
NO_IDS = (400, 422, 500)
"""What servers answer that do not take ids."""
LONGEST_REASON = 200
SEEDS = 2**31
UNKNOWN = -1
ID = re.compile(r"token_id:(\d+)")
Json = dict[str, Any]


class RemoteEngine:
    """An engine over one model of another server; see `serve.request.Engine`."""

    def __init__(self, url: str, model: str, folder: Path, spec: ServeSpec, key: str | None) -> None:
        """Take an address with its `/v1`, the model's name there, and the folder of its tokenizer and template.

        Nothing is asked yet. The server's own template is never seen, so `render` and `encode` say what is done here.
        Raise ModelError for an address or a key that can be none.
        """
        self._url, self._model, self._key = _checked(url), model, (key or "").strip()
        if not all("!" <= letter <= "~" for letter in self._key):
            raise ModelError("this is no key", where={"server": self._url}, why="it holds letters that no key has")
        self._template = Template(load_tokenizer(folder))
        self._tokenizer, self.stop_ids = self._template.tokenizer, self._template.stop_ids
        self.context: float = context_length(folder)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        # A connection serves one request, so that ending it cancels just that.
        self._client = httpx2.Client(
            headers=headers,
            timeout=httpx2.Timeout(SILENCE_S, connect=CONNECT_S),
            limits=httpx2.Limits(max_keepalive_connections=0, max_connections=spec.rows + 1),
        )
        self._line = Line(self._answer, rows=spec.rows, queue=spec.queue, tokens=math.inf)
        self._takes_ids = True

    def submit(self, ask: Ask, heard: Heard) -> Turn:
        """Put a request in line and return at once; raise QueueFullError where the line is full."""
        if ask.adapter is not None or ask.sampling.grammar:
            what = "takes no adapter" if ask.adapter is not None else "cannot hold answers to a grammar"
            raise EngineError(f"this engine {what}", why="the model is another server's", hint="serve the model here")
        limit = answer_limit(ask, self.context)
        return self._line.join(Turn(ask, heard, limit))

    def embed(self, prompts: Sequence[Sequence[int]], adapter: Path | None = None) -> list[list[float]]:
        """Raise EngineError: another server pools as it likes."""
        raise EngineError("this engine embeds nothing", why="another server's vectors are pooled in a way of its own")

    def render(self, messages: Sequence[Json], tools: Sequence[Json] = ()) -> str:
        """Return a conversation as text, by the local folder's template."""
        return self._template.as_text(messages, tools)

    def encode(self, rendered: str) -> list[int]:
        """Return a rendered prompt's ids; templates write their own BOS."""
        return self._template.ids_of(rendered)

    def chances(
        self, prompt: Sequence[int], answer: Sequence[int], adapter: Path | None = None
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Raise EngineError: OpenAI's API tells a few alternatives, and no server can be asked for all."""
        raise EngineError("another server does not say how likely each token is")

    def unload(self, adapter: Path) -> None:
        """Do nothing: no adapter was ever taken."""

    def stats(self) -> EngineStats:
        """Return the present state of the line here."""
        return self._line.stats()

    def close(self) -> None:
        """Hang up; requests under way are told."""
        self._line.close()
        self._client.close()

    def _answer(self, turn: Turn) -> Iterator[Piece]:
        try:
            with self._reply(turn) as reply:
                yield from self._pieces(turn, _events(reply))
        except httpx2.TimeoutException as error:
            raise self._error("the server does not answer in time", type(error).__name__) from None
        except httpx2.ConnectError as error:
            raise self._error("the server cannot be reached", str(error)) from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise self._error("the connection to the server broke", f"{type(error).__name__}: {error}") from None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._error("the server said something unintelligible", type(error).__name__) from None
        finally:
            turn.hang_up = None

    @contextlib.contextmanager
    def _reply(self, turn: Turn) -> Iterator[httpx2.Response]:
        """Send a request, with ids and, where the server refuses those, with the text."""
        body, refused = self._body(turn), False
        if self._takes_ids:
            with self._sent(turn, body) as reply:
                refused = reply.status_code in NO_IDS
                if not refused:
                    yield self._checked_reply(reply)
            if not refused:
                return
        with self._sent(turn, body | {"prompt": self._text(turn.ask.ids)}) as reply:
            checked = self._checked_reply(reply)
            self._takes_ids = False
            yield checked

    def _sent(self, turn: Turn, body: Json) -> "contextlib.AbstractContextManager[httpx2.Response]":
        def trace(event: str, info: Json) -> None:
            if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
                sock = info["return_value"].get_extra_info("socket")
                turn.hang_up = functools.partial(_shut, sock)
                # It may have been cancelled a moment before there was anything to end.
                if turn.cancelled:
                    _shut(sock)

        # A redirect is not followed: the key is for this address alone.
        return self._client.stream("POST", f"{self._url}/completions", json=body, extensions={"trace": trace})

    def _checked_reply(self, reply: httpx2.Response) -> httpx2.Response:
        status = reply.status_code
        if status == 200:
            return reply
        reply.read()
        reason = f"status {status}: {_message(reply)}"
        if status in BUSY:
            busy = QueueFullError("the server is busy", where={"server": self._url}, why=self._clean(reason))
            told = reply.headers.get("retry-after", "")
            if re.fullmatch(r"\d{1,6}", told):
                busy.retry_after_s = min(max(1, int(told)), LONGEST_WAIT_S)
            raise busy
        if status in NO_ACCESS:
            raise self._error("the server lets nobody in with this key", reason)
        raise self._error("the server refused the request", reason)

    def _pieces(self, turn: Turn, events: Iterator[Json]) -> Iterator[Piece]:
        """Yield what the server says; its usage, which comes after the end, corrects the number of tokens."""
        speaker, told, last = Speaker(self._tokenizer, turn.ask.sampling.stop), 0, None
        for event in events:
            if event.get("error"):
                raise self._error("the server failed", _worded(event["error"]))
            used = (event.get("usage") or {}).get("completion_tokens")
            choice = next(iter(event.get("choices") or ()), None)
            if choice is not None and last is None:
                tokens = self._spoken(choice.get("logprobs"), turn.ask.sampling.logprobs)
                said = choice.get("text") or ""
                text, new = speaker.certain(said), len(tokens) or bool(said)
                if choice.get("finish_reason") and not speaker.stopped:
                    finish = "length" if choice["finish_reason"] == "length" else "stop"
                    last = Piece(text + speaker.rest(), tokens, new, finish=finish)
                elif speaker.stopped:
                    yield Piece(text, tokens, new, finish="stop")
                    return
                elif text or tokens:
                    told += new
                    yield Piece(text, tokens, new)
            if last is not None and used is not None:
                last = Piece(last.text, last.tokens, max(int(used) - told, 0), finish=last.finish)
        if last is not None:
            yield last

    def _spoken(self, told: Json | None, count: int | None) -> tuple[Spoken, ...]:
        """Return tokens with their log-probabilities, from OpenAI's form or from llama.cpp's."""
        if not told or count is None:
            return ()
        if "content" in told:
            return tuple(
                Spoken(self._named(one), tuple(self._named(other) for other in one.get("top_logprobs", ())[:count]))
                for one in told["content"]
            )
        others = told.get("top_logprobs") or [None] * len(told["tokens"])
        rows = zip(told["tokens"], told["token_logprobs"], others, strict=True)
        return tuple(
            Spoken(self._chance(token, chance), tuple(self._chance(*one) for one in [*(likely or {}).items()][:count]))
            for token, chance, likely in rows
        )

    def _named(self, one: Json) -> Chance:
        if "id" not in one:
            return self._chance(one["token"], one["logprob"])
        data = bytes(one.get("bytes") or one["token"].encode())
        return Chance(int(one["id"]), one["token"], data, float(one["logprob"]))

    def _chance(self, token: str, logprob: float) -> Chance:
        """Return a token that is named by its text, or by its id as vLLM can; a text may be no single token."""
        found = ID.fullmatch(token)
        if found:
            number = int(found.group(1))
            text = self._tokenizer.decode([number])
        else:
            ids, text = self._tokenizer.encode(token, add_special_tokens=False), token
            number = ids[0] if len(ids) == 1 else UNKNOWN
        return Chance(int(number), text, text.encode(errors="replace"), float(logprob))

    def _body(self, turn: Turn) -> Json:
        asked = turn.ask.sampling
        body: Json = {
            "model": self._model,
            "prompt": list(turn.ask.ids),
            "max_tokens": turn.limit,
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "seed": int.from_bytes(os.urandom(4)) % SEEDS if asked.seed is None else asked.seed % SEEDS,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        more = {
            "frequency_penalty": asked.frequency_penalty,
            "presence_penalty": asked.presence_penalty,
            "logit_bias": {str(token): bias for token, bias in asked.logit_bias.items()},
        }
        # Not every server knows these: they are sent where they change something.
        body |= {name: value for name, value in more.items() if value}
        return body if asked.logprobs is None else body | {"logprobs": max(asked.logprobs, 1)}

    def _text(self, ids: Sequence[int]) -> str:
        """Return a prompt's text, without a BOS that a server with this tokenizer puts there by itself."""
        text, bos = str(self._tokenizer.decode(list(ids), skip_special_tokens=False)), self._tokenizer.bos_token
        shorter = text.removeprefix(bos) if bos else text
        return shorter if self._tokenizer.encode(shorter, add_special_tokens=True) == list(ids) else text

    def _error(self, what: str, why: str) -> LuthierError:
        return EngineError(what, where={"server": self._url}, why=self._clean(why), hint="is it up, and the right one?")

    def _clean(self, text: str) -> str:
        """Return a reason in one line; some servers repeat the key they refuse."""
        one_line = " ".join(text.split())
        return (one_line.replace(self._key, "(key)") if self._key else one_line)[:LONGEST_REASON]


def _checked(url: str) -> str:
    """Return an address without its last slash; raise ModelError where it is none, or holds a password."""
    if "@" in url:
        hint = "put the key into an environment variable and name it with `key_env`"
        raise ModelError("an address must not hold a password", where={"server": "(hidden)"}, hint=hint)
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
        hint = "such as http://127.0.0.1:8000/v1"
        raise ModelError("this is no address of a server", where={"server": url}, hint=hint)
    return url.rstrip("/").removesuffix("/completions")


def _events(reply: httpx2.Response) -> Iterator[Json]:
    """Yield what a server sends, event by event; one that does not stream sends all at once."""
    if "event-stream" not in reply.headers.get("content-type", ""):
        yield _parsed(reply.read())
        return
    for line in reply.iter_lines():
        data = line.removeprefix("data:").strip()
        if line.startswith("data:") and data != "[DONE]":
            yield _parsed(data)


def _parsed(data: str | bytes) -> Json:
    told = json.loads(data)
    if not isinstance(told, dict):
        raise TypeError("no object")
    return told


def _message(reply: httpx2.Response) -> str:
    try:
        return _worded(_parsed(reply.content).get("error", reply.text))
    except (ValueError, TypeError):
        return reply.text


def _worded(error: object) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def _shut(sock: socket.socket) -> None:
    """Wake whoever reads from a socket, and let the server see that nobody listens."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
