"""Which records are one event and which are two, and where the id places them in time."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.domain.identity import CONSTANT_REQUEST_IDS, Said, delivery_key, identify, object_hash
from app.domain.ids import DEFAULT_TENANT, EventId, SubscriptionId, TenantId

SAID = Said(
    tenant_id=DEFAULT_TENANT,
    event_source="aws:s3",
    region="us-east-1",
    bucket="uploads",
    key=b"test.pdf",
    version_id="v1",
    name="ObjectCreated:Put",
    time_text="2023-04-12T20:43:38.021Z",
    time=datetime(2023, 4, 12, 20, 43, 38, 21000, UTC),
    sequencer="00643717F9F8B85354",
    etag="2e3ad1e983318bbd8e73b080e2997980",
    size=104681,
    request_id="YMSSR8BZJ2Y99K6P",
    host_id="6ASrUfj5xpn859fIq",
    actor="A1YQ72UWCM96UF",
    source_ip="93.108.161.96",
    extra=None,
)
# Each names another change, by what always tells changes apart.
TELLING: dict[str, Any] = {
    "tenant_id": TenantId(2),
    "bucket": "downloads",
    "key": b"test.pdF",
    "version_id": None,
    "name": "ObjectCreated:Post",
    "sequencer": "00643717F9F8B85355",
    "request_id": "YMSSR8BZJ2Y99K6Q",
}
# These differ between copies of one record, or say nothing that the others do not.
IDLE: dict[str, Any] = {
    "event_source": "aws:s4",
    "region": None,
    "time_text": "2023-04-12T20:43:38Z",
    "time": datetime(2023, 4, 12, 20, 43, 38, tzinfo=UTC),
    "etag": None,
    "size": None,
    "host_id": None,
    "actor": None,
    "source_ip": None,
    "extra": "{}",
}


@pytest.mark.parametrize("field", TELLING)
def test_what_tells_changes_apart_changes_the_id(field: str) -> None:
    """Another version, sequencer or request is another event."""
    assert identify(SAID)[0] != identify(replace(SAID, **{field: TELLING[field]}))[0]


@pytest.mark.parametrize("field", IDLE)
def test_with_request_and_sequencer_the_rest_does_not_matter(field: str) -> None:
    """EventBridge's twin has another time and leaves fields out; it is the same event, on the same day."""
    assert identify(SAID) == identify(replace(SAID, **{field: IDLE[field]}))


@pytest.mark.parametrize("sequencer", ["643717F9F8B85354", "00643717f9f8b85354", "0000643717F9f8b85354"])
def test_the_spelling_of_a_sequencer_does_not_matter(sequencer: str) -> None:
    """EventBridge writes it in lower case and without the leading zeros."""
    assert identify(SAID) == identify(replace(SAID, sequencer=sequencer))


@pytest.mark.parametrize(
    "weakness",
    [
        {"request_id": None},
        {"sequencer": None},
        {"sequencer": "1F"},
        {"sequencer": "643717F9F8B8535"},
        {"sequencer": "0066LIFECYCLE8900"},
        {"sequencer": "0x643717F9F8B85354"},
        {"sequencer": "٣" * 16},
        {"name": "Replication:OperationFailedReplication"},
    ],
    ids=str,
)
@pytest.mark.parametrize("field", [*IDLE.keys() - {"time"}, *TELLING])
def test_without_them_every_field_counts(weakness: dict[str, Any], field: str) -> None:
    """A false match would lose an event: with a weak sequencer, or none, any difference makes two events."""
    weak = replace(SAID, **weakness)
    other = replace(weak, **{field: (TELLING | IDLE)[field]})

    assert identify(weak) == identify(replace(weak))
    assert identify(weak)[0] != identify(other)[0]


