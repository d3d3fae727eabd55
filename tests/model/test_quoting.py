"""Questions about texts: tokens to characters and back, windows, and the best piece over all of them."""

import numpy as np
import pytest

from luthier.core.errors import DataError
from luthier.examples.example import Quote
from luthier.model.headcard import ENDS, HeadCard
from luthier.model.pairs import read_pair, windows_of
from luthier.model.quoting import _best, card_windows
from luthier.model.tiny import tiny_tokenizer, tiny_word_pieces
from luthier.train.threshold import best_threshold

TEXT = "Éa met zoë 😀 in łu"
TOKENIZERS = {"encoder": tiny_word_pieces, "causal": tiny_tokenizer}


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("answer", ["Éa", "łu", "zoë", "😀", "met zoë 😀", TEXT])
def test_an_answer_is_found_again_by_its_tokens(kind: str, answer: str) -> None:
    pair = read_pair(TOKENIZERS[kind](), "who?", TEXT)
    row = pair.encoded([Quote(start=TEXT.index(answer), text=answer)])
    tokens = [number for number, token in enumerate(pair.tokens) if row.targets[token]]
    assert TEXT[pair.places[tokens[0]][0] : pair.places[tokens[-1]][1]] == answer
    (whole,) = windows_of(row, limit=500, stride=4, nothing="first")
    assert whole.answered and whole.row.truth == (pair.first + tokens[0], pair.first + tokens[-1])
    assert pair.segments == (kind == "encoder")


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_windows_hold_the_whole_text_and_say_where_the_answer_is_not(kind: str) -> None:
    pair = read_pair(TOKENIZERS[kind](), "who?", "ba " * 5 + "x yz. " + "ko " * 14)
    nothing = "first" if kind == "encoder" else "last"
    answer = Quote(start=15, text="x yz")
    row = pair.encoded([answer])
    limit = len(row.ids) - len(row.words) + 12
    windows = windows_of(row, limit=limit, stride=5, nothing=nothing)
    assert len(windows) > 3 and all(len(window.row.ids) <= limit for window in windows)
    seen = {window.skipped + i for window in windows for i in range(len(window.row.words))}
    assert seen == set(range(len(pair.places)))
    for one, following in zip(windows, windows[1:], strict=False):
        assert one.skipped + len(one.row.words) - following.skipped == 5
    held = [window for window in windows if window.answered]
    assert held and len(held) < len(windows)
    for window in windows:
        at = 0 if nothing == "first" else len(window.row.ids) - 1
        start, end = map(int, window.row.truth)
        ids = row.ids[pair.first + window.skipped :]
        assert (start, end) == (at, at) or window.answered
        assert window.row.ids[pair.first : pair.first + len(window.row.words)] == ids[: len(window.row.words)]
    none = windows_of(pair.encoded(()), limit=limit, stride=5, nothing=nothing)
    assert not any(window.answered for window in none)
    with pytest.raises(DataError, match="leaves no room"):
        windows_of(row, limit=pair.first, stride=5, nothing=nothing)


def test_the_best_piece_is_the_best_of_all_windows() -> None:
    pair = read_pair(tiny_word_pieces(), "who?", "ba de gi ko lu ba de gi")
    card = HeadCard(kind="quote", labels=ENDS, tokens=len(pair.ids) - 7, stride=3, longest=4, threshold=0.0)
    windows = card_windows(pair.encoded(), card)
    draw = np.random.default_rng(0)
    logits = [draw.normal(size=(len(window.row.ids), 2)) for window in windows]
    pieces: dict[tuple[int, int], float] = {}
    for window, said in zip(windows, logits, strict=True):
        for start in window.row.words:
            for end in window.row.words:
                if start <= end < start + card.longest:
                    known = (start - pair.first + window.skipped, end - pair.first + window.skipped)
                    pieces[known] = max(pieces.get(known, -9e9), said[start, 0] + said[end, 1])
    best = max(pieces, key=pieces.get)
    nothing = min(float(said[0].sum()) for said in logits)
    found = _best(pair, windows, logits, card)
    powers = np.exp(list(pieces.values())).sum()
    assert len(windows) > 1 and (found.start, found.end) == (pair.places[best[0]][0], pair.places[best[1]][1])
    assert found.lead == pytest.approx(nothing - pieces[best])
    assert found.share == pytest.approx(np.exp(pieces[best]) / powers)
    assert found.share_of_all == pytest.approx(np.exp(pieces[best]) / (powers + np.exp(nothing)))
    told = card.model_copy(update={"threshold": found.lead - 1})
    assert found.is_nothing(told) and not found.is_nothing(card.model_copy(update={"threshold": None}))
    assert found.probability(told) == pytest.approx(np.exp(nothing) / (powers + np.exp(nothing)))


def test_the_threshold_is_the_best_of_all() -> None:
    draw = np.random.default_rng(1)
    leads = np.round(draw.normal(size=40), 1)
    silent = (draw.random(40) < 0.5).astype(float)
    said = np.where(silent > 0, 0, draw.random(40))

    def total(threshold: float) -> float:
        return float(np.where(leads > threshold, silent, said).sum())

    found = best_threshold(leads.tolist(), said=said, silent=silent)
    assert total(found) == pytest.approx(max(total(one) for one in np.arange(-4, 4, 0.01)))
