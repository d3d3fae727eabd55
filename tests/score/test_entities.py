"""Entity-F1: on tags as seqeval counts it, on JSON by type and span."""

import random
import subprocess
import sys

import pytest
from seqeval.metrics import f1_score

from luthier.core.errors import DataError
from luthier.score.entities import entity_f1
from luthier.score.metrics import score

TAGS = ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "I-ORG"]
CITIES = '{"PER": ["Ada  Lovelace", "Bob"], "LOC": ["Rome"]}'


def value(answer: str, reference: str) -> float:
    return entity_f1([answer], [reference]).value


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(8))
def test_tags_count_as_in_seqeval(seed: int) -> None:
    draw = random.Random(seed)
    references = [draw.choices(TAGS, k=draw.randint(1, 12)) for _ in range(20)]
    answers = [[tag if draw.random() < 0.7 else draw.choice(TAGS) for tag in tags] for tags in references]
    ours = entity_f1([" ".join(tags) for tags in answers], ["\n".join(tags) for tags in references])
    assert ours.value == pytest.approx(f1_score(references, answers))
    alone = f1_score(references[:1], answers[:1])
    assert ours.per_row[0] == pytest.approx(alone) or ours.statistics[0, 1] == 0


def test_an_answer_may_be_short_long_or_no_tags() -> None:
    reference = "O B-PER I-PER O B-LOC"
    assert value(reference, reference) == 1
    assert value("O B-PER I-PER", reference) == pytest.approx(2 / 3)
    assert value(f"{reference} B-LOC", reference) == pytest.approx(4 / 5)
    assert value("maybe B-PER I-PER O B-LOC", reference) == 1
    assert value("I do not know.", reference) == 0 and value("", reference) == 0


def test_json_counts_type_and_span() -> None:
    assert value(CITIES, CITIES) == 1
    assert value('Here: {"LOC": "Rome", "PER": ["Ada Lovelace"]}', CITIES) == pytest.approx(4 / 5)
    assert value('{"PER": ["Rome", "Rome"], "LOC": [7, null]}', CITIES) == 0
    assert value("no idea", CITIES) == 0


def test_nothing_to_find() -> None:
    scores = entity_f1(["O O", "B-PER O", '{"PER": []}'], ["O O", "O O", "{}"])
    assert scores.per_row.tolist() == [1, 0, 1]


def test_references_without_entities_are_an_error() -> None:
    for reference in ("Ada went to Rome", "", "O B-PER and"):
        with pytest.raises(DataError, match="name entities"):
            value("O", reference)


def test_meteor_works_without_a_dictionary() -> None:
    same, stem, other = "the cats were running home", "the cat was run home", "nothing of it"
    values = [score("meteor", [text], [same]).value for text in (same, stem, other)]
    assert values[0] > 0.99 and values[0] > values[1] > 0.3 and values[2] == 0


def test_the_metrics_load_no_learning_library() -> None:
    code = "import sys, luthier.score.metrics; sys.exit('sklearn' in sys.modules or 'nltk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