def test_an_envelopes_id_counts_where_every_field_does() -> None:
    """EventBridge tells of tags without sequencer, to the second: its own id keeps two changes in one second apart."""
    tagged = replace(SAID, name="ObjectTagging:Put", sequencer=None, envelope_id="2ee9cc15-d022-99ea-1fb8-1b1bac4850f9")

    assert identify(tagged) == identify(replace(tagged))
    assert identify(tagged)[0] != identify(replace(tagged, envelope_id="2ee9cc15-d022-99ea-1fb8-1b1bac4850f8"))[0]
    assert identify(tagged)[0] != identify(replace(tagged, envelope_id=None))[0]


def test_an_envelopes_id_does_not_part_a_record_from_its_twin() -> None:
    """With request id and sequencer it does not count: a record that came straight from S3 has none."""
    assert identify(SAID) == identify(replace(SAID, envelope_id="2ee9cc15-d022-99ea-1fb8-1b1bac4850f9"))


@pytest.mark.parametrize("request_id", sorted(CONSTANT_REQUEST_IDS))
@pytest.mark.parametrize(
    "changes",
    [
        {"version_id": None},
        {"name": "ObjectTagging:Put"},
        {"name": "ObjectRemoved:Delete"},
        {"version_id": None, "sequencer": "617f08299329d189"},
    ],
    ids=str,
)
def test_a_constant_request_id_names_no_request(request_id: str, changes: dict[str, Any]) -> None:
    """Emulators send one request id and one sequencer with everything; only time and content tell changes apart."""
    one = replace(SAID, request_id=request_id, **changes)

    assert identify(one) == identify(replace(one))
    assert identify(one)[0] != identify(replace(one, time_text="2023-04-12T20:43:38.022Z"))[0]
    assert identify(one)[0] != identify(replace(one, etag="another", size=1))[0]
    assert identify(one)[0] != identify(replace(one, envelope_id="one of EventBridge's"))[0]


def test_a_version_is_created_once_whatever_the_request_id() -> None:
    """Amazon's own example is such a constant: record and EventBridge's twin of it are still one event."""
    example = replace(SAID, request_id="N4N7GDK58NMKJ12R", sequencer="00617F08299329D189")
    twin = replace(example, sequencer="617f08299329d189", time_text="2021-11-12T00:00:00Z", envelope_id="17793124")

    assert identify(example) == identify(twin)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "ObjectCreated:PutTagging"},
        {"name": "ObjectAccessed:Get"},
        {"name": "ObjectAccessed:Head"},
        {"name": "ObjectCreated:Put", "request_id": "187D0B8F24B5A3C1"},
        {"name": "ObjectRemoved:Delete", "request_id": "187D0B8F24B5A3C1"},
    ],
    ids=str,
)
def test_minios_sequencer_is_no_identity_by_itself(changes: dict[str, Any]) -> None:
    """Tagging, GET and HEAD carry the put's; a second delete repeats sequencer and version of the first."""
    put = replace(SAID, event_source="minio:s3", sequencer="187D0B8F1C2A4D33", request_id="187D0B8F1C1F6A02")

    assert identify(put)[0] != identify(replace(put, **changes))[0]


def test_two_reads_of_one_object_are_two_events() -> None:
    """MinIO gives both the sequencer of the put; the requests differ."""
    head = replace(SAID, event_source="minio:s3", name="ObjectAccessed:Head", sequencer="187D0B8F1C2A4D33")

    assert identify(head)[0] != identify(replace(head, request_id="187D0B8F24B5A3C1"))[0]


def test_a_counter_that_begins_again_is_told_apart_by_the_rest() -> None:
    """Of versitygw: it starts at 1 with every start, and its request id is whatever the client sent, also twice."""
    put = replace(SAID, event_source="aws:s3", sequencer="1", request_id="mine", time_text="2025-01-01T00:00:00Z")

    assert identify(put)[0] != identify(replace(put, time_text="2025-01-02T00:00:00Z"))[0]
    assert identify(put)[0] != identify(replace(put, sequencer="2"))[0]


def test_one_request_that_deletes_many_gives_many_events() -> None:
    """DeleteObjects has one request id for all its keys and versions."""
    first = replace(SAID, name="ObjectRemoved:Delete")
    versions = [replace(first, key=key, version_id=version) for key in (b"a", b"b") for version in ("1", "2", None)]

    assert len({identify(each)[0] for each in versions}) == len(versions)


