"""Subscriptions over REST: filters, formats, warnings, and the endpoint they need."""

from typing import Any

import pytest

from app.domain.ids import EndpointId, parse_id
from app.store import endpoints
from app.store.configuration import SqlConfigurationStore
from tests.integration.api.conftest import Api

WEBHOOK = {"name": "inbox", "kind": "webhook", "config": {"url": "https://example.com/hook"}}
KAFKA = {"name": "log", "kind": "kafka", "config": {"bootstrap_servers": "127.0.0.1:9092", "topic": "uploads"}}
UNKNOWN_ENDPOINT = f"ep_{'a' * 26}"
EVERYTHING = {"buckets": [], "events": [], "key_prefix": "", "key_suffix": ""}


@pytest.fixture
async def endpoint_id(api: Api) -> str:
    """Give a webhook."""
    made: str = (await api.ask.post("/v1/endpoints", WEBHOOK)).body["id"]
    return made


async def test_a_subscription_takes_all_unless_told(api_on_both: Api) -> None:
    """Without a filter every member is empty; the format is that of the endpoint's kind."""
    ask = api_on_both.ask
    webhook = (await ask.post("/v1/endpoints", WEBHOOK)).body["id"]
    kafka = (await ask.post("/v1/endpoints", KAFKA)).body["id"]

    first = await ask.post("/v1/subscriptions", {"name": "all", "endpoint_id": webhook})
    second = await ask.post("/v1/subscriptions", {"name": "all", "endpoint_id": kafka, "filter": {}})

    assert (first.status, second.status) == (201, 201)
    assert first.headers["location"] == f"/v1/subscriptions/{first.body['id']}"
    assert (first.body["filter"], first.body["format"]) == (EVERYTHING, "standard")
    assert (second.body["filter"], second.body["format"]) == (EVERYTHING, "cloudevents-binary")
    assert first.body.pop("warnings") == []
    assert (await ask.get(first.headers["location"])).body == first.body


async def test_a_filter_reads_back_as_given(api: Api, endpoint_id: str) -> None:
    """Names with and without `s3:`, globs, prefix and suffix stay as they were written."""
    wanted = {
        "buckets": ["photos-*", "b?"],
        "events": ["s3:ObjectCreated:*", "ObjectRemoved:Delete", "*"],
        "key_prefix": "ä/",
        "key_suffix": ".jpg",
    }

    made = await api.ask.post(
        "/v1/subscriptions", {"name": "x", "endpoint_id": endpoint_id, "filter": wanted, "format": "s3"}
    )

    assert (made.body["filter"], made.body["format"], made.body["warnings"]) == (wanted, "s3", [])


async def test_unknown_events_are_taken_and_named(api: Api, endpoint_id: str) -> None:
    """At creation and when patched: accepted, kept, and named in the warnings."""
    fields = {"name": "x", "endpoint_id": endpoint_id, "filter": {"events": ["s3:ObjectMoved:*", "ObjectCreated:Put"]}}

    made = await api.ask.post("/v1/subscriptions", fields)
    changed = await api.ask.patch(made.headers["location"], {"filter": {"events": ["Nope"]}})

    assert (made.status, made.body["warnings"]) == (201, ["s3:ObjectMoved:*"])
    assert (changed.status, changed.body["warnings"]) == (200, ["Nope"])
    assert changed.body["filter"]["events"] == ["Nope"]


async def test_operator_events_are_known_and_have_no_record_of_s3(api: Api, endpoint_id: str) -> None:
    """They are named without a warning, and refused with the one format that has no form for them."""
    fields = {"name": "x", "endpoint_id": endpoint_id, "filter": {"events": ["gateway.*", "s3:ObjectCreated:*"]}}

    made = await api.ask.post("/v1/subscriptions", fields)
    refused = await api.ask.post("/v1/subscriptions", {**fields, "format": "s3"})
    changed = await api.ask.patch(made.headers["location"], {"format": "s3"})

    assert (made.status, made.body["warnings"]) == (201, [])
    for answer in (refused, changed):
        assert (answer.status, answer.body["errors"][0]["pointer"]) == (422, "/format")


async def test_a_subscription_that_begins_to_name_operator_events_is_told_of_them(api: Api, endpoint_id: str) -> None:
    """At creation and by a patch, and no more when it stops."""
    path = (await api.ask.post("/v1/subscriptions", {"name": "x", "endpoint_id": endpoint_id})).headers["location"]
    heard = []

    for events in (["gateway.endpoint.*"], ["*"], ["gateway.delivery.dead"], ["gateway.*"]):
        await api.ask.patch(path, {"filter": {"events": events}})
        troubled = parse_id("ep", (await api.ask.post("/v1/endpoints", WEBHOOK)).body["id"])
        async with api.database.write() as connection:
            await endpoints.disable(connection, EndpointId(troubled or b""), reason="It wants no more.")
        found = await api.ask.get("/v1/events", type="gateway.endpoint.disabled")
        heard.append(len(found.body["data"]))

    assert heard == [1, 1, 1, 2]


