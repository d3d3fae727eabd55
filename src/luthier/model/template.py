"""Template: messages to token ids, and which of them carry loss; the same in training, evaluation and chat.

Loss falls by position, never by token id: pad and end-of-turn are one token in many models, and a model that is not
trained on its end-of-turn never stops.
"""

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from luthier.core.errors import DataError, ModelError
from luthier.core.files import sha256_of_json
from luthier.examples.example import Example, Message
from luthier.examples.store import Encoded
from luthier.model.checks import read_json
from luthier.model.messages import PLAIN_TEMPLATE, RENDER_ERRORS, TemplateError, Wording
from luthier.model.render import Page

PROBE_QUESTION, PROBE_ANSWER = "probe question", "probe answer"
THINK, THOUGHT = "<think>", "</think>"
NO_THOUGHT = f"\n{THOUGHT}\n\n"
"""Closes a thought that the prompt has opened, with nothing in it."""


@dataclass(frozen=True)
class Piece:
    """Text that is tokenised by itself, so that what precedes an answer has the same ids with and without it."""

    text: str
    target: bool = False
    ends: bool = False
    """The end-of-text token follows, since the template ends this turn with no token of its own."""


@dataclass(frozen=True)
class Turn:
    """Where the assistant's answer, with its end-of-turn token, lies in the conversation rendered up to it."""

    rendered: str
    start: int
    end: int
    marked: bool
    """Whether the template ends the turn with a special token."""
    asked: str
    """The prompt a request for this answer sends."""

    def piece(self, *, target: bool) -> Piece:
        """Return the answer as a piece."""
        text = self.rendered[self.start : self.end]
        # Left open, the thought would swallow the answer: who reads the model's text takes what follows the thought.
        if self.asked.rstrip().endswith(THINK) and THOUGHT not in text:
            text = NO_THOUGHT + text.lstrip("\n")
        return Piece(text, target, ends=not self.marked)


