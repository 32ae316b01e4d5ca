"""Endpoints over REST: created, read, listed, patched, deleted; secrets never shown again."""

import base64
from typing import Any

import pytest
from sqlalchemy import select, update

from app.domain.configuration import DEFAULT_SCHEDULE_SECONDS
from app.domain.ids import EndpointId, parse_id
from app.store import endpoints, schema
from app.store.columns import now
from app.store.outbox_schema import lane
from tests.integration.api.conftest import Api

WEBHOOK = {"name": "inbox", "kind": "webhook", "config": {"url": "https://example.com/hook"}}
KAFKA = {"name": "log", "kind": "kafka", "config": {"bootstrap_servers": "127.0.0.1:9092", "topic": "uploads"}}
SECRET = f"whsec_{base64.b64encode(b'k' * 24).decode()}"
UNKNOWN = f"ep_{'a' * 26}"


async def _create(api: Api, **fields: Any) -> dict[str, Any]:
    made = await api.ask.post("/v1/endpoints", {**WEBHOOK, **fields})
    assert made.status == 201, made.body
    body: dict[str, Any] = made.body
    return body


async def test_a_webhook_is_created_with_the_defaults(api_on_both: Api) -> None:
    """The answer is 201 with a Location, every default filled in, and a secret that was made."""
    api = api_on_both

    made = await api.ask.post("/v1/endpoints", WEBHOOK)
    read = await api.ask.get(made.headers["location"])

    secret = made.body.pop("secret")
    assert (made.status, read.status) == (201, 200)
    assert made.headers["location"] == f"/v1/endpoints/{made.body['id']}"
    assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"))) <= 64
    assert made.body == read.body
    assert made.body == {
        "id": made.body["id"],
        "name": "inbox",
        "kind": "webhook",
        "config": {"url": "https://example.com/hook", "headers": {}},
        "state": "active",
        "disabled_at": None,
        "disabled_reason": None,
        "ordering": "none",
        "on_dead": "skip",
        "reorder_window_seconds": 0,
        "late": "deliver",
        "timeout_seconds": 15,
        "max_in_flight": 8,
        "rate_limit_per_second": None,
        "retry": {"schedule_seconds": list(DEFAULT_SCHEDULE_SECONDS), "max_age_seconds": 432_000},
        "answers": {},
        "paused": False,
        "created_at": made.body["updated_at"],
        "updated_at": made.body["created_at"],
    }
    assert api.around.changes == 1


async def test_a_kafka_endpoint_has_no_secret(api: Api) -> None:
    """Neither made nor taken."""
    made = await api.ask.post("/v1/endpoints", KAFKA)
    refused = await api.ask.post("/v1/endpoints", {**KAFKA, "secret": SECRET})

    assert made.status == 201
    assert "secret" not in made.body
    assert made.body["config"]["topic"] == "uploads"
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (422, "/secret")


@pytest.mark.parametrize("place", ["beside", "inside"])
async def test_a_given_secret_is_taken(api: Api, place: str) -> None:
    """Beside the config or inside it; it is shown once and never kept in the config."""
    fields = {"secret": SECRET} if place == "beside" else {"config": {"url": "https://example.com/", "secret": SECRET}}

    made = await _create(api, **fields)

    assert made["secret"] == SECRET
    assert "secret" not in made["config"]
    async with api.database.read() as connection:
        [row] = (await connection.execute(select(schema.endpoint))).all()
    assert row.secret == b"k" * 24
    assert SECRET not in str(row.config)


async def test_nothing_secret_is_shown_again(api: Api) -> None:
    """Not by reading, listing or patching; header names are shown, their values are not."""
    made = await _create(api, secret=SECRET, config={"url": "https://example.com/", "headers": {"X-Token": "hush"}})

    answers = [
        await api.ask.get(f"/v1/endpoints/{made['id']}"),
        await api.ask.get("/v1/endpoints"),
        await api.ask.patch(f"/v1/endpoints/{made['id']}", {"name": "other"}),
    ]

    assert made["config"]["headers"] == {"X-Token": "***"}
    assert [answer.status for answer in answers] == [200, 200, 200]
    for answer in answers:
        assert "hush" not in str(answer.body)
        assert "whsec_" not in str(answer.body)
        assert "'X-Token': '***'" in str(answer.body)


