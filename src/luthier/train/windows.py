"""Questions about texts in training: the head's card from the rows, and the windows that are trained on."""

from dataclasses import dataclass

from transformers import AutoConfig

from luthier.core.artifacts import Prepared
from luthier.core.errors import DataError
from luthier.core.events import Emit, Event
from luthier.examples.store import Encoded, Split
from luthier.model.headcard import ENDS, HeadCard
from luthier.model.load import load_tokenizer
from luthier.model.pairs import read_pair
from luthier.model.quoting import card_windows
from luthier.train.methods.qa.spec import QaSpec


@dataclass(frozen=True)
class Cutting:
    """How the rows of a split fall into windows."""

    windows: list[tuple[int, int]]
    """Each by its row's number and its own among the row's."""
    unreached: int
    """Rows left out since no window holds their answer whole."""


def cutting(split: Split, card: HeadCard) -> Cutting:
    """Return the windows of all rows but those whose answer no window holds."""
    windows: list[tuple[int, int]] = []
    unreached = 0
    for number in range(len(split)):
        row = split.encoded(number)
        found = card_windows(row, card)
        if answer_tokens(row) and not any(window.answered for window in found):
            unreached += 1
            continue
        windows += [(number, place) for place in range(len(found))]
    return Cutting(windows, unreached)


def answer_tokens(row: Encoded) -> int:
    """Return how many tokens a row's answer spans; 0 where the text does not say it."""
    found = [token for token in row.words if row.targets[token]]
    return found[-1] - found[0] + 1 if found else 0


class Windowed:
    """The windows of a split's rows, each with the places of the answer's ends."""

    def __init__(self, split: Split, card: HeadCard, emit: Emit) -> None:
        self.split, self.card = split, card
        found = cutting(split, card)
        self.windows = found.windows
        if found.unreached:
            message = f"{found.unreached:,} of {len(split):,} rows are left out: no window holds their answer whole"
            emit(Event(room="train", kind="warning", message=message, data={"rows": found.unreached}))

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.windows)

    def encoded(self, index: int) -> Encoded:
        """Return one window."""
        row, place = self.windows[index]
        return card_windows(self.split.encoded(row), self.card)[place].row

    def rows_of(self, windows: list[int]) -> list[int]:
        """Return the rows that windows are of."""
        return list(dict.fromkeys(self.windows[window][0] for window in windows))


def quote_card(method: QaSpec, given: Prepared, train: Split) -> HeadCard:
    """Return what a head that points at answers must know of its rows."""
    lengths = [answer_tokens(train.encoded(row)) for row in range(len(train))]
    if not any(lengths):
        hint = "add rows with an answer"
        raise DataError("no row has an answer", where={"field": "data.path"}, hint=hint)
    told = read_pair(load_tokenizer(given.base.folder), "a", "b")
    config = AutoConfig.from_pretrained(given.base.folder, local_files_only=True)
    card = HeadCard(
        kind="quote",
        labels=ENDS,
        tokens=given.context_tokens,
        texts=len(train),
        stride=method.stride,
        longest=max(lengths) if method.max_answer_tokens == "auto" else method.max_answer_tokens,
        nothing="first" if told.nothing == 0 else "last",
        # Tokenizers may tell segments that the model has no vectors for.
        segments=told.segments and getattr(config, "type_vocab_size", 1) > 1,
        threshold=None if all(lengths) else 0.0,
    )
    found = cutting(train, card)
    if not found.windows:
        hint = "set a larger `train.method.stride`, or `data.max_tokens`"
        raise DataError("no window holds an answer whole", where={"field": "train.method.stride"}, hint=hint)
    return card.model_copy(update={"windows": len(found.windows), "unreached": found.unreached})
