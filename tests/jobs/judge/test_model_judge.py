"""A model as judge, at a server of our own: both orders, retries, and nothing that is silently scored."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.jobs.judge.made import evaluated, texts
from tests.jobs.judge.server import Server, prefers_good, question, said, serving

from luthier.core.errors import RecipeError
from luthier.jobs.judge.contest import Contest, open_contest
from luthier.jobs.judge.endpoint import Endpoint, EndpointError, open_endpoint
from luthier.jobs.judge.ledger import Ledger, all_judgments
from luthier.jobs.judge.model_judge import judge_by_model
from luthier.jobs.judge.result import JudgingResult, result_of
from luthier.jobs.judge.session import Session

ROWS = 12


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def contest(tmp_path: Path) -> Contest:
    answers = {"tuned": texts("good", ROWS), "zero-shot": texts("bad", ROWS)}
    return open_contest(evaluated(tmp_path / "run", answers))


def judged(
    contest: Contest, server: Server, slept: list[float] | None = None, rows: int | None = None
) -> JudgingResult:
    waits = slept if slept is not None else []
    endpoint = Endpoint(server.url, "judge-1", "sk-secret", sleep=waits.append)
    ledger = Ledger(contest, "judge-1", model="judge-1").open()
    judge_by_model(contest, ledger, endpoint, rows=rows, heard=lambda done, of: None)
    return result_of(contest)


def test_a_win_needs_both_orders(contest: Contest, server: Server) -> None:
    server.reply = prefers_good
    one = judged(contest, server).judges[0]
    assert (one.kind, one.won, one.lost, one.tied, one.inconsistent_share) == ("model", ROWS, 0, 0, 0.0)
    assert len(server.bodies) == 2 * ROWS and server.headers[0]["Authorization"] == "Bearer sk-secret"
    assert "tuned" not in json.dumps(server.bodies) and "zero-shot" not in json.dumps(server.bodies)


def test_who_favours_a_place_is_tied_and_told(contest: Contest, server: Server) -> None:
    server.reply = lambda body: said("[[A]]")
    one = judged(contest, server).judges[0]
    assert (one.won, one.lost, one.tied, one.inconsistent_share) == (0, 0, ROWS, 1.0)


def test_agreement_with_people(contest: Contest, server: Server) -> None:
    session = Session(contest, Ledger(contest, "ann").open())
    for _ in range(4):
        session.press("a" if session.view().a.startswith("good") else "b", session.view())
    session.press("t", session.view())
    server.reply = prefers_good
    (agreement,) = judged(contest, server).agreements
    assert (agreement.judges, agreement.rows, agreement.agreed, agreement.kappa) == (("ann", "judge-1"), 5, 0.8, 0.0)


def test_nonsense_is_tried_again_and_then_unjudged_not_lost(contest: Contest, server: Server) -> None:
    server.reply = lambda body: said("hm") if "question 3" in question(body) else prefers_good(body)
    slept: list[float] = []
    result = judged(contest, server, slept)
    one = result.judges[0]
    assert (one.won, one.lost, one.unjudged, slept) == (ROWS - 1, 0, 1, [1.0, 2.0, 4.0]) and not result.warnings
    reasons = [said.reason for said in all_judgments(contest)["judge-1"] if said.choice == "unjudged"]
    assert reasons == ["no verdict in the answer: hm"]

    # Asked again, it judges only what is missing.
    server.bodies.clear()
    server.reply = prefers_good
    assert judged(contest, server).judges[0].won == ROWS and len(server.bodies) == 2


def test_many_unjudged_are_a_warning(contest: Contest, server: Server) -> None:
    server.reply = lambda body: (400, {"error": "too long"}) if "question 1" in question(body) else prefers_good(body)
    result = judged(contest, server)
    assert result.judges[0].unjudged == 3 and "3 of 12 pairs unjudged" in result.warnings[0]
    assert sum("question 11" in question(body) for body in server.bodies) == 1, "a final refusal is not tried again"


@pytest.mark.parametrize("told", [{}, {"choices": []}, {"choices": [{"message": {"content": None}}]}, {"choices": 7}])
def test_what_is_no_completion_is_unjudged(contest: Contest, server: Server, told: dict) -> None:
    server.reply = lambda body: (200, told)
    assert judged(contest, server, rows=1).judges[0].unjudged == 1


def test_a_server_in_trouble_is_left_alone_as_long_as_it_asks(contest: Contest, server: Server) -> None:
    answers = iter([(503, {}), (429, {})])
    server.reply = lambda body: next(answers, None) or prefers_good(body)
    slept: list[float] = []
    assert judged(contest, server, slept).judges[0].won == ROWS and slept == [7.0, 7.0]


def test_an_outage_ends_it_and_what_was_judged_is_kept(contest: Contest, server: Server) -> None:
    server.reply = lambda body: prefers_good(body) if len(server.bodies) <= 4 else (500, {})
    with pytest.raises(EndpointError, match="5 pairs in a row"):
        judged(contest, server)
    one = result_of(contest).judges[0]
    assert (one.won, one.unjudged) == (2, 5)


def test_a_refused_key_is_one_error_without_the_key(contest: Contest, server: Server) -> None:
    server.reply = lambda body: (401, {"error": "wrong key sk-secret"})
    with pytest.raises(EndpointError) as caught:
        judged(contest, server)
    assert "wrong key (key)" in str(caught.value) and "sk-secret" not in str(caught.value)
    assert len(server.bodies) == 1 and "sk-secret" not in repr(Endpoint(server.url, "m", "sk-secret"))


def test_an_option_the_server_does_not_know_is_left_out(contest: Contest, server: Server) -> None:
    server.reply = lambda body: (
        (400, {"error": "max_tokens is not supported"}) if "max_tokens" in body else said("[[C]]")
    )
    assert judged(contest, server, rows=2).judges[0].tied == 2
    assert sum("max_tokens" in body for body in server.bodies) == 1


def test_nobody_there(contest: Contest) -> None:
    nobody = Endpoint("http://127.0.0.1:9", "judge-1", sleep=lambda _: None)
    ledger = Ledger(contest, "judge-1", model="judge-1").open()
    with pytest.raises(EndpointError, match="got no answer") as caught:
        judge_by_model(contest, ledger, nobody, rows=None, heard=lambda done, of: None)
    assert "ConnectError" in str(caught.value)


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", " sk-1 ")
    assert open_endpoint("served", "m", "NO_KEY").url == "http://127.0.0.1:8765/v1"
    endpoint = open_endpoint("https://x.org/v1/chat/completions/", "m", "MY_KEY")
    assert (endpoint.url, endpoint.key) == ("https://x.org/v1", "sk-1")
    for address in ("", "ftp://x", "http://a b", "http://x?key=1", "http://x:port"):
        with pytest.raises(RecipeError, match="no address"):
            open_endpoint(address, "m", "MY_KEY")
    with pytest.raises(RecipeError, match="password") as caught:
        open_endpoint("http://me:secret@x.org", "m", "MY_KEY")
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("MY_KEY", "sk-ü\n1")
    with pytest.raises(RecipeError, match="no key"):
        open_endpoint("served", "m", "MY_KEY")


def test_one_name_is_one_judge(contest: Contest, server: Server) -> None:
    judged(contest, server, rows=1)
    with pytest.raises(RecipeError, match="as the model judge-1"):
        Ledger(contest, "judge-1")
    with pytest.raises(RecipeError, match="as the model judge-1"):
        Ledger(contest, "judge-1", model="other")
