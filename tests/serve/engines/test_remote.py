"""Another server as an engine: what is sent, what is heard, and every way in which it can fail."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.serve.made import Listener, Offline, ask, check_idle, greedy, prompt, save_adapter, spec

from luthier.core.errors import ModelError
from luthier.model.tiny import tiny_tokenizer
from luthier.serve.engines.open import open_remote
from luthier.serve.request import Ask, Engine, EngineError, QueueFullError, Sampling

KEY = "sk-a-very-secret-key"
IDS = prompt(12)
TOKENIZER = tiny_tokenizer()
Answer = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    """One request to a fake server, which says what the test wants."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.heard.append((self.path, self.headers.get("Authorization"), body))
        self.server.says(self, body)

    def send(self, status: int, data: str | bytes, kind: str = "application/json", **headers: str) -> None:
        data = data.encode() if isinstance(data, str) else data
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *given: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def server(says: Answer) -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.says, made.heard = says, []
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()


@pytest.fixture(scope="module")
def folder(offline: Callable[[str], Offline]) -> Path:
    return offline("qwen2").base


@contextlib.contextmanager
def remote(folder: Path, says: Answer, **changes) -> Iterator[tuple[Engine, ThreadingHTTPServer]]:
    with server(says) as made:
        engine = open_remote(f"http://127.0.0.1:{made.server_port}/v1", "m", folder, spec(**changes), KEY)
        try:
            yield engine, made
        finally:
            engine.close()


def events(*told: dict[str, Any]) -> str:
    return "".join(f"data: {json.dumps(one)}\n\n" for one in told) + "data: [DONE]\n\n"


def choice(text: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": text, "finish_reason": finish, **more}]}


def streams(*told: dict[str, Any]) -> Answer:
    return lambda handler, body: handler.send(200, events(*told), "text/event-stream")


def plainly(**changes) -> Sampling:
    return Sampling(**({"max_tokens": 16, "temperature": 0.5, "top_p": 0.9, "seed": 7} | changes))


def error_of(folder: Path, says: Answer) -> EngineError | QueueFullError:
    with remote(folder, says) as (engine, _):
        heard = ask(engine, IDS, plainly()).wait()
    assert heard.error is not None and KEY not in str(heard.error)
    return heard.error


def test_ids_are_sent_and_text_is_heard_as_it_comes(folder: Path) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 5}}
    with remote(folder, streams(choice("a "), choice("hen"), choice("", "stop"), usage)) as (engine, made):
        heard = ask(engine, IDS, plainly(frequency_penalty=0.5, logit_bias={3: -1.0})).wait()
    path, authorization, body = made.heard[0]
    assert (path, authorization) == ("/v1/completions", f"Bearer {KEY}")
    expected = {"model": "m", "prompt": list(IDS), "max_tokens": 16, "temperature": 0.5, "top_p": 0.9, "seed": 7}
    assert expected.items() <= body.items()
    assert body["stream"] and body["logit_bias"] == {"3": -1.0} and body["frequency_penalty"] == 0.5
    assert "presence_penalty" not in body and "logprobs" not in body
    assert [piece.text for piece in heard.pieces] == ["a ", "hen", ""]
    assert heard.finish == "stop" and sum(piece.new_tokens for piece in heard.pieces) == 5


def test_the_limit_is_said(folder: Path) -> None:
    with remote(folder, streams(choice("a", "length"))) as (engine, _):
        assert ask(engine, IDS, plainly()).wait().finish == "length"


def test_a_server_that_does_not_stream_is_heard_too(folder: Path) -> None:
    told = choice("a hen", "stop") | {"usage": {"completion_tokens": 3}}
    with remote(folder, lambda handler, body: handler.send(200, json.dumps(told))) as (engine, _):
        heard = ask(engine, IDS, plainly()).wait()
    assert (heard.text, heard.finish) == ("a hen", "stop")


