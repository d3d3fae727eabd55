"""Keys, projects and origins on the whole app: every route is asked without a key, and with a foreign one."""

import itertools
import json

import pytest
from fastapi.routing import iter_route_contexts
from tests.zoo.asking import HOST, JSON, ask, form
from tests.zoo.served import ROWS, House, build_house

from luthier.model.tiny import save_tiny

WRONG_KEY = "sk-ft-" + "A" * 43 + "00000000"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    base = save_tiny(tmp_path_factory.mktemp("base") / "model", "llama")
    return build_house(tmp_path_factory.mktemp("house"), base)


def routes_of(house: House) -> list[tuple[str, str]]:
    """Return every method and path that the application itself knows, whether or not its document lists it."""
    contexts = iter_route_contexts(house.app.routes)
    return sorted({(method, route.path) for route in contexts for method in route.methods or METHODS})


def filled(path: str) -> str:
    return path.replace("{", "").replace("}", "")


def refused_without_a_key(house: House, method: str, path: str) -> list[str]:
    """Return how a route answers to each way of not having a key, where it is not 401."""
    ways = {
        "none": [],
        "wrong": [("authorization", f"Bearer {WRONG_KEY}")],
        "wrong, Azure's way": [("api-key", WRONG_KEY)],
        "revoked": [("authorization", f"Bearer {house.revoked_key}")],
        "revoked, Azure's way": [("api-key", house.revoked_key)],
        "in a cookie": [("cookie", f"key={house.key}")],
    }
    wrong = []
    for way, headers in ways.items():
        for target in (filled(path), f"{filled(path)}?api-key={house.key}&key={house.key}"):
            answer = ask(house.app, method, target, [HOST, *headers])
            if answer.status != 401 or answer.error["type"] != "invalid_request_error":
                wrong.append(f"{method} {target}: {answer.status} ({way})")
    return wrong


def test_cve_2026_0545_2026_2652_every_route_of_the_app_wants_a_key(house: House) -> None:
    routes = routes_of(house)
    documented = {(method.upper(), path) for path, item in house.app.openapi()["paths"].items() for method in item}
    assert documented <= set(routes) and len(routes) > 60, "the walk must see all routes"
    wrong = [line for method, path in routes for line in refused_without_a_key(house, method, path)]
    assert not wrong, "\n".join(wrong)


def test_every_address_and_method_wants_a_key(house: House) -> None:
    paths = ("/", "/nothing", "/openapi.json", "/docs", "/redoc", "/metrics", "/health", "/v1", "/v1/", "//v1/models")
    wrong = [line for path in paths for method in METHODS for line in refused_without_a_key(house, method, path)]
    assert not wrong, "\n".join(wrong)


def test_cve_2023_48022_2023_48023_no_job_without_a_key(house: House) -> None:
    file = house.upload(ROWS).json["id"]
    body = json.dumps({"model": "tiny", "training_file": file}).encode()
    for prefix in ("/v1", "/openai/v1", "/openai"):
        answer = ask(
            house.app, "POST", f"{prefix}/fine_tuning/jobs", [HOST, ("content-type", "application/json")], body
        )
        assert answer.status == 401
    assert house.ask("GET", "/v1/fine_tuning/jobs").json["data"] == []


def test_a_revoked_key_is_refused_at_once(house: House) -> None:
    record, secret = house.service.keys.create("short", project_id="one")
    assert house.ask("GET", "/v1/models", key=secret).status == 200
    house.service.keys.revoke(record.id)
    assert house.ask("GET", "/v1/models", key=secret).status == 401


def things_of(house: House) -> dict[str, str]:
    """Make one of each thing in project one, and return their addresses."""
    file = house.upload(ROWS).json["id"]
    job = house.ask("POST", "/v1/fine_tuning/jobs", {"model": "tiny", "training_file": file}).json["id"]
    wanted = {"purpose": "fine-tune", "filename": "a.jsonl", "bytes": 10, "mime_type": "text/jsonl"}
    upload = house.ask("POST", "/v1/uploads", wanted).json["id"]
    check = {"type": "string_check", "name": "same", "input": "a", "reference": "a", "operation": "eq"}
    config = {"data_source_config": {"type": "custom", "item_schema": {}}, "testing_criteria": [check]}
    graded = house.ask("POST", "/v1/evals", config).json["id"]
    return {"file": file, "job": job, "upload": upload, "eval": graded}