async def test_a_hidden_value_sent_back_stays(api: Api) -> None:
    """`***` keeps what is stored, another value replaces it, null removes it, and the secret stays."""
    made = await _create(
        api,
        secret=SECRET,
        config={"url": "https://example.com/", "headers": {"X-Kept": "one", "X-New": "two", "X-Gone": "three"}},
    )
    patch = {"config": {"headers": {"X-Kept": "***", "X-New": "four", "X-Gone": None}}}

    changed = await api.ask.patch(f"/v1/endpoints/{made['id']}", patch)

    assert changed.body["config"]["headers"] == {"X-Kept": "***", "X-New": "***"}
    async with api.database.read() as connection:
        [row] = (await connection.execute(select(schema.endpoint))).all()
    assert row.config == {"url": "https://example.com/", "headers": {"X-Kept": "one", "X-New": "four"}}
    assert row.secret == b"k" * 24


async def test_a_hidden_value_without_a_stored_one_is_refused(api: Api) -> None:
    """`***` for a header that is not stored is nobody's value: neither in a patch nor at creation."""
    made = await _create(api)
    config = {"url": "https://example.com/", "headers": {"X-Other": "***"}}

    answers = [
        await api.ask.patch(f"/v1/endpoints/{made['id']}", {"config": config}),
        await api.ask.post("/v1/endpoints", {**WEBHOOK, "config": config}),
    ]

    assert [(each.status, each.body["errors"][0]["pointer"]) for each in answers] == [
        (422, "/config/headers/X-Other"),
        (422, "/config/headers/X-Other"),
    ]


async def test_a_patch_merges_and_null_takes_the_default(api_on_both: Api) -> None:
    """RFC 7396: what is left out stays, objects merge, arrays are replaced, null takes the default again."""
    api = api_on_both
    made = await _create(api, timeout_seconds=3, max_in_flight=2, retry={"schedule_seconds": [1, 2]})
    path = f"/v1/endpoints/{made['id']}"

    first = await api.ask.patch(path, {"timeout_seconds": None, "config": {"headers": {"X-A": "1"}}, "kind": "webhook"})
    second = await api.ask.patch(path, {"retry": {"schedule_seconds": []}})
    third = await api.ask.patch(path, {"retry": None, "name": "renamed"})

    assert first.body["timeout_seconds"] == 15
    assert first.body["config"] == {"url": "https://example.com/hook", "headers": {"X-A": "***"}}
    assert (first.body["max_in_flight"], first.body["retry"]) == (
        2,
        {"schedule_seconds": [1, 2], "max_age_seconds": 432_000},
    )
    assert second.body["retry"] == {"schedule_seconds": [], "max_age_seconds": 432_000}
    assert third.body["retry"] == {"schedule_seconds": list(DEFAULT_SCHEDULE_SECONDS), "max_age_seconds": 432_000}
    assert (third.body["name"], third.body["created_at"]) == ("renamed", made["created_at"])
    assert third.body["updated_at"] >= made["updated_at"]
    assert (await api.ask.get(path)).body == third.body


async def test_a_refused_patch_changes_nothing(api: Api) -> None:
    """The whole outcome is judged before anything is written."""
    made = await _create(api)
    path = f"/v1/endpoints/{made['id']}"

    refused = await api.ask.patch(path, {"name": "other", "timeout_seconds": -1})

    made.pop("secret")
    assert refused.status == 422
    assert (await api.ask.get(path)).body == made


async def test_a_deleted_endpoint_is_gone_with_its_subscriptions(api_on_both: Api) -> None:
    """204 without a body, then 404 for reading, patching and deleting, and for its subscription."""
    api = api_on_both
    made = await _create(api)
    path = f"/v1/endpoints/{made['id']}"
    subscription = await api.ask.post("/v1/subscriptions", {"name": "s", "endpoint_id": made["id"]})

    deleted = await api.ask.delete(path)

    assert (deleted.status, deleted.body) == (204, None)
    later = [
        await api.ask.get(path),
        await api.ask.patch(path, {}),
        await api.ask.delete(path),
        await api.ask.get(subscription.headers["location"]),
    ]
    assert [each.status for each in later] == [404] * 4
    assert (await api.ask.get("/v1/endpoints")).body["data"] == []