def test_where_ids_are_refused_the_text_is_sent_from_then_on(folder: Path) -> None:
    def says(handler: Handler, body: dict[str, Any]) -> None:
        if isinstance(body["prompt"], str):
            streams(choice("yes", "stop"))(handler, body)
        else:
            handler.send(400, '{"error": {"message": "prompt must be a string"}}')

    ids = TOKENIZER.encode("<|im_start|>user\nthe hen<|im_end|>\n", add_special_tokens=False)
    with remote(folder, says) as (engine, made):
        for _ in range(2):
            assert ask(engine, ids, plainly()).wait().text == "yes"
    text = TOKENIZER.decode(ids)
    assert [body["prompt"] for _, _, body in made.heard] == [ids, text, text]


def test_a_stop_text_is_found_here_across_pieces(folder: Path) -> None:
    with remote(folder, streams(choice("a h"), choice("en and more"), choice("", "stop"))) as (engine, _):
        heard = ask(engine, IDS, plainly(stop=("hen",))).wait()
        begun = ask(engine, IDS, plainly(stop=("more eggs",))).wait()
    assert (heard.text, heard.finish) == ("a ", "stop")
    assert (begun.text, begun.finish) == ("a hen and more", "stop")


def test_log_probabilities_in_openais_words_and_vllms(folder: Path) -> None:
    the = TOKENIZER.convert_tokens_to_ids("Ġthe")
    told = {
        "tokens": [" the", f"token_id:{the}"],
        "token_logprobs": [-0.5, -0.25],
        "top_logprobs": [{" the": -0.5, " a": -1.0}, None],
    }
    with remote(folder, streams(choice(" the the", "stop", logprobs=told))) as (engine, made):
        heard = ask(engine, IDS, plainly(logprobs=2)).wait()
    assert made.heard[0][2]["logprobs"] == 2
    assert heard.tokens == (the, the)
    assert [one.chosen.logprob for one in heard.spoken] == [-0.5, -0.25]
    assert [one.text for one in heard.spoken[0].alternatives] == [" the", " a"]


def test_a_key_is_never_in_an_error(folder: Path) -> None:
    error = error_of(folder, lambda handler, body: handler.send(401, f'{{"error": {{"message": "no {KEY}"}}}}'))
    assert "nobody in" in error.what and "no (key)" in error.why


def test_a_busy_server_says_when_to_come_back(folder: Path) -> None:
    error = error_of(folder, lambda handler, body: handler.send(429, "{}", Retry_After="7"))
    assert isinstance(error, QueueFullError) and error.retry_after_s == 7


@pytest.mark.parametrize(
    "says, what",
    [
        (lambda handler, body: handler.send(200, "<html>hello</html>", "text/html"), "unintelligible"),
        (lambda handler, body: handler.send(200, "data: {no\n\n", "text/event-stream"), "unintelligible"),
        (lambda handler, body: handler.send(200, "data: [1]\n\n", "text/event-stream"), "unintelligible"),
        (lambda handler, body: handler.send(200, '{"choices": [3]}'), "unintelligible"),
        (lambda handler, body: handler.send(404, '{"error": {"message": "no model `m`"}}'), "refused the request"),
        (lambda handler, body: handler.send(500, "trouble"), "refused the request"),
        (lambda handler, body: handler.send(302, "", Location="http://127.0.0.1:1/"), "refused the request"),
        (streams(choice("a"), {"error": {"message": "out of memory"}}), "the server failed"),
        (streams(choice("a")), "has no end"),
        (lambda handler, body: handler.connection.close(), "broke"),
    ],
)
def test_whatever_else_a_server_says_is_an_error_in_words(folder: Path, says: Answer, what: str) -> None:
    error = error_of(folder, says)
    assert isinstance(error, EngineError) and what in error.what


def test_a_server_that_is_not_there_is_said(folder: Path) -> None:
    with server(streams()) as made:
        port = made.server_port
    engine = open_remote(f"http://127.0.0.1:{port}/v1", "m", folder, spec(), KEY)
    heard = ask(engine, IDS, plainly()).wait()
    engine.close()
    assert isinstance(heard.error, EngineError) and "cannot be reached" in heard.error.what


