from pathlib import Path

from tests.api.whole import whole_in

import luthier


def test_health_is_told_to_keys_and_ends_with_the_queue(tmp_path: Path) -> None:
    with whole_in(tmp_path) as house:
        told = house.http().get("/healthz")
        assert (told.status_code, told.json()) == (200, {"status": "ok", "version": luthier.__version__})
        assert house.http(None).get("/healthz").status_code == 401
        house.service.supervisor.stop()
        told = house.http().get("/healthz")
        assert told.status_code == 503 and told.json()["error"]["type"] == "server_error"
