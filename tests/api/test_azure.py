"""Azure's doors: its client, its addresses, its deployments."""

from collections.abc import Iterator

import openai
import pytest
from tests.api.fakes import HELLO
from tests.api.whole import VERSION, Whole, refused, whole_in
from tests.jobs.service.made import chat_lines, new_job, wait_for, wait_until

PLACE = (
    "/subscriptions/s-1/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/mine/deployments/support"
    "?api-version=2024-10-01"
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with whole_in(tmp_path_factory.mktemp("azure")) as house:
        yield house


@pytest.fixture(scope="module")
def tuned(house: Whole) -> str:
    job = wait_until(house.service, new_job(house.service, suffix="steps"), "succeeded", "failed")
    assert job.fine_tuned_model
    return job.fine_tuned_model


def put(house: Whole, model: str, **more: object) -> dict:
    body = {"sku": {"name": "standard", "capacity": 1}, "properties": {"model": {"format": "OpenAI", "name": model}}}
    body["properties"]["model"]["version"] = "1"
    reply = house.http().put(PLACE, json={**body, **more})
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_the_flow_of_azures_client(house: Whole) -> None:
    client = house.azure(_strict_response_validation=True)
    file = client.files.create(file=("a.jsonl", b"\xef\xbb\xbf" + chat_lines()), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="gpt-4o-mini-2024-07-18", training_file=file.id, suffix="steps", extra_body={"trainingType": "standard"}
    )
    jobs = client.fine_tuning.jobs
    wait_for(lambda: jobs.retrieve(job.id).status == "succeeded")
    job = jobs.retrieve(job.id)
    assert jobs.list_events(job.id).data[0].message == "The job has successfully completed"
    assert client.files.content(job.result_files[0]).read().startswith(b"step,train_loss,train_accuracy,")
    assert put(house, job.fine_tuned_model)["name"] == "support"
    said = client.chat.completions.create(model="support", messages=HELLO)
    assert said.model == job.fine_tuned_model and "says hello" in said.choices[0].message.content
    streamed = client.chat.completions.create(model="support", messages=HELLO, stream=True)
    assert "says hello" in "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
    assert job.id in [one.id for one in jobs.list()] and client.models.retrieve(job.fine_tuned_model).object == "model"
    assert client.files.delete(file.id).deleted


def test_a_deployment_in_the_clients_settings_and_a_models_own_name(house: Whole, tuned: str) -> None:
    put(house, tuned)
    deployed = house.azure(azure_deployment="support")
    for client, model in ((deployed, "anything"), (house.azure(), tuned)):
        assert client.chat.completions.create(model=model, messages=HELLO).model == tuned, "the path's model wins"
        assert client.completions.create(model=model, prompt="hello").model == tuned
        assert len(client.embeddings.create(model=model, input="hello").data[0].embedding) == 4
    assert deployed.files.list().object == "list"
    with pytest.raises(openai.NotFoundError) as raised:
        house.azure(azure_deployment="none").chat.completions.create(model="tiny", messages=HELLO)
    refused(raised, openai.NotFoundError, code="model_not_found")


def test_the_version_is_needed_at_the_old_addresses_only(house: Whole) -> None:
    with house.http() as http:
        for path in ("/openai/models", "/openai/fine_tuning/jobs", PLACE.split("?")[0]):
            for query in ("", "?api-version=", "?api-version=latest", "?api-version=2024-10-01-beta"):
                reply = http.get(path + query)
                assert (reply.status_code, reply.json()["error"]["param"]) == (400, "api-version"), path + query
        for version in ("2024-10-01", "2024-10-01-preview", VERSION):
            assert http.get(f"/openai/models?api-version={version}").status_code == 200
        assert http.get("/openai/v1/models").status_code == http.get("/openai/v1/models?api-version=x").status_code
        assert http.get("/openai/v1/models").json() == http.get("/v1/models").json()


def test_both_ways_to_show_a_key(house: Whole) -> None:
    with house.http(None) as http:
        address = f"/openai/models?api-version={VERSION}"
        assert http.get(address, headers={"api-key": house.keys["plain"]}).status_code == 200
        assert http.get(address, headers={"api-key": "sk-none"}).status_code == 401
        assert http.get(address).json()["error"]["type"] == "invalid_request_error"
    client = openai.OpenAI(base_url=f"{house.address}/openai/v1/", api_key=house.keys["plain"])
    assert [model.id for model in client.models.list()][0] == "tiny"


def test_deployments_are_made_told_and_deleted(house: Whole, tuned: str) -> None:
    made = put(house, tuned)
    assert made == {
        "id": PLACE.split("?")[0],
        "name": "support",
        "type": "Microsoft.CognitiveServices/accounts/deployments",
        "sku": {"name": "standard", "capacity": 1},
        "properties": {
            "model": {"format": "OpenAI", "name": tuned, "version": "1"},
            "provisioningState": "Succeeded",
        },
    }
    folder = PLACE.replace("/support", "")
    with house.http() as http, house.http("other") as other:
        assert http.get(PLACE).json() == made and http.get(folder).json() == {"value": [made]}
        assert other.get(PLACE).status_code == 404 and other.get(folder).json() == {"value": []}
        assert put(house, "tiny", sku={"name": "other"})["properties"]["model"]["name"] == "tiny"
        assert http.delete(PLACE).status_code == 204
        gone = http.get(PLACE)
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "DeploymentNotFound")
        assert http.delete(PLACE).status_code == 404


def test_what_cannot_be_deployed_is_refused(house: Whole, tuned: str) -> None:
    with house.http() as http:
        body = {"properties": {"model": {"name": "none"}}}
        reply = http.put(PLACE, json=body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
        reply = http.put(PLACE, json={"properties": {}})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "properties.model")
        body = {"properties": {"model": {"name": tuned}}}
        reply = http.put(PLACE.replace("/support", "/-no"), json=body)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "name")
