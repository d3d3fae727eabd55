"""Models, asked by the official client."""

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.api.fakes import HELLO
from tests.api.whole import Whole, refused, whole_in
from tests.jobs.service.made import OWNER, new_job, wait_until

HOSTED = "gpt-4o-mini-2024-07-18"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with whole_in(tmp_path_factory.mktemp("models")) as house:
        yield house


@pytest.fixture
def tuned(house: Whole) -> str:
    job = wait_until(house.service, new_job(house.service), "succeeded", "failed")
    assert job.fine_tuned_model
    return job.fine_tuned_model


def test_bases_and_tuned_models_are_listed(house: Whole, tuned: str) -> None:
    models = {model.id: model for model in house.client().models.list()}
    assert models["tiny"].owned_by == "system" and models["tiny"].object == "model"
    assert models[tuned].owned_by == "luthier" and models[tuned].created > 0
    assert [model.id for model in house.client("other").models.list()] == ["tiny"]


def test_a_model_is_told_by_its_own_name_also_when_asked_by_another(house: Whole, tuned: str) -> None:
    client = house.client()
    assert client.models.retrieve(tuned).id == tuned
    assert client.models.retrieve(HOSTED).id == "tiny", "every reply names what really runs"
    house.service.deployments.put("mine", tuned, OWNER)
    assert client.models.retrieve("mine").id == tuned
    house.service.deployments.delete("mine", OWNER)


def test_the_recorded_words_for_an_unknown_model(house: Whole) -> None:
    models = house.client().models
    asks: list[Any] = [models.retrieve, models.delete]
    for ask in asks:
        with pytest.raises(openai.NotFoundError) as raised:
            ask("ft:123")
        message = "The model 'ft:123' does not exist"
        refused(raised, openai.NotFoundError, message=message, code="model_not_found", param="model")


def test_a_tuned_model_can_be_deleted_and_its_weights_leave_memory(house: Whole, tuned: str) -> None:
    client = house.client()
    adapter = house.service.catalogue.resolve(tuned, OWNER).adapter
    assert client.chat.completions.create(model=tuned, messages=HELLO).model == tuned
    with pytest.raises(openai.NotFoundError):
        house.client("other").models.delete(tuned)
    gone = client.models.delete(tuned)
    assert (gone.id, gone.object, gone.deleted) == (tuned, "model", True)
    assert house.engine.forgotten[-1] == adapter and not adapter.exists()
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model=tuned, messages=HELLO)
    refused(raised, openai.NotFoundError, code="model_not_found")


@pytest.mark.parametrize("name", ["tiny", HOSTED])
def test_a_base_cannot_be_deleted(house: Whole, name: str) -> None:
    with pytest.raises(openai.PermissionDeniedError) as raised:
        house.client().models.delete(name)
    refused(raised, openai.PermissionDeniedError, param="model")


def test_a_deployed_model_cannot_be_deleted(house: Whole, tuned: str) -> None:
    house.service.deployments.put("used", tuned, OWNER)
    with pytest.raises(openai.ConflictError) as raised:
        house.client().models.delete(tuned)
    refused(raised, openai.ConflictError, code="model_deployed")
    house.service.deployments.delete("used", OWNER)
    assert house.client().models.delete(tuned).deleted


def test_the_async_client_does_the_same(house: Whole, tuned: str) -> None:
    async def ask() -> None:
        async with house.async_client() as client:
            assert tuned in [model.id async for model in client.models.list()]
            assert (await client.models.retrieve(tuned)).id == tuned
            assert (await client.models.delete(tuned)).deleted

    asyncio.run(ask())