def test_what_lifecycle_does_in_one_night_is_told_apart() -> None:
    """It gives everything the sequencer of midnight, and requests of its own."""
    expired = replace(SAID, name="LifecycleExpiration:Delete", sequencer="617b398000000000")
    others: list[dict[str, Any]] = [
        {"key": b"b"},
        {"version_id": "v2"},
        {"name": "LifecycleExpiration:DeleteMarkerCreated"},
    ]

    assert all(identify(expired)[0] != identify(replace(expired, **other))[0] for other in others)


def test_two_destinations_of_one_failed_replication_are_two_events() -> None:
    """They differ in their own block only."""
    failed = replace(SAID, name="Replication:OperationFailedReplication", extra='{"destinationBucket":"a"}')

    assert identify(failed)[0] != identify(replace(failed, extra='{"destinationBucket":"b"}'))[0]


@pytest.mark.parametrize(
    ("event_source", "sequencer", "moment"),
    [
        ("aws:s3", "0055AED6DCD90281E5", datetime(2015, 7, 21, 23, 33, 48, tzinfo=UTC)),
        ("aws:s3", "00643717F9F8B85354", datetime(2023, 4, 12, 20, 43, 37, tzinfo=UTC)),
        ("aws:s3", "617b398000000000", datetime(2021, 10, 29, tzinfo=UTC)),
        ("aws:s3", "0000000000000000", datetime(1970, 1, 1, tzinfo=UTC)),
        ("minio:s3", "15C32494527B46C5", datetime(2019, 9, 10, 17, 41, 54, tzinfo=UTC)),
        ("rustfs:s3", "15C32494527B46C5", datetime(2019, 9, 10, 17, 41, 54, tzinfo=UTC)),
        ("ceph:s3", "F7E6D75DC742D108", datetime(2019, 11, 22, 13, 47, 35, tzinfo=UTC)),
        ("ceph:s3", "00E6D75DC742D108", datetime(2019, 11, 22, 13, 43, 28, tzinfo=UTC)),
    ],
)
def test_the_id_begins_with_the_sequencers_seconds(event_source: str, sequencer: str, moment: datetime) -> None:
    """They also give the day, so that copies with other times fall on the same one."""
    event_id, day = identify(replace(SAID, event_source=event_source, sequencer=sequencer))

    assert int.from_bytes(event_id[:4], "big") == int(moment.timestamp())
    assert day == moment.date()


def test_without_a_sequencer_the_id_begins_with_the_times_seconds() -> None:
    """The day is UTC's, whatever zone the time is in."""
    local = datetime(2023, 4, 13, 1, 0, tzinfo=timezone(timedelta(hours=2)))

    event_id, day = identify(replace(SAID, sequencer=None, time=local))

    assert int.from_bytes(event_id[:4], "big") == int(local.timestamp())
    assert day == date(2023, 4, 12)


@given(
    st.text(alphabet="0123456789abcdefABCDEF", min_size=16, max_size=60),
    st.sampled_from(["aws:s3", "minio:s3", "ceph:s3", ""]),
    st.none() | st.text(st.characters(), min_size=1),
    st.datetimes(timezones=st.just(UTC)),
)
@settings(deadline=None)
def test_any_sequencer_and_time_give_an_id(
    sequencer: str, event_source: str, request_id: str | None, time: datetime
) -> None:
    """However absurd, it has 16 bytes, a day, and is the same the next time."""
    said = replace(SAID, sequencer=sequencer, event_source=event_source, request_id=request_id, time=time)

    event_id, day = identify(said)

    assert len(event_id) == 16
    assert 1 <= day.year <= 9999
    assert (event_id, day) == identify(said)


