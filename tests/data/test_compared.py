"""Rows of texts that are compared: pairs, triplets and scored pairs, by the usual names; faults with their place."""

from pathlib import Path

import pytest
from tests.data.test_judged import issue, opened, read

from luthier.core.errors import DataError
from luthier.data.duplicates import own_text
from luthier.train.methods.embed.spec import EmbedSpec
from luthier.train.methods.sft.spec import SftSpec
from luthier.train.spec import check_data, method_for

PAIR = {"anchor": "who wrote it", "positive": "Ada did"}
SHAPES = [
    (PAIR, "text_pairs"),
    ({"query": "who", "passage": "Ada"}, "text_pairs"),
    ({"question": "who", "answer": "Ada"}, "text_pairs"),
    (PAIR | {"negative": "it rains"}, "triplets"),
    ({"query": "who", "positive": "Ada", "hard_negative": "rain"}, "triplets"),
    ({"sentence1": "a cat", "sentence2": "one cat", "score": 0.9}, "scored_pairs"),
    ({"text1": "a cat", "text2": "a dog", "label": 0}, "scored_pairs"),
]


@pytest.mark.parametrize(("row", "name"), SHAPES)
def test_shapes_are_recognised(tmp_path: Path, row: dict[str, object], name: str) -> None:
    found = opened(tmp_path, *[row] * 4)
    (first, *_) = found.examples("train")
    assert found.format.name == name and not found.unused and first.is_judged
    assert first.texts == tuple(value for value in row.values() if isinstance(value, str))
    assert first.score == next((float(value) for value in row.values() if not isinstance(value, str)), None)
    assert first.context.text == first.text and first.context.others is None
    assert own_text(first).split("\n") == list(first.texts)
    assert isinstance(method_for(name), EmbedSpec)


def test_a_question_with_its_answer_is_no_pair_where_an_answer_is_written(tmp_path: Path) -> None:
    rows = [{"question": f"what is {i}", "answer": "ab"[i % 2]} for i in range(8)]
    assert opened(tmp_path, *rows, render="chat").format.name == "labelled"
    assert opened(tmp_path, *rows).format.name == "labelled"
    assert opened(tmp_path, *rows, format="text_pairs").format.name == "text_pairs"
    assert opened(tmp_path, PAIR, PAIR, render="auto").format.name == "text_pairs"


@pytest.mark.parametrize(
    ("wrong", "reason", "pointer"),
    [
        ({"anchor": "x", "positive": " ", "negative": "z"}, "`positive` is empty", "/positive"),
        ({"anchor": "x", "negative": "z"}, "no `positive`", "/positive"),
        ({"anchor": "x", "positive": 3, "negative": "z"}, "`positive` is not text", "/positive"),
        ({"anchor": "x", "positive": "z", "negative": "z"}, "are the same text", "/negative"),
    ],
)
def test_a_wrong_triplet_is_named(tmp_path: Path, wrong: dict[str, object], reason: str, pointer: str) -> None:
    right = PAIR | {"negative": "it rains"}
    found = issue(tmp_path, right, right, wrong)
    assert found.row == 3 and reason in found.reason and found.pointer == pointer


def test_a_wrong_score_is_named(tmp_path: Path) -> None:
    right = {"sentence1": "a", "sentence2": "b", "score": 1}
    for value in ("high", None, True, 10**400):
        found = read(tmp_path, right, right, right | {"score": value})[2]
        assert found.row == 3 and found.pointer == "/score"


def test_methods_and_data_that_do_not_fit_name_each_other() -> None:
    with pytest.raises(DataError, match="`embed` does not take") as caught:
        check_data(EmbedSpec(), "chat")
    assert "`text_pairs` or `triplets` or `scored_pairs`" in caught.value.why and "`sft`" in caught.value.hint
    with pytest.raises(DataError, match="`sft` does not take") as caught:
        check_data(SftSpec(), "triplets")
    assert "`embed`" in caught.value.hint and "`triplets`" in caught.value.why
