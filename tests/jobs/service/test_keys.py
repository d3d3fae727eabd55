from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.jobs.service.made import service_of

from luthier.jobs.service.keys import is_well_formed, new_secret
from luthier.jobs.service.refusal import Refusal
from luthier.jobs.service.service import Service, open_service


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return service_of(tmp_path)


def test_a_key_opens_its_project_and_its_secret_is_stored_nowhere(service: Service) -> None:
    key, secret = service.keys.create("laptop", project_id="team", admin=True)
    assert service.keys.check(secret) == key and (key.project_id, key.admin, key.last4) == ("team", True, secret[-4:])
    stored = b"".join(path.read_bytes() for path in service.home.path.rglob("*") if path.is_file())
    assert secret.encode() not in stored and secret[6:30].encode() not in stored


def test_a_revoked_key_is_refused_at_once_and_in_every_process(service: Service) -> None:
    key, secret = service.keys.create("a")
    other = open_service(service.home.path, service.settings)
    assert other.keys.check(secret)
    revoked = service.keys.revoke(key.id)
    assert revoked.revoked_at and other.keys.check(secret) is None and service.keys.check(secret) is None
    assert service.keys.revoke(key.id).revoked_at == revoked.revoked_at
    assert [kept.id for kept in service.keys.list()] == [key.id]


def test_secrets_are_long_random_and_checked() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100 and all(secret.startswith("sk-ft-") and len(secret) == 57 for secret in made)
    assert all(map(is_well_formed, made))


@given(st.integers(0, 56), st.sampled_from("abcXYZ019_-."))
def test_one_wrong_character_is_noticed(place: int, character: str) -> None:
    secret = "sk-ft-" + "A" * 43 + "e5b9f0a1"
    good = new_secret()
    wrong = good[:place] + character + good[place + 1 :]
    assert is_well_formed(wrong) == (wrong == good)
    assert not is_well_formed(secret)


@pytest.mark.parametrize("secret", ["", "sk-ft-", "Bearer x", "é" * 57, "\ud800" * 57, "a" * 10_000])
def test_what_is_no_key_is_refused(service: Service, secret: str) -> None:
    assert service.keys.check(secret) is None


def test_names_and_projects_are_checked(service: Service) -> None:
    project = {"name": "a", "project_id": "../x"}
    for words in ({"name": ""}, {"name": "x" * 81}, project, project | {"project_id": ""}):
        with pytest.raises(Refusal):
            service.keys.create(**words)
    with pytest.raises(Refusal, match="No such Key"):
        service.keys.revoke("key_nothing")
    assert service.keys.list() == []
