"""A response while it is spoken: its items and the events that tell of them, in OpenAI's documented order."""

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from luthier.api.shapes_talk import Json
from luthier.jobs.service.calls import Call, Part


@dataclass
class Speech:
    """One response under way; each method yields the events that it causes."""

    head: Json
    """The response's fields that do not change."""
    output: list[Json] = field(default_factory=list)
    number: int = 0
    """Events so far."""
    with_logprobs: bool = False

    def begin(self) -> Iterator[Json]:
        """Tell that the response exists."""
        yield self._event("response.created", response=self.response("in_progress"))
        yield self._event("response.in_progress", response=self.response("in_progress"))

    def say(self, parts: Sequence[Part], logprobs: list[Json]) -> Iterator[Json]:
        """Tell of more text, and of calls; the log-probabilities go with the first text."""
        for part in parts:
            if isinstance(part, Call):
                yield from self._close_message("completed")
                yield from self._call(part)
            else:
                yield from self._text(part, logprobs)
                logprobs = []

    def end(self, finish: str | None, usage: Json) -> Iterator[Json]:
        """Tell that all is said; an answer cut at its limit is incomplete."""
        status = "incomplete" if finish == "length" else "completed"
        if not self.output:
            yield from self._text("", [])
        yield from self._close_message(status)
        yield self._event(f"response.{status}", response=self.response(status, usage=usage))

    def fail(self, message: str) -> Json:
        """Tell that the answer failed."""
        return self._event("response.failed", response=self.response("failed", error=message))

    def response(self, status: str, *, usage: Json | None = None, error: str | None = None) -> Json:
        """Return the response as it stands."""
        return {
            **self.head,
            "status": status,
            "completed_at": int(time.time()) if status == "completed" else None,
            "output": [*self.output],
            "usage": usage,
            "error": {"code": "server_error", "message": error} if error else None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        }

    def _event(self, kind: str, **fields: object) -> Json:
        self.number += 1
        return {"type": kind, "sequence_number": self.number - 1, **fields}

    def _text(self, text: str, logprobs: list[Json]) -> Iterator[Json]:
        if not self._open_message():
            yield from self._begin_message()
        item = self.output[-1]
        part = item["content"][0]
        # A new part each time: what was told before must not change afterwards.
        said = {**part, "text": part["text"] + text}
        if self.with_logprobs:
            said["logprobs"] = part["logprobs"] + logprobs
        self.output[-1] = {**item, "content": [said]}
        if text:
            yield self._event("response.output_text.delta", **self._place(item), delta=text, logprobs=logprobs)

    def _begin_message(self) -> Iterator[Json]:
        message = {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant"}
        self.output.append({**message, "status": "in_progress", "content": []})
        item = self.output[-1]
        yield self._event("response.output_item.added", output_index=len(self.output) - 1, item=item)
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        yield self._event("response.content_part.added", **self._place(item), part=part)
        self.output[-1] = {**item, "content": [part]}

    def _close_message(self, status: str) -> Iterator[Json]:
        if not self._open_message():
            return
        item = self.output[-1]
        part = item["content"][0]
        place = self._place(item)
        yield self._event("response.output_text.done", **place, text=part["text"], logprobs=part["logprobs"])
        yield self._event("response.content_part.done", **place, part=part)
        self.output[-1] = {**item, "status": status}
        index = len(self.output) - 1
        yield self._event("response.output_item.done", output_index=index, item=self.output[-1])

    def _call(self, call: Call) -> Iterator[Json]:
        item = {"id": f"fc_{secrets.token_hex(12)}", "type": "function_call", "call_id": call.id, "name": call.name}
        begun = {**item, "arguments": "", "status": "in_progress"}
        done = {**item, "arguments": call.arguments, "status": "completed"}
        index = len(self.output)
        self.output.append(done)
        place = {"item_id": item["id"], "output_index": index}
        yield self._event("response.output_item.added", output_index=index, item=begun)
        yield self._event("response.function_call_arguments.delta", **place, delta=call.arguments)
        yield self._event("response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments)
        yield self._event("response.output_item.done", output_index=index, item=done)

    def _open_message(self) -> bool:
        return bool(self.output) and self.output[-1]["type"] == "message" and self.output[-1]["status"] == "in_progress"

    def _place(self, item: Json) -> Json:
        return {"item_id": item["id"], "output_index": len(self.output) - 1, "content_index": 0}
