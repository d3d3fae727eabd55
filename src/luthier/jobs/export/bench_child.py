"""Time one export in a process of its own: how long it loads, and how fast it reads and writes."""

import json
import queue
import sys
import time
from pathlib import Path

from luthier.core.errors import LuthierError
from luthier.jobs.export.opened import Opened, open_export
from luthier.serve.request import Ask, Piece, Sampling
from luthier.serve.spec import ServeSpec

NEVER = -100.0
"""Added to the logits of the tokens that end an answer, so that all answers are as long as asked."""


def main() -> None:
    """Load an export, answer once to warm up and once on the clock; one JSON line each for loading and speed."""
    folder, threads, prompt_tokens, answer_tokens = sys.argv[1:5]
    try:
        started = time.perf_counter()
        opened = open_export(Path(folder), ServeSpec(threads=int(threads) or None))
        _tell({"load_seconds": time.perf_counter() - started})
        try:
            _answer(opened, int(prompt_tokens), 4, shift=1)
            _tell(_answer(opened, int(prompt_tokens), int(answer_tokens), shift=0))
        finally:
            opened.engine.close()
    except LuthierError as error:
        _tell({"error": {"what": error.what, "why": error.why, "hint": error.hint}})


def _answer(opened: Opened, prompt_tokens: int, answer_tokens: int, *, shift: int) -> dict[str, float]:
    """Return tokens per second of a prompt and of an answer; another shift is another prompt."""
    vocabulary = len(opened.template.tokenizer)
    room = int(min(prompt_tokens, opened.engine.context - answer_tokens - 1))
    # Ordinary tokens, spread over the vocabulary; the first hundreds are often special ones.
    ids = tuple(300 % vocabulary + (place * 37 + shift) % max(1, vocabulary - 600) for place in range(max(1, room)))
    bias = dict.fromkeys(opened.engine.stop_ids, NEVER)
    heard: queue.SimpleQueue[tuple[float, Piece | LuthierError]] = queue.SimpleQueue()
    ask = Ask(ids, Sampling(answer_tokens, temperature=0, logit_bias=bias), opened.adapter())
    started = time.perf_counter()
    opened.engine.submit(ask, lambda said: heard.put((time.perf_counter(), said)))
    first: float | None = None
    tokens = first_tokens = 0
    while True:
        at, said = heard.get()
        if isinstance(said, LuthierError):
            raise said
        tokens += said.new_tokens
        if first is None:
            first, first_tokens = at, said.new_tokens
        if said.finish:
            break
    rest = max(tokens - first_tokens, 0)
    return {
        "prompt_tokens": len(ids),
        "prompt_tokens_per_second": len(ids) / max(first - started, 1e-9),
        "answer_tokens": tokens,
        "answer_tokens_per_second": rest / max(at - first, 1e-9),
    }


def _tell(value: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
