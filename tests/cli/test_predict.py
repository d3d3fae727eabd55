"""What `luthier predict` prints, and what it refuses."""

import pytest

from luthier.cli.predict import in_words, predict
from luthier.core.errors import DataError, RecipeError
from luthier.jobs.predict import Entity, Prediction
from luthier.jobs.texts import texts_of

ADA = Entity(start=0, end=3, label="PER", text="Ada", probability=0.97)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"label": "b", "probabilities": {"b": 0.7, "a": 0.2, "c": 0.06, "d": 0.04}}, "b 0.700, a 0.200, c 0.060"),
        ({"labels": ("a", "c"), "probabilities": {"a": 0.9, "c": 0.6, "b": 0.1}}, "a 0.900, c 0.600"),
        ({"labels": (), "probabilities": {"a": 0.1}}, "no label"),
        ({"score": 3.25}, "3.25"),
        ({"entities": (ADA,)}, "PER          0–3  Ada  (0.970)"),
        ({"entities": ()}, "no entity"),
    ],
)
def test_in_words(said: dict[str, object], words: str) -> None:
    assert in_words(Prediction(text="Ada", **said)) == words
    assert "only the beginning was read" in in_words(Prediction(text="Ada", cut=True, **said))


def test_texts_or_a_file_and_not_both(tmp_path) -> None:
    for file, text in ((None, None), ("rows.jsonl", ["a"])):
        with pytest.raises(RecipeError, match="name texts, or a file"):
            predict("run", file, text)


def test_texts_of_files(tmp_path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "one", "label": "x"}\n"bare"\n{"tokens": ["New", "York"]}\n')
    assert texts_of(str(rows)) == ["one", "bare", "New York"]
    rows.write_text('{"text": "one"}\n{"words": "two"}\n')
    with pytest.raises(DataError, match="has no text") as caught:
        texts_of(str(rows))
    assert "rows.jsonl:2" in str(caught.value)