@pytest.mark.parametrize(
    "name", [UNKNOWN, "ep_", "x", f"sub_{'a' * 26}", f"ep_{'A' * 26}", f"ep_{'1' * 26}", "ep_é%00"]
)
async def test_an_unknown_or_malformed_id_is_404(api: Api, name: str) -> None:
    """For every method alike."""
    path = f"/v1/endpoints/{name}"

    answers = [await api.ask.get(path), await api.ask.patch(path, {}), await api.ask.delete(path)]

    assert [each.status for each in answers] == [404, 404, 404]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "/name"),
    ({"name": "x" * 201}, "/name"),
    ({"name": 5}, "/name"),
    ({"name": None}, "/name"),
    ({"kind": "carrier pigeon"}, "/kind"),
    ({"kind": None}, "/kind"),
    ({"config": None}, "/config"),
    ({"config": []}, "/config"),
    ({"config": {}}, "/config/url"),
    ({"config": {"url": 5}}, "/config/url"),
    ({"config": {"url": "ftp://example.com"}}, "/config/url"),
    ({"config": {"url": "https://10.0.0.1/"}}, "/config/url"),
    ({"config": {"url": "https://169.254.169.254/"}}, "/config/url"),
    ({"config": {"url": "https://[::ffff:10.0.0.1]/"}}, "/config/url"),
    ({"config": {"url": "https://example.com:22/"}}, "/config/url"),
    ({"config": {"url": "https://example.com/", "x": 1}}, "/config/x"),
    ({"config": {"url": "https://example.com/", "a/b~c": 1}}, "/config/a~1b~0c"),
    ({"config": {"url": "https://example.com/", "headers": {"A": 5}}}, "/config/headers/A"),
    ({"config": {"url": "https://example.com/", "headers": {"Host": "x"}}}, "/config/headers"),
    ({"config": {"url": "https://example.com/", "headers": {"webhook-id": "x"}}}, "/config/headers"),
    ({"config": {"url": "https://example.com/", "headers": {"Idempotency-Key": "x"}}}, "/config/headers"),
    ({"config": {"url": "https://example.com/", "headers": {"A": "b\r\nC: d"}}}, "/config/headers"),
    ({"config": {"url": "https://example.com/", "headers": {"bad name": "x"}}}, "/config/headers"),
    ({"config": {"url": "https://example.com/", "headers": {"A": "1", "a": "2"}}}, "/config/headers"),
    ({"ordering": "sometimes"}, "/ordering"),
    ({"on_dead": "run"}, "/on_dead"),
    ({"late": "drop"}, "/late"),
    ({"late": "never", "ordering": "key"}, "/late"),
    ({"reorder_window_seconds": 1}, "/reorder_window_seconds"),
    ({"reorder_window_seconds": 1, "ordering": "endpoint"}, "/reorder_window_seconds"),
    ({"reorder_window_seconds": -1, "ordering": "key"}, "/reorder_window_seconds"),
    ({"reorder_window_seconds": 61, "ordering": "key"}, "/reorder_window_seconds"),
    ({"rate_limit_per_second": 0}, "/rate_limit_per_second"),
    ({"retry": {"max_age_seconds": 0}}, "/retry/max_age_seconds"),
    ({"answers": {"600": "die"}}, "/answers/600"),
    ({"answers": {"404": "explode"}}, "/answers/404"),
    ({"paused": "perhaps"}, "/paused"),
    ({"state": "active"}, "/state"),
    ({"timeout_seconds": 0}, "/timeout_seconds"),
    ({"timeout_seconds": 121}, "/timeout_seconds"),
    ({"timeout_seconds": "15"}, "/timeout_seconds"),
    ({"timeout_seconds": True}, "/timeout_seconds"),
    ({"timeout_seconds": 10**400}, "/timeout_seconds"),
    ({"max_in_flight": 0}, "/max_in_flight"),
    ({"max_in_flight": 1001}, "/max_in_flight"),
    ({"max_in_flight": 8.5}, "/max_in_flight"),
    ({"max_in_flight": 2**70}, "/max_in_flight"),
    ({"retry": []}, "/retry"),
    ({"retry": {"schedule": [1]}}, "/retry/schedule"),
    ({"retry": {"schedule_seconds": "1"}}, "/retry/schedule_seconds"),
    ({"retry": {"schedule_seconds": [1, -1]}}, "/retry/schedule_seconds/1"),
    ({"retry": {"schedule_seconds": [1] * 101}}, "/retry/schedule_seconds"),
    ({"secret": "hunter2"}, "/secret"),
    ({"secret": "whsec_c2hvcnQ="}, "/secret"),
    ({"secret": 5}, "/secret"),
    ({"secret": SECRET, "config": {"url": "https://example.com/", "secret": SECRET}}, "/config/secret"),
    ({"id": UNKNOWN}, "/id"),
    ({"created_at": "2026-11-24T10:00:00.000Z"}, "/created_at"),
    ({"colour": "red"}, "/colour"),
    ({"name": "a\x00b"}, "/name"),
    ({"name": "a\ud800b"}, "/name"),
    ({"config": {"url": "https://example.com/\x00"}}, "/config/url"),
    ({"config": {"url": "https://example.com/", "headers": {"X\ud800": "1"}}}, "/config/headers/X?"),
    ({"a\x00": 1}, "/a\ufffd"),
]