_NAMES = st.sampled_from(
    ["ObjectCreated:Put", "ObjectRemoved:Delete", "ObjectTagging:Put", "Replication:OperationFailedReplication"]
)
_TEXTS = st.none() | st.text("abc01", min_size=1, max_size=3)
_SEQUENCERS = st.none() | st.sampled_from(["00643717F9F8B85354", "643717f9f8b85354", "1F", "0055AED6DCD90281E5", "zz"])
_SAID = st.builds(
    Said,
    tenant_id=st.sampled_from([DEFAULT_TENANT, TenantId(2)]),
    event_source=st.sampled_from(["aws:s3", "minio:s3", "ceph:s3", ""]),
    region=_TEXTS,
    bucket=st.text("ab", min_size=1, max_size=2),
    key=st.binary(min_size=1, max_size=2),
    version_id=_TEXTS,
    name=_NAMES,
    time_text=st.sampled_from(["2023-04-12T20:43:38.021Z", "2023-04-12T20:43:38Z"]),
    time=st.just(SAID.time),
    sequencer=_SEQUENCERS,
    etag=_TEXTS,
    size=st.none() | st.integers(0, 2),
    request_id=_TEXTS | st.sampled_from(sorted(CONSTANT_REQUEST_IDS)),
    host_id=_TEXTS,
    actor=_TEXTS,
    source_ip=_TEXTS,
    extra=_TEXTS,
    envelope_id=_TEXTS,
)


@given(_SAID, st.sampled_from(sorted(TELLING)), st.data())
@settings(deadline=None)
def test_one_identifying_field_makes_another_event(said: Said, field: str, data: st.DataObject) -> None:
    """Whatever else a record says, or leaves out."""
    another = replace(said, **{field: getattr(data.draw(_SAID), field)})
    assume(_comparable(said, field) != _comparable(another, field))

    assert identify(said)[0] != identify(another)[0]


@given(_SAID, _SAID)
@settings(deadline=None)
def test_a_record_and_its_twin_are_one_event(said: Said, other: Said) -> None:
    """Where both have request id and sequencer, whatever EventBridge leaves out, adds or says otherwise."""
    said = replace(said, name="ObjectRemoved:Delete", request_id="YMSSR8BZJ2Y99K6P", sequencer="00643717F9F8B85354")
    said = replace(said, event_source="aws:s3")
    twin = replace(
        other,
        tenant_id=said.tenant_id,
        bucket=said.bucket,
        key=said.key,
        version_id=said.version_id,
        name=said.name,
        request_id=said.request_id,
        sequencer="643717f9f8b85354",
        event_source="aws.s3",
    )

    assert identify(said) == identify(twin)


def _comparable(said: Said, field: str) -> object:
    if field == "sequencer" and said.sequencer is not None:
        return said.sequencer.upper().lstrip("0")
    return getattr(said, field)


def test_fields_do_not_run_into_one_another() -> None:
    """What stands at the end of one field is not taken for the beginning of the next; None is not empty."""
    one = replace(SAID, sequencer=None, etag="ab", host_id="c")

    assert identify(one)[0] != identify(replace(one, etag="a", host_id="bc"))[0]
    assert identify(replace(one, etag=None))[0] != identify(replace(one, etag=""))[0]


def test_a_delivery_has_one_key_for_event_and_subscription() -> None:
    """It begins as the event's id does, and differs by either."""
    event_id, other = EventId(bytes(range(16))), EventId(bytes(range(4)) + bytes(12))
    subscription_id = SubscriptionId(b"s" * 16)

    key = delivery_key(event_id, subscription_id)

    assert key == delivery_key(event_id, subscription_id)
    assert key[:4] == event_id[:4]
    assert len({key, delivery_key(other, subscription_id), delivery_key(event_id, SubscriptionId(b"t" * 16))}) == 3
    assert len(key) == 16


def test_an_object_has_one_number() -> None:
    """It fits a signed 64-bit column, and bucket and key do not run into one another."""
    number = object_hash("ab", b"c")

    assert number == object_hash("ab", b"c")
    assert number != object_hash("a", b"bc")
    assert -(2**63) <= number < 2**63
