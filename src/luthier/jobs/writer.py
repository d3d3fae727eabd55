"""Writer: what a run's encoder-decoder writes for texts, put to it as its training rows were."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from luthier.core.errors import DataError
from luthier.core.events import Emit
from luthier.core.runfolder import RunFolder
from luthier.jobs.pipeline import trained_of
from luthier.jobs.predict import Prediction
from luthier.recipe import Plan

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from luthier.model.bitext import Bitext

TEXTS = 64
"""Texts that are read at once."""
USUAL_TOKENS = 256
"""Longest answer where the plan measures none."""


@dataclass(frozen=True)
class Writer:
    """A run's model, ready to be asked."""

    model: "PreTrainedModel"
    bitext: "Bitext"
    instruction: str
    """What all training sources began with; a text that does not gets it put before it."""
    limit: int
    """The most tokens of a source."""
    max_new_tokens: int

    def predict(self, texts: Sequence[str]) -> Iterator[Prediction]:
        """Yield what the model writes for each text, in their order."""
        from luthier.model.seq2seq import write

        for start in range(0, len(texts), TEXTS):
            some = texts[start : start + TEXTS]
            sources = [self._source(text, start + place) for place, text in enumerate(some)]
            kept = [self.bitext.cut_side(source, self.limit) for source in sources]
            said = write(self.model, self.bitext, kept, max_new_tokens=self.max_new_tokens)
            for text, source, answer in zip(some, sources, said, strict=True):
                yield Prediction(text=text, cut=len(source) > self.limit, answer=answer.text)

    def _source(self, text: str, number: int) -> list[int]:
        where = {"text": str(number + 1)}
        if not text.strip():
            raise DataError("a text is empty", where=where, hint="leave it out")
        try:
            return self.bitext.source_ids(self.instruction + text.removeprefix(self.instruction))
        except DataError as error:
            raise DataError(error.what, where=where, why=error.why, hint="leave it out, or repair it") from error


def open_writer(plan: Plan, folder: RunFolder, emit: Emit) -> Writer:
    """Load the tuned model of a run whose method is `seq2seq`."""
    from luthier.examples.store import Split
    from luthier.model.adapter import load_tuned, ready
    from luthier.model.base import resolve_base
    from luthier.model.bitext import Bitext, instruction_of
    from luthier.model.load import load_tokenizer
    from luthier.model.quick import quicken

    base = resolve_base(plan.base_model, emit)
    trained = trained_of(folder, base)
    instruction = instruction_of(Split(trained.prepared.split("train")))
    asked = plan.evaluate.max_new_tokens if plan.evaluate else USUAL_TOKENS
    most = asked if isinstance(asked, int) else USUAL_TOKENS
    model = quicken(ready(load_tuned(base.folder, trained.weights)))
    return Writer(model, Bitext(load_tokenizer(base.folder)), instruction, trained.prepared.context_tokens, most)