@pytest.mark.parametrize("begins", [False, True])
def test_a_cancelled_answer_hangs_up(folder: Path, begins: bool) -> None:
    gone, came = threading.Event(), threading.Event()

    def says(handler: Handler, body: dict[str, Any]) -> None:
        if begins:
            handler.send_response(200)
            handler.send_header("Content-Type", "text/event-stream")
            handler.end_headers()
            handler.wfile.write(f"data: {json.dumps(choice('a'))}\n\n".encode())
        came.set()
        # Nothing more comes from the other side but its end.
        handler.connection.settimeout(20)
        if handler.connection.recv(1) == b"":
            gone.set()

    with remote(folder, says) as (engine, _):
        heard = Listener()
        ticket = engine.submit(Ask(IDS, plainly()), heard)
        assert came.wait(20) and (not begins or heard.began.wait(20))
        ticket.cancel()
        assert heard.wait().finish == "cancelled" and gone.wait(20)
        check_idle(engine)


def test_a_full_line_is_said(folder: Path) -> None:
    go = threading.Event()

    def says(handler: Handler, body: dict[str, Any]) -> None:
        go.wait(20)
        streams(choice("a", "stop"))(handler, body)

    with remote(folder, says, rows=1, queue=1) as (engine, _):
        heard = [ask(engine, IDS, plainly()) for _ in range(2)]
        with pytest.raises(QueueFullError):
            ask(engine, IDS, plainly())
        go.set()
        assert [one.wait().text for one in heard] == ["a", "a"]


def test_closing_tells_those_who_wait(folder: Path) -> None:
    with remote(folder, lambda handler, body: time.sleep(1), rows=1) as (engine, _):
        heard = [ask(engine, IDS, plainly()) for _ in range(2)]
        engine.close()
        for one in heard:
            assert isinstance(one.wait().error, EngineError)


def test_what_another_server_cannot_do_is_refused(folder: Path, tmp_path: Path) -> None:
    adapter = save_adapter(folder, tmp_path / "a")
    with remote(folder, streams()) as (engine, made):
        for asked in (
            lambda: ask(engine, IDS, plainly(grammar="start: /a/")),
            lambda: ask(engine, IDS, plainly(), adapter),
            lambda: engine.embed([IDS]),
            lambda: engine.chances(IDS, []),
        ):
            with pytest.raises(EngineError):
                asked()
    assert not made.heard


@pytest.mark.parametrize("url", ["ftp://a/v1", "127.0.0.1:8000", "http://me:secret@a/v1", "http://a/v1?key=1"])
def test_what_is_no_address_is_refused(folder: Path, url: str) -> None:
    with pytest.raises(ModelError) as caught:
        open_remote(url, "m", folder, spec(), None)
    assert "secret" not in str(caught.value)


def test_the_template_is_the_local_folders(folder: Path) -> None:
    talk = [{"role": "user", "content": "hen"}]
    with remote(folder, streams()) as (engine, _):
        text = engine.render(talk)
        assert text == TOKENIZER.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
        assert engine.encode(text) == TOKENIZER.encode(text, add_special_tokens=False)


def test_llama_cpps_own_server_answers_as_the_model_here(
    folder: Path, offline: Callable[[str], Offline], tmp_path: Path
) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    from luthier.export.formats.gguf import build
    from luthier.export.spec import Form
    from luthier.serve.engines.llama_cpp import LlamaCppEngine

    build(Form(name="gguf"), folder, tmp_path / "g")
    local = LlamaCppEngine(tmp_path / "g", spec(rows=2))
    started, key = local._child.started, local._child.key
    engine = open_remote(f"http://{started.host}:{started.port}/v1", "any", folder, spec(rows=2), key)
    try:
        # It says the ids of whole characters only.
        letters = {number: -100.0 for token, number in TOKENIZER.get_vocab().items() if not token.isascii()}
        heard = ask(engine, IDS, greedy(8, logit_bias=letters)).wait()
        expected = ask(local, IDS, greedy(8, logit_bias=letters)).wait()
        assert heard.tokens == expected.tokens and heard.text == expected.text
        assert heard.finish == "length"
        plain = ask(engine, IDS, greedy(8, logprobs=None, logit_bias=letters)).wait()
        assert plain.text == expected.text and sum(piece.new_tokens for piece in plain.pieces) == 8
    finally:
        engine.close()
        local.close()
