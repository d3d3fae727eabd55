"""A person's way through a contest: blind, saved key by key, taken up where it was left."""

from pathlib import Path

import pytest
from tests.jobs.judge.made import evaluated, texts

from luthier.core.errors import CheckpointError, DataError, RecipeError
from luthier.jobs.judge.contest import Contest, open_contest
from luthier.jobs.judge.ledger import Ledger, all_judgments
from luthier.jobs.judge.result import result_of
from luthier.jobs.judge.session import Session

ROWS = 40


@pytest.fixture
def contest(tmp_path: Path) -> Contest:
    answers = {"tuned": texts("good", ROWS), "few-shot": texts("bad", ROWS), "zero-shot": texts("worse", ROWS)}
    return open_contest(evaluated(tmp_path / "run", answers))


def press(contest: Contest, keys: str, judge: str = "ann") -> Session:
    session = Session(contest, Ledger(contest, judge).open())
    for key in keys:
        session.press(key, session.view())
    return session


def pick(contest: Contest, words: list[str], judge: str = "ann") -> None:
    """Judge pair after pair by the word that the better answer begins with, or by a key."""
    session = Session(contest, Ledger(contest, judge).open())
    for word in words:
        view = session.view()
        session.press("a" if view.a.startswith(word) else "b" if view.b.startswith(word) else word, view)


def test_the_best_baseline_is_the_rival_and_sides_are_shuffled(contest: Contest) -> None:
    assert (contest.first, contest.second) == ("tuned", "few-shot")
    lefts = [pair.left(contest.seed, "ann") for pair in contest.pairs]
    assert 8 < lefts.count("first") < ROWS - 8
    assert lefts == [pair.left(contest.seed, "ann") for pair in contest.pairs]
    assert lefts != [pair.left(contest.seed, "bob") for pair in contest.pairs]
    assert [pair.row for pair in contest.pairs] != sorted(pair.row for pair in contest.pairs)


def test_what_is_chosen_is_a_system_not_a_side(contest: Contest) -> None:
    pick(contest, ["good"] * ROWS)
    said = all_judgments(contest)["ann"]
    assert {one.choice for one in said} == {"first"} and {one.left for one in said} == {"first", "second"}
    result = result_of(contest).judges[0]
    assert (result.won, result.lost, result.p < 0.001) == (ROWS, 0, True)
    assert result.verdict.startswith("tuned is preferred") and result.win_rate.low > 0.9
    assert (contest.folder / "result.json").exists()


def test_undo_takes_back_the_last_word_and_the_pair_comes_again(contest: Contest) -> None:
    session = Session(contest, Ledger(contest, "ann").open())
    first = session.view()
    assert not session.press("u", first)
    session.press("a", first)
    session.press("t", session.view())
    assert session.press("u", session.view()) and session.view().number == 2
    assert session.press("u", session.view()) and session.view() == first
    assert result_of(contest).judges == []


def test_it_goes_on_where_it_was_left_and_a_cut_line_is_forgotten(contest: Contest) -> None:
    press(contest, "abq")
    path = contest.folder / "ann.jsonl"
    path.write_bytes(path.read_bytes() + b'{"pair": "cut')
    assert press(contest, "ts").view().number == 5
    assert len(path.read_text().splitlines()) == 4
    result = result_of(contest).judges[0]
    assert (result.won + result.lost, result.tied, result.skipped) == (2, 1, 1)


def test_an_answer_that_changed_is_judged_anew(contest: Contest, tmp_path: Path) -> None:
    pick(contest, ["good"] * ROWS)
    answers = {"tuned": ["new", *texts("good", ROWS)[1:]], "few-shot": texts("bad", ROWS)}
    again = open_contest(evaluated(tmp_path / "again" / "run", answers))
    (again.folder).mkdir()
    (again.folder / "ann.jsonl").write_text((contest.folder / "ann.jsonl").read_text())
    assert Session(again, Ledger(again, "ann")).view().pair.first == "new"
    assert result_of(again).judges[0].won == ROWS - 1


def test_judges_who_agree_and_who_do_not(contest: Contest) -> None:
    pick(contest, ["good", "bad"] * 10, "ann")
    pick(contest, ["good", "bad"] * 8 + ["bad", "good"] * 2, "bob")
    result = result_of(contest)
    people = result.judges[-1]
    assert [one.judge for one in result.judges] == ["ann", "bob", "people"]
    assert (people.won, people.lost, people.tied) == (8, 8, 4) and "no detectable difference" in people.verdict
    (agreement,) = result.agreements
    assert (agreement.judges, agreement.rows, agreement.agreed) == (("ann", "bob"), 20, 0.8)
    assert agreement.kappa == pytest.approx(0.6)


def test_two_runs_are_compared_on_the_rows_both_answered(tmp_path: Path) -> None:
    ours = evaluated(tmp_path / "one", {"tuned": texts("good", 6)})
    theirs = evaluated(tmp_path / "two", {"tuned": [*texts("bad", 3), "good answer 3"]})
    contest = open_contest(ours, theirs)
    assert (contest.first, contest.second, len(contest.pairs), contest.identical) == ("one", "two", 3, 1)
    assert contest.folder == ours.path / "judge" / "two"
    with pytest.raises(RecipeError, match="against itself"):
        open_contest(ours, ours)


def test_what_cannot_be_judged_is_said(tmp_path: Path, contest: Contest) -> None:
    alone = evaluated(tmp_path / "alone", {"tuned": texts("good", 2)})
    with pytest.raises(DataError, match="no baseline"):
        open_contest(alone)
    pairs = evaluated(tmp_path / "pairs", {"tuned": texts("a", 2)}, metric="preference_accuracy")
    with pytest.raises(DataError, match="no written answers"):
        open_contest(pairs)
    (alone.room("evaluate") / "samples.jsonl").unlink()
    with pytest.raises(CheckpointError, match="not been evaluated"):
        open_contest(alone)
    for name in ("../x", "", "people"):
        with pytest.raises(RecipeError, match="judge's name"):
            Ledger(contest, name)
    press(contest, "a")
    (contest.folder / "ann.jsonl").write_text("{}\n")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Ledger(contest, "ann")