async def test_a_patch_merges_the_filter(api: Api, endpoint_id: str) -> None:
    """Members of the filter merge one by one, null empties one, and null for the format takes the kind's."""
    kafka = (await api.ask.post("/v1/endpoints", KAFKA)).body["id"]
    fields = {
        "name": "x",
        "endpoint_id": endpoint_id,
        "filter": {"buckets": ["a"], "key_prefix": "p/"},
        "format": "s3",
    }
    path = (await api.ask.post("/v1/subscriptions", fields)).headers["location"]

    first = await api.ask.patch(path, {"filter": {"buckets": None, "key_suffix": ".jpg"}})
    second = await api.ask.patch(path, {"endpoint_id": kafka, "format": None, "filter": None})

    assert first.body["filter"] == {**EVERYTHING, "key_prefix": "p/", "key_suffix": ".jpg"}
    assert first.body["format"] == "s3"
    assert second.body["filter"] == EVERYTHING
    assert (second.body["endpoint_id"], second.body["format"]) == (kafka, "cloudevents-binary")


async def test_a_change_is_in_the_set_up_when_it_is_answered(api_on_both: Api) -> None:
    """Whoever loads the configuration after the answer finds the change, under a later epoch."""
    ask, store = api_on_both.ask, SqlConfigurationStore(api_on_both.database)
    endpoint = (await ask.post("/v1/endpoints", WEBHOOK)).body["id"]
    path = (await ask.post("/v1/subscriptions", {"name": "x", "endpoint_id": endpoint})).headers["location"]
    before = await store.load()

    await ask.patch(path, {"filter": {"buckets": ["a"]}})
    after = await store.load()
    await ask.delete(path)
    last = await store.load()

    assert before.epoch < after.epoch < last.epoch
    assert [each.filter.buckets for each in after.subscriptions.values()] == [("a",)]
    assert last.subscriptions == {}
    assert api_on_both.around.changes == 4


async def test_a_deleted_subscription_is_gone(api: Api, endpoint_id: str) -> None:
    """204, then 404; its endpoint stays."""
    path = (await api.ask.post("/v1/subscriptions", {"name": "x", "endpoint_id": endpoint_id})).headers["location"]

    deleted = await api.ask.delete(path)

    later = [await api.ask.get(path), await api.ask.patch(path, {}), await api.ask.delete(path)]
    assert (deleted.status, [each.status for each in later]) == (204, [404, 404, 404])
    assert (await api.ask.get(f"/v1/endpoints/{endpoint_id}")).status == 200


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "/name"),
    ({"endpoint_id": UNKNOWN_ENDPOINT}, "/endpoint_id"),
    ({"endpoint_id": "nonsense"}, "/endpoint_id"),
    ({"endpoint_id": 5}, "/endpoint_id"),
    ({"endpoint_id": None}, "/endpoint_id"),
    ({"format": "xml"}, "/format"),
    ({"filter": []}, "/filter"),
    ({"filter": {"bucket": "a"}}, "/filter/bucket"),
    ({"filter": {"buckets": "photos"}}, "/filter/buckets"),
    ({"filter": {"buckets": [5]}}, "/filter/buckets/0"),
    ({"filter": {"buckets": ["a", ""]}}, "/filter/buckets/1"),
    ({"filter": {"buckets": ["x" * 256]}}, "/filter/buckets/0"),
    ({"filter": {"buckets": ["a"] * 1001}}, "/filter/buckets"),
    ({"filter": {"events": {"0": "a"}}}, "/filter/events"),
    ({"filter": {"events": ["ObjectCreated:Put\x00"]}}, "/filter/events/0"),
    ({"filter": {"key_prefix": ["a"]}}, "/filter/key_prefix"),
    ({"filter": {"key_prefix": "x" * 1025}}, "/filter/key_prefix"),
    ({"filter": {"key_prefix": "\udfff"}}, "/filter/key_prefix"),
    ({"filter": {"key_suffix": 5}}, "/filter/key_suffix"),
    ({"kind": "webhook"}, "/kind"),
    ({"id": f"sub_{'a' * 26}"}, "/id"),
    ({"warnings": []}, "/warnings"),
]


@pytest.mark.parametrize(("fields", "pointer"), BAD)
async def test_a_bad_field_is_422_and_pointed_at(
    api: Api, endpoint_id: str, fields: dict[str, Any], pointer: str
) -> None:
    """At creation, and in a patch wherever the field may be sent at all."""
    good = {"name": "x", "endpoint_id": endpoint_id}
    path = (await api.ask.post("/v1/subscriptions", good)).headers["location"]

    refused = await api.ask.post("/v1/subscriptions", {**good, **fields})
    unpatched = await api.ask.patch(path, fields)

    assert (refused.status, unpatched.status) == (422, 422)
    assert pointer in [each["pointer"] for each in refused.body["errors"]]
    assert pointer in [each["pointer"] for each in unpatched.body["errors"]]
