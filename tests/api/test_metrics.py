"""The numbers for Prometheus: routes by their pattern, times, rows, adapters, jobs; and no word of a prompt."""

import httpx2
from prometheus_client.parser import text_string_to_metric_families
from tests.api.fakes import Room


def numbers(room: Room) -> dict[str, float]:
    reply = httpx2.get(f"{room.address}/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(reply.text)
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_happened_is_counted(room: Room) -> None:
    before = numbers(room)
    room.ask(messages=[{"role": "user", "content": "SECRET-PROMPT"}])
    room.refused(model="SECRET-MODEL")
    after = numbers(room)
    grown = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    assert grown["luthier_requests_total POST /chat/completions 200"] == 1
    assert grown["luthier_requests_total POST /chat/completions 404"] == 1
    assert grown["luthier_first_token_seconds_count"] == grown["luthier_tokens_per_second_count"] == 1
    assert after["luthier_jobs running"] == 2 and after["luthier_adapter_bytes"] == 5000
    assert (after["luthier_rows_running"], after["luthier_rows_waiting"]) == (1, 2)
    assert after["luthier_cached_prompt_tokens_total"] == 10
    assert "SECRET" not in httpx2.get(f"{room.address}/metrics").text


def test_ids_do_not_become_labels(room: Room) -> None:
    httpx2.get(f"{room.address}/v1/nowhere/SECRET")
    assert numbers(room)["luthier_requests_total GET none 404"] >= 1