class Template:
    """A model's chat template with its tokenizer; models without one get a plain built-in text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, render: Callable[[Page], str] | None = None) -> None:
        self.tokenizer = tokenizer
        self._elsewhere = render
        """Renders outside this process, for conversations of strangers; the bytes are the same."""
        self.has_chat = bool(tokenizer.chat_template)
        self.source: str | dict[str, str] = tokenizer.chat_template or PLAIN_TEMPLATE
        """The template's text; several by name where the model has several."""
        self._chosen = None if self.has_chat else PLAIN_TEMPLATE
        sources = self.source if isinstance(self.source, str) else " ".join(self.source.values())
        self._wording = Wording(sources)
        self._thinks = THINK in sources or THOUGHT in sources
        if tokenizer.eos_token_id is None:
            raise ModelError("the model's tokenizer has no end-of-text token", where={"model": tokenizer.name_or_path})
        self.eos_id: int = tokenizer.eos_token_id
        self.pad_id: int = self.eos_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._specials = _special_tokens(tokenizer)
        self._bos_ids = _leading_ids(tokenizer)
        self._glue_ids = _glue_ids(tokenizer)
        self._end_of_turn, self._answer_start = self._probe()

    def encode(self, example: Example) -> Encoded:
        """Return the ids up to the last trained token (nothing later could matter), whole and uncut."""
        if example.segments:
            return self._encode_segments(example)
        last = _last_trained(example.messages)
        if last is None:
            ids = self.prompt_ids(example)
            return Encoded(ids, [False] * len(ids), len(ids))
        pieces, stable = self._prompt(example.messages[:last], example.tools)
        prompt = self._tokens(pieces)
        answer = self._turn(example.messages[: last + 1], example.tools).piece(target=True)
        tokens = prompt + self._tokens([answer])
        lost = not stable and any(m.role == "assistant" and m.weight for m in example.messages[:last])
        return _encoded(tokens, len(prompt), only_last=lost)

    def prompt_ids(self, example: Example) -> list[int]:
        """Return what a request for the example's answer sends: the first `prompt_tokens` ids of `encode`."""
        if example.segments:
            return self._bos_ids + self._ids(self._segments(example)[0])
        last = _last_trained(example.messages)
        return self.messages_ids(example.messages[:last], example.tools)

    def messages_ids(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        """Return the ids of a conversation that the assistant is to continue."""
        return self._ids(self._prompt(messages, tools)[0])

    def as_text(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()) -> str:
        """Return a conversation that is worded for the template already, as an engine is given it, as text."""
        made = self.tokenizer.apply_chat_template(
            list(messages),
            tools=list(tools) or None,
            chat_template=self._chosen,
            add_generation_prompt=True,
            tokenize=False,
        )
        return str(made)

    def ids_of(self, rendered: str) -> list[int]:
        """Return a rendered prompt's ids; templates write their own BOS."""
        return list(self.tokenizer.encode(rendered, add_special_tokens=False))

    def worded(self, example: Example) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return a request for the example's answer as any engine's template takes it: messages and tools."""
        messages = example.messages[: _last_trained(example.messages)]
        return self._wording.messages(messages, example.tools), self._wording.tools(example.tools) or []

    def rendered(self, example: Example) -> str:
        """Return the text of a request for the example's answer."""
        return self._render(example.messages[: _last_trained(example.messages)], example.tools)

    def text(self, ids: Iterable[int]) -> str:
        """Return the text of generated ids, without special tokens and, for models that think aloud, the thinking."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if not self._thinks or not (THINK in self._answer_start or text.lstrip().startswith(THINK)):
            return text
        return text.rpartition(THOUGHT)[2].lstrip("\n") if THOUGHT in text else ""

    @property
    def opens_thought(self) -> bool | None:
        """Whether a request's prompt already begins a thought; None for a model that does not think aloud."""
        return THINK in self._answer_start if self._thinks else None

    @functools.cached_property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an answer: end-of-turn, end-of-text, and those the model's own settings name."""
        named = read_json(Path(self.tokenizer.name_or_path or ".") / "generation_config.json").get("eos_token_id")
        ids = {self.eos_id, *(named if isinstance(named, list) else [named] if named is not None else [])}
        if self._end_of_turn:
            ids.add(self.tokenizer.convert_tokens_to_ids(self._end_of_turn))
        return frozenset(ids)

    @property
    def leading_ids(self) -> tuple[int, ...]:
        """The ids, most often a BOS, that the tokenizer puts before a text by itself; prompts are made without them."""
        return tuple(self._bos_ids)

    @property
    def end_of_turn_id(self) -> int:
        """The id that ends a trained answer."""
        return self.tokenizer.convert_tokens_to_ids(self._end_of_turn) if self._end_of_turn else self.eos_id

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of template and tokenizer: the same hash means the same ids."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        vocabulary = backend.to_str() if backend else self.tokenizer.get_vocab()
        return sha256_of_json([self.source, vocabulary, self.eos_id, self._bos_ids])

    def _probe(self) -> tuple[str | None, str]:
        """Return the special token the template writes after an answer, and what it writes to begin one."""
        question = Message(role="user", content=PROBE_QUESTION)
        answered = [question, Message(role="assistant", content=PROBE_ANSWER)]
        try:
            asked, opened = self._render([question], answer_next=False), self._render([question])
            _, shown, tail = self._render(answered, answer_next=False).rpartition(PROBE_ANSWER)
        except TemplateError as error:
            raise ModelError("the model's chat template does not work", why=error.why) from error
        if not shown:
            raise ModelError("the model's chat template does not show the assistant's answers")
        found = [token for token in self._specials if token in tail]
        return min(found, key=tail.index, default=None), opened[len(os.path.commonprefix([asked, opened])) :]

    def _prompt(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> tuple[list[Piece], bool]:
        """Return the prompt as pieces, and whether earlier answers stand in it just as they were trained."""
        if not messages:
            turn = self._turn([Message(role="assistant", content=PROBE_ANSWER)], tools)
            return [Piece(turn.rendered[: turn.start])], True
        prompt = self._render(messages, tools)
        pieces, at = [], 0
        for index, message in enumerate(messages):
            if message.role != "assistant":
                continue
            turn = self._turn(messages[: index + 1], tools)
            kept = prompt.startswith(turn.asked) and prompt.startswith(turn.rendered[: turn.end])
            if not kept or turn.start < at:
                return [Piece(prompt)], False
            pieces += [Piece(prompt[at : turn.start]), turn.piece(target=message.weight == 1)]
            at = turn.end
        return [*pieces, Piece(prompt[at:])], True

    def _turn(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> Turn:
        """Find the last message, an answer, in the conversation that ends with it."""
        rendered = self._render(messages, tools, answer_next=False)
        asked = self._asked(messages[:-1], tools, rendered)
        # Some templates open an answer with more than they keep of it (`<think>`): the answer starts where they part.
        start = len(os.path.commonprefix([asked, rendered]))
        at = rendered.rfind(self._end_of_turn, start) if self._end_of_turn else -1
        if at >= 0:
            return Turn(rendered, start, at + len(self._end_of_turn or ""), marked=True, asked=asked)
        end = max(start, len(rendered.rstrip()))
        return Turn(rendered, start, end, marked=rendered[start:end].endswith(self._specials), asked=asked)

    def _asked(self, before: Sequence[Message], tools: Sequence[dict[str, Any]], rendered: str) -> str:
        """Return the prompt of an answer, and refuse one whose question changes in what is then `rendered`."""
        if not before:
            at = rendered.find(self._answer_start)
            if at < 0:
                raise TemplateError("the model's chat template cannot begin with an answer")
            return rendered[: at + len(self._answer_start)]
        asked = self._render(before, tools)
        if not rendered.startswith(asked):
            question = os.path.commonprefix([asked, self._render(before, tools, answer_next=False).rstrip()])
            if not rendered.startswith(question):
                raise TemplateError("the model's chat template renders a question differently once it is answered")
        return asked

    def _render(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = (), *, answer_next: bool = True
    ) -> str:
        worded, offered = self._wording.messages(messages, tools), self._wording.tools(tools)
        try:
            if self._elsewhere:
                source = self.tokenizer.get_chat_template(self._chosen, offered)
                return self._elsewhere(Page(source, worded, offered, answer_next, self.tokenizer.special_tokens_map))
            return self.tokenizer.apply_chat_template(
                worded,
                tools=offered,
                chat_template=self._chosen,
                add_generation_prompt=answer_next,
                tokenize=False,
            )
        except RENDER_ERRORS as error:
            raise TemplateError("the model's chat template refuses these messages", why=str(error)) from error

    def _encode_segments(self, example: Example) -> Encoded:
        before, after = self._segments(example)
        prompt = [(token, False) for token in self._bos_ids] + self._tokens(before)
        return _encoded(prompt + self._tokens(after), len(prompt))

    def _segments(self, example: Example) -> tuple[list[Piece], list[Piece]]:
        """Return raw text as pieces: those before the first trained one, and the rest up to the last trained one."""
        trained = [index for index, segment in enumerate(example.segments) if segment.target]
        if not trained:
            return [Piece(segment.text) for segment in example.segments], []
        pieces = [Piece(s.text, s.target, ends=index == trained[-1]) for index, s in enumerate(example.segments)]
        return pieces[: trained[0]], pieces[trained[0] : trained[-1] + 1]

    def _tokens(self, pieces: Iterable[Piece]) -> list[tuple[int, bool]]:
        return [(token, piece.target) for piece in pieces for token in self._piece_ids(piece)]

    def _ids(self, pieces: Iterable[Piece]) -> list[int]:
        return [token for piece in pieces for token in self._piece_ids(piece)]

    def _piece_ids(self, piece: Piece) -> list[int]:
        try:
            piece.text.encode()
        except UnicodeEncodeError as error:
            raise DataError("the text holds half of a character (a lone surrogate)", why=str(error)) from error
        if not piece.text:
            ids = []
        elif self._glue_ids is None:
            ids = self.tokenizer.encode(piece.text, add_special_tokens=False)
        else:
            # This tokenizer puts a space before each text; after a newline, which is cut off again, it does not.
            ids = self.tokenizer.encode("\n" + piece.text, add_special_tokens=False)[len(self._glue_ids) :]
        return [*ids, self.eos_id] if piece.ends else ids


def _last_trained(messages: Sequence[Message]) -> int | None:
    return max((i for i, m in enumerate(messages) if m.role == "assistant" and m.weight), default=None)


def _encoded(tokens: list[tuple[int, bool]], prompt: int, *, only_last: bool = False) -> Encoded:
    return Encoded([token for token, _ in tokens], [target for _, target in tokens], prompt, only_last=only_last)


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(dict.fromkeys([*tokenizer.all_special_tokens, *added]))


def _leading_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids, most often a BOS, that the tokenizer puts before a text by itself."""
    bare, dressed = (tokenizer.encode("a", add_special_tokens=wanted) for wanted in (False, True))
    return dressed[: dressed.index(bare[0])] if bare and bare[0] in dressed else []


def _glue_ids(tokenizer: PreTrainedTokenizerBase) -> list[int] | None:
    """Return the ids of a leading newline where the tokenizer treats the start of a text unlike its middle."""
    newline, alone, after = (tokenizer.encode(text, add_special_tokens=False) for text in ("\n", "a", "\na"))
    return newline if after[: len(newline)] == newline and after[len(newline) :] != alone else None