def test_things_of_another_project_are_not_there(house: House) -> None:
    ids = things_of(house)
    job, graded = f"/v1/fine_tuning/jobs/{ids['job']}", f"/v1/evals/{ids['eval']}"
    run = {"data_source": {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {}}]}}}
    requests = [
        *(("GET", f"/v1/files/{ids['file']}", None), ("GET", f"/v1/files/{ids['file']}/content", None)),
        *((method, f"{job}{end}", None) for method, end in (("GET", ""), ("GET", "/events"), ("GET", "/checkpoints"))),
        *(("POST", f"{job}/{verb}", None) for verb in ("cancel", "pause", "resume")),
        ("POST", f"/v1/uploads/{ids['upload']}/complete", {"part_ids": ["part_" + "a" * 24]}),
        ("POST", f"/v1/uploads/{ids['upload']}/cancel", None),
        *(("GET", graded, None), ("POST", graded, {"name": "x"}), ("GET", f"{graded}/runs", None)),
        *(("POST", f"{graded}/runs", run), ("DELETE", graded, None), ("DELETE", f"/v1/files/{ids['file']}", None)),
    ]
    for method, target, body in requests:
        answer = house.ask(method, target, body, key=house.other_key)
        assert answer.status == 404, (method, target, answer.body)
        # What another project has looks just like what nobody has.
        for id in ids.values():
            target = target.replace(id, id[:-8] + "zzzzzzzz")
        nobody = house.ask(method, target, body, key=house.other_key)
        assert nobody.status == 404 and {**nobody.error, "message": ""} == {**answer.error, "message": ""}
    for listed in ("/v1/files", "/v1/fine_tuning/jobs", "/v1/evals"):
        assert house.ask("GET", listed, key=house.other_key).json["data"] == []
    for after in (f"/v1/files?after={ids['file']}", f"/v1/fine_tuning/jobs?after={ids['job']}"):
        assert house.ask("GET", after, key=house.other_key).status == 404
    body = {"model": "tiny", "training_file": ids["file"]}
    assert house.ask("POST", "/v1/fine_tuning/jobs", body, key=house.other_key).status == 404
    assert house.ask("GET", f"/v1/files/{ids['file']}").status == 200, "the owner still has it"


def test_no_project_learns_what_another_one_has_asked(house: House) -> None:
    secret = "the launch code is seven seven three one and the meeting is on friday at noon " * 3
    body = {"model": "tiny", "messages": [{"role": "user", "content": secret}], "max_tokens": 1}

    def cached(key: str) -> int:
        answer = house.ask("POST", "/v1/chat/completions", body, key=key)
        assert answer.status == 200, answer.body
        return answer.json["usage"]["prompt_tokens_details"]["cached_tokens"]

    assert (cached(house.key), cached(house.key) > 0) == (0, True), "the same project's prompt is found again"
    assert cached(house.other_key) == 0, "cached tokens tell one project what another one has sent"


def test_s3_hosts_origins_types_and_methods_on_the_whole_app(house: House) -> None:
    bodies = (form({"purpose": "fine-tune"}, "a.jsonl", ROWS), (("content-type", "text/plain"), b"{}"), (JSON, b"{}"))
    hosts = ("127.0.0.1:8765", "localhost", "evil.com", "127.0.0.1.evil.com:8765")
    origins = (None, "http://127.0.0.1:8765", "null", "http://evil.com")
    routes = (("POST", "/v1/files"), ("POST", "/v1/fine_tuning/jobs"), ("GET", "/v1/models"), ("OPTIONS", "/v1/files"))
    wrong, tried = [], 0
    for host, origin, route, (kind, content) in itertools.product(hosts, origins, routes, bodies):
        headers = [("host", host), ("authorization", f"Bearer {house.key}"), kind]
        answer = ask(house.app, *route, headers + ([("origin", origin)] if origin else []), content)
        is_own = host in hosts[:2] and origin in (None, f"http://{host}")
        shared = [name for name in answer.headers if name.startswith("access-control")]
        wrong += [(host, origin, route, kind, answer.status)] if (answer.status == 403) == is_own or shared else []
        tried += 1
    assert not wrong and tried == 192