@pytest.mark.parametrize(
    ("fields", "pointer"), BAD, ids=[f"{number}{pointer!a}" for number, (_, pointer) in enumerate(BAD)]
)
async def test_a_bad_field_is_422_and_pointed_at(api: Api, fields: dict[str, Any], pointer: str) -> None:
    """Nothing is created, what was sent is not repeated, and the pointer says where to look."""
    refused = await api.ask.post("/v1/endpoints", {**WEBHOOK, **fields})

    assert refused.status == 422
    assert pointer in [each["pointer"] for each in refused.body["errors"]]
    assert "hunter2" not in str(refused.body)
    assert (await api.ask.get("/v1/endpoints")).body["data"] == []


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"kind": "kafka"}, "/kind"),
        ({"kind": None}, "/kind"),
        ({"name": None}, "/name"),
        ({"config": None}, "/config"),
        ({"config": {"url": None}}, "/config/url"),
        ({"config": {"url": "https://10.0.0.1/"}}, "/config/url"),
        ({"secret": SECRET}, "/secret"),
        ({"id": UNKNOWN}, "/id"),
        ({"colour": "red"}, "/colour"),
        ({"retry": {"schedule_seconds": {"0": 1}}}, "/retry/schedule_seconds"),
    ],
)
async def test_a_bad_patch_is_422_and_pointed_at(api: Api, patch: dict[str, Any], pointer: str) -> None:
    """What cannot change, what must stay, what is not there."""
    made = await _create(api)

    refused = await api.ask.patch(f"/v1/endpoints/{made['id']}", patch)

    assert refused.status == 422
    assert pointer in [each["pointer"] for each in refused.body["errors"]]


async def test_an_allowed_network_is_open(api: Api) -> None:
    """A literal address of a network the operator allowed is taken."""
    made = await _create(api, config={"url": "http://127.0.0.1:9000/hook"})

    assert made["config"]["url"] == "http://127.0.0.1:9000/hook"


async def test_a_kafka_endpoint_is_ordered_by_key_unless_told_otherwise(api: Api) -> None:
    """A topic's readers count on it; a webhook's do not."""
    unsaid = await api.ask.post("/v1/endpoints", KAFKA)
    said = await api.ask.post("/v1/endpoints", {**KAFKA, "ordering": "none"})

    assert (unsaid.body["ordering"], said.body["ordering"]) == ("key", "none")


