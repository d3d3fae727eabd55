import json
from pathlib import Path

import pytest

from luthier.core.errors import DataError
from luthier.evaluate.alternatives.questions import own_words
from luthier.evaluate.nearest import Words, fused
from luthier.examples.example import Example, Message
from luthier.jobs.advise.documents import PASSAGE_WORDS, passages_of, read_passages


def test_documents_of_all_kinds_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    (tmp_path / "b.jsonl").write_text(json.dumps({"title": "T", "text": "three", "id": "x9"}) + "\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.html").write_text("<p>four</p><script>five()</script>")
    (tmp_path / "d.bin").write_bytes(b"\xff")
    said = " ".join(read_passages(tmp_path))
    assert (
        all(word in said for word in ("one", "two", "T", "three", "four")) and "five" not in said and "x9" not in said
    )


@pytest.mark.parametrize("content", [{"a.json": "{"}, {"a.txt": b"\xff\xfe\x00"}, {}], ids=["json", "bytes", "empty"])
def test_what_cannot_be_read_is_named(tmp_path: Path, content: dict[str, str | bytes]) -> None:
    for name, text in content.items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as refused:
        read_passages(tmp_path)
    assert not content or next(iter(content)) in str(refused.value)


def test_long_paragraphs_overlap_and_nothing_is_lost() -> None:
    words = [f"w{number}" for number in range(3 * PASSAGE_WORDS)]
    passages = list(passages_of(" ".join(words)))
    assert all(len(passage.split()) <= PASSAGE_WORDS for passage in passages)
    assert set(" ".join(passages).split()) == set(words)


def test_words_find_the_passage_that_has_them() -> None:
    index = Words(["the cat sleeps", "a dog barks loudly", "rain falls"])
    assert (
        index.ranked(["why does the dog bark loudly?", "zzz"], 2) == [[1], []]
        or index.ranked(["why does the dog bark loudly?"], 2)[0][0] == 1
    )


def test_two_rankings_are_fused() -> None:
    assert fused([[1, 2, 3], [2, 1]], 2) in ([1, 2], [2, 1]) and fused([[1, 2], [2]], 1) == [2]


def test_what_all_questions_say_is_left_out() -> None:
    def asked(text: str) -> Example:
        turns = (Message(role="user", content=text), Message(role="assistant", content="a"))
        return Example(messages=turns)

    texts = ["Which tone has this?\ngood soup\nTone:", "Which tone has this?\nbad rain\nTone:"]
    assert own_words([asked(text) for text in texts]) == ["good soup", "bad rain"]
