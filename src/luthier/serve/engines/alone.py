"""The engine for an adapter that cannot stand beside others: one model with it inside, one answer at a time.

Such are all but plain LoRA: virtual tokens, small networks within the layers, updates of other kinds.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Cache, DynamicCache

from luthier.model.adapter import load_tuned, ready
from luthier.model.adapting.prompts import soft_prompt
from luthier.model.device import physical_cores
from luthier.model.load import context_length, load_tokenizer
from luthier.model.quick import quicken
from luthier.model.template import Template
from luthier.serve.constrain import Grammars
from luthier.serve.engines.line import Line, Turn
from luthier.serve.request import Ask, EngineStats, Heard, Piece, answer_limit
from luthier.serve.rows import Row
from luthier.serve.sampling import Chooser
from luthier.serve.spec import ServeSpec
from luthier.serve.text import Speaker


class AloneEngine:
    """An engine over one tuned model; see `serve.request.Engine`. `Ask.adapter` is nothing: the model has its own."""

    def __init__(self, base_folder: Path, weights: Path, spec: ServeSpec) -> None:
        """Load the base with its adapter; raise ModelError where they do not belong together."""
        torch.set_num_threads(spec.threads or physical_cores())
        self._model = quicken(ready(load_tuned(base_folder, weights)))
        self._template = Template(load_tokenizer(base_folder))
        self.stop_ids = self._template.stop_ids
        soft = soft_prompt(self._model)
        self.context = context_length(base_folder) - (soft.tokens if soft else 0)
        self._grammars = Grammars(self._template.tokenizer, self._model.get_output_embeddings().weight.shape[0])
        self._computing = threading.Lock()
        self._line = Line(self._answer, rows=1, queue=spec.queue + spec.rows - 1, tokens=math.inf)

    def submit(self, ask: Ask, heard: Heard) -> Turn:
        """Put a request in line and return at once; raise QueueFullError where the line is full."""
        return self._line.join(Turn(ask, heard, answer_limit(ask, self.context)))

    def _answer(self, turn: Turn) -> Iterator[Piece]:
        said: list[Piece] = []
        sampling = turn.ask.sampling
        speaker = Speaker(self._template.tokenizer, sampling.stop)
        row = Row(turn.ask, said.append, turn.limit, speaker, Chooser(sampling))
        if sampling.grammar:
            row.follower = self._grammars.follow(sampling.grammar)
        cache, ids = DynamicCache(config=self._model.config), list(turn.ask.ids)
        finish = None
        while finish is None and not turn.cancelled:
            finish = row.next(self._step(ids, cache), self._grammars, self.stop_ids)
            ids = [row.next_token]
            yield from said
            said.clear()

    def _step(self, ids: Sequence[int], cache: Cache) -> torch.Tensor:
        """Compute some tokens after those in the cache; return the logits of the last."""
        # No inference mode around a `yield`: it would hold for whoever reads the answer.
        with self._computing, torch.inference_mode():
            tokens = torch.tensor([list(ids)], device=self._model.device)
            output = self._model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
            return output.logits[0, -1].float().cpu()

    def chances(
        self, prompt: Sequence[int], answer: Sequence[int], adapter: Path | None = None
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return log-probabilities along a given answer; see `serve.request.Engine`."""
        self._line.check_open()
        cache = DynamicCache(config=self._model.config)
        steps = [self._step(ids, cache) for ids in (prompt, *([token] for token in answer))]
        return torch.log_softmax(torch.stack(steps), dim=-1).numpy()

    def embed(self, prompts: Sequence[Sequence[int]], adapter: Path | None = None) -> list[list[float]]:
        """Return one mean-pooled, unit-length vector per prompt."""
        self._line.check_open()
        return [self._embedded(ids) for ids in prompts]

    def _embedded(self, ids: Sequence[int]) -> list[float]:
        with self._computing, torch.inference_mode():
            tokens = torch.tensor([list(ids)], device=self._model.device)
            output = self._model(input_ids=tokens, use_cache=False, output_hidden_states=True, logits_to_keep=1)
            mean = output.hidden_states[-1][0].float().mean(dim=0)
        return (mean / mean.norm()).tolist()

    def render(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()) -> str:
        """Return a conversation as text; see `serve.request.Engine`."""
        return self._template.as_text(messages, tools)

    def encode(self, rendered: str) -> list[int]:
        """Return a rendered prompt's ids; templates write their own BOS."""
        return self._template.ids_of(rendered)

    def unload(self, adapter: Path) -> None:
        """Do nothing: the model's own adapter stays."""

    def stats(self) -> EngineStats:
        """Return the present state."""
        return self._line.stats()

    def close(self) -> None:
        """End what is under way; requests are told."""
        self._line.close()