async def test_a_window_and_late_need_an_order_by_key(api: Api) -> None:
    """Set together with it, and refused by a change that would leave them without."""
    made = await _create(api, ordering="key", reorder_window_seconds=2.5, late="mark")
    path = f"/v1/endpoints/{made['id']}"

    refused = await api.ask.patch(path, {"ordering": "endpoint"})
    kept = await api.ask.get(path)
    taken = await api.ask.patch(path, {"ordering": "none", "reorder_window_seconds": 0, "late": "deliver"})
    again = await api.ask.patch(path, {"late": "drop"})

    assert (made["reorder_window_seconds"], made["late"]) == (2.5, "mark")
    assert (refused.status, again.status, taken.status) == (422, 422, 200)
    assert [each["pointer"] for each in refused.body["errors"]] == ["/reorder_window_seconds", "/late"]
    assert refused.body["errors"][0]["detail"] == "This needs `ordering: key`; the endpoint has `endpoint`."
    assert kept.body["ordering"] == "key"
    assert (taken.body["reorder_window_seconds"], taken.body["late"]) == (0, "deliver")


async def test_a_paused_endpoint_says_so_and_nobody_leases_its_lane(api: Api) -> None:
    """Until it is resumed."""
    made = await _create(api, paused=True)
    path = f"/v1/endpoints/{made['id']}"
    async with api.database.read() as connection:
        stopped = list((await connection.execute(select(lane.c.is_stopped))).scalars())

    resumed = await api.ask.patch(path, {"paused": False})

    assert (made["state"], stopped, resumed.body["state"]) == ("paused", [True], "active")
    async with api.database.read() as connection:
        assert list((await connection.execute(select(lane.c.is_stopped))).scalars()) == [False]


async def test_a_disabled_endpoint_is_enabled_by_one_call(api: Api) -> None:
    """It says since when and why, and starts from a clean slate."""
    made = await _create(api)
    path = f"/v1/endpoints/{made['id']}"
    raw = parse_id("ep", made["id"])
    assert raw is not None
    async with api.database.write() as connection:
        assert await endpoints.disable(connection, EndpointId(raw), reason="It wants no more.")
        assert not await endpoints.disable(connection, EndpointId(raw), reason="Twice.")
    disabled = await api.ask.get(path)

    enabled = await api.ask.post(f"{path}/enable", {})

    assert (disabled.body["state"], disabled.body["disabled_reason"]) == ("disabled", "It wants no more.")
    assert disabled.body["disabled_at"] is not None
    assert (enabled.status, enabled.body["state"], enabled.body["disabled_at"]) == (200, "active", None)
    assert len(api.around.woken) == 1


@pytest.mark.parametrize(
    ("patch", "is_tried"),
    [
        ({"config": {"url": "https://example.com/mended"}}, True),
        ({"timeout_seconds": 30}, True),
        ({"name": "outbox", "max_in_flight": 2}, False),
        ({"config": {"url": WEBHOOK["config"]["url"]}}, False),  # type: ignore[index]  # it is a dict
    ],
    ids=["another url", "more time", "other fields", "the same url"],
)
async def test_an_endpoint_that_failed_is_tried_at_once_when_it_is_mended(
    api_on_both: Api, patch: dict[str, Any], *, is_tried: bool
) -> None:
    """How its lane fared says nothing of another target; a change of other fields leaves the breaker as it is."""
    api = api_on_both
    made = await _create(api)
    async with api.database.write() as connection:
        await connection.execute(
            update(lane).values(breaker_until=now(600), failures=5, failing_since=now(-600), latency_seconds=9.0)
        )

    changed = await api.ask.patch(f"/v1/endpoints/{made['id']}", patch)

    async with api.database.read() as connection:
        found = await connection.execute(
            select(lane.c.failures, lane.c.latency_seconds, (lane.c.breaker_until <= now()).label("is_free"))
        )
        row = found.one()
    assert changed.status == 200
    assert (bool(row.is_free), row.failures, row.latency_seconds) == ((True, 0, 0.0) if is_tried else (False, 5, 9.0))
    assert len(api.around.woken) == 1
