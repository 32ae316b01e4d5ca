"""S3's own format: keys, times and members one by one, and what is refused."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.unit.decode.samples import ABSENT, event_of, message, payload, read, record, refusal_of


def test_the_three_forms_of_deletes_and_tags_say_only_what_they_carry() -> None:
    """A permanent delete has neither size nor etag, a marker no size, a tagging no sequencer."""
    decoded = read(payload("s3-delete-forms"))

    assert decoded.refusals == ()
    assert [(each.change, each.size, each.etag, each.version_id, each.sequencer) for each in decoded.events] == [
        ("removed", None, None, "v1", "00678FE8BC00000001"),
        ("marker_created", None, "d41d8cd98f00b204e9800998ecf8427e", "v3", "00678FE8BC00000002"),
        ("tagged", None, "437b930db84b8079c2dd804a71936b5f", None, None),
    ]


@pytest.mark.parametrize(
    ("received", "key"),
    [
        ("red+flower.jpg", b"red flower.jpg"),
        ("this+im+%2B+age+blah.txt", b"this im + age blah.txt"),
        ("a+b%2Bc%25", b"a b+c%"),
        ("a%2520b", b"a%20b"),
        ("%25252F", b"%252F"),
        ("a%40b", b"a@b"),
        ("a%20b", b"a b"),
        ("in%2Fa/b", b"in/a/b"),
        ("%C3%BC", "ü".encode()),
        ("%c3%bc", "ü".encode()),
        ("ü", "ü".encode()),
        ("%FF", b"\xff"),
        ("%FE", b"\xfe"),
        ("100%", b"100%"),
        ("%zz%4", b"%zz%4"),
        ("/", b"/"),
        ("%0A", b"\n"),
    ],
)
def test_a_key_is_decoded_exactly_once(received: str, key: bytes) -> None:
    """Plus is a blank, an escape a byte, whatever comes out of it stays; the received text is kept."""
    event = event_of(record({"s3.object.key": received}))

    assert (key, received) == (event.key, event.received_key)


@pytest.mark.parametrize(
    "changes",
    [
        {"eventSource": "ceph:s3"},
        {"s3.bucket.arn": "arn:aws:s3:::/uploads/a+b%2Bc%25"},
        {"s3.bucket.arn": "arn:aws:s3:::uploads/a+b%2Bc%25"},
        {"userIdentity": {"PrincipalId": "admin"}},
    ],
    ids=["Ceph", "versitygw", "older versitygw", "versitygw without a key in the arn"],
)
def test_a_plain_key_is_left_as_it_is(changes: dict[str, Any]) -> None:
    """Ceph RGW and versitygw do not encode keys, so nothing is decoded."""
    event = event_of(record(changes | {"s3.object.key": "a+b%2Bc%25ü"}))

    assert event.key == "a+b%2Bc%25ü".encode()


def test_keys_that_differ_in_an_invalid_byte_are_two_events() -> None:
    """Text decoding would fold both into U+FFFD; people still see that."""
    one = event_of(record({"s3.object.key": "%FF"}))
    other = event_of(record({"s3.object.key": "%FE"}))

    assert one.id != other.id
    assert one.key_text == other.key_text == "\ufffd"


@pytest.mark.parametrize(
    ("said", "time"),
    [
        ("2023-04-12T20:43:38.021Z", datetime(2023, 4, 12, 20, 43, 38, 21000, UTC)),
        ("2023-04-12T20:43:38Z", datetime(2023, 4, 12, 20, 43, 38, tzinfo=UTC)),
        ("2023-04-12T20:43:38.1Z", datetime(2023, 4, 12, 20, 43, 38, 100000, UTC)),
        ("2023-04-12T20:43:38.123456789Z", datetime(2023, 4, 12, 20, 43, 38, 123456, UTC)),
        ("2023-04-12t20:43:38z", datetime(2023, 4, 12, 20, 43, 38, tzinfo=UTC)),
        ("2023-04-12T20:43:38", datetime(2023, 4, 12, 20, 43, 38, tzinfo=UTC)),
        ("2023-04-12T22:43:38+02:00", datetime(2023, 4, 12, 20, 43, 38, tzinfo=UTC)),
        ("1970-01-01T00:00:00.000Z", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_in_any_precision_and_offset(said: str, time: datetime) -> None:
    """An event's time is in UTC, and a time without offset is taken as UTC."""
    event = event_of(record({"eventTime": said}))

    assert time == event.time
    assert event.time.utcoffset() == timedelta(0)


def test_the_day_is_that_of_utc() -> None:
    """A time in another zone lands on UTC's day, also where the time gives the day."""
    local = datetime(2023, 4, 13, 1, 0, tzinfo=timezone(timedelta(hours=2)))

    event = event_of(record({"eventTime": local.isoformat(), "s3.object.sequencer": ABSENT}))

    assert event.day == date(2023, 4, 12)


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"s3.object.versionId": ""}, "version_id", None),
        ({"s3.object.versionId": "null"}, "version_id", None),
        ({"s3.object.versionId": None}, "version_id", None),
        ({"s3.object.versionId": "NULL"}, "version_id", "NULL"),
        ({"s3.object.size": ABSENT}, "size", None),
        ({"s3.object.size": None}, "size", None),
        ({"s3.object.size": ""}, "size", None),
        ({"s3.object.size": 0}, "size", 0),
        ({"s3.object.size": "0"}, "size", 0),
        ({"s3.object.size": "1024"}, "size", 1024),
        ({"s3.object.size": 2**63 - 1}, "size", 2**63 - 1),
        ({"s3.object.eTag": '"abc"'}, "etag", "abc"),
        ({"s3.object.eTag": '""'}, "etag", None),
        ({"s3.object.eTag": ""}, "etag", None),
        ({"s3.object.eTag": ABSENT}, "etag", None),
        ({"s3.object.sequencer": ""}, "sequencer", None),
        ({"s3.object.sequencer": "Happy Sequencer"}, "sequencer", "Happy Sequencer"),
        ({"awsRegion": ""}, "region", None),
        ({"awsRegion": ABSENT}, "region", None),
        ({"userIdentity": ABSENT}, "actor", None),
        ({"userIdentity": None}, "actor", None),
        ({"userIdentity.principalId": ""}, "actor", None),
        ({"userIdentity": {"PrincipalId": "admin"}}, "actor", "admin"),
        ({"requestParameters": ABSENT}, "source_ip", None),
        ({"requestParameters.sourceIPAddress": "s3.amazonaws.com"}, "source_ip", "s3.amazonaws.com"),
        ({"requestParameters.sourceIPAddress": "::1"}, "source_ip", "::1"),
        ({"responseElements": {}}, "request_id", None),
        ({"responseElements": None}, "host_id", None),
        ({"eventName": "s3:ObjectCreated:Put"}, "type", "s3:ObjectCreated:Put"),
        ({"eventName": "ObjectFrobnicated:New"}, "type", "s3:ObjectFrobnicated:New"),
        ({"eventName": "ObjectFrobnicated:New"}, "change", "other"),
        ({"eventVersion": "9.9"}, "change", "created"),
        ({"eventVersion": ABSENT}, "change", "created"),
        ({"eventSource": ABSENT}, "change", "created"),
        ({"s3.new": [1], "s3.object.new": {}}, "extra", None),
        ({"source": {"host": "10.0.0.1"}, "eventId": "", "opaqueData": "me"}, "extra", '{"opaqueData":"me"}'),
        ({"new": 1, "b": {"ü": 1.5}, "a": [None, {}, ""]}, "extra", '{"b":{"ü":1.5},"new":1}'),
        ({"block": {"nul": "\0"}}, "extra", '{"block":{"nul":"\\u0000"}}'),
    ],
)
def test_what_is_absent_or_empty_is_none_and_what_is_unknown_passes(
    changes: dict[str, Any], field: str, value: object
) -> None:
    """Nothing is made up, nothing new is refused."""
    assert getattr(event_of(record(changes)), field) == value


def test_the_2_5_members_pass() -> None:
    """Tags of the bucket and the block of a retention are kept."""
    event = event_of(
        record(
            {
                "eventName": "ObjectRetention:Put",
                "eventVersion": "2.5",
                "s3.bucket.awsGeneratedTags": {"aws:cloudformation:stack-name": "my-stack"},
                "objectRetentionEventData": {"mode": "GOVERNANCE", "eventHoldDuration": {"days": 30}},
            }
        )
    )

    assert event.change == "retention_set"
    assert event.extra == (
        '{"awsGeneratedTags":{"aws:cloudformation:stack-name":"my-stack"},'
        '"objectRetentionEventData":{"mode":"GOVERNANCE","eventHoldDuration":{"days":30}}}'
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"eventName": ABSENT}, "Record 1 gives no eventName."),
        ({"eventName": ""}, "Record 1 gives no eventName."),
        ({"eventName": 5}, "Record 1 gives a number for eventName, not text."),
        ({"eventName": "s3:"}, "Record 1 gives the eventName '', which is no name."),
        ({"eventName": "a\r\nb"}, "Record 1 gives the eventName 'a\\r\\nb', which is no name."),
        ({"eventName": "x" * 201}, f"Record 1 gives the eventName '{'x' * 40}...', which is no name."),
        ({"eventTime": ABSENT}, "Record 1 gives no eventTime."),
        ({"eventTime": 1681332218}, "Record 1 gives a number for eventTime, not text."),
        ({"eventTime": "soon"}, "Record 1 gives the eventTime 'soon', which is not an ISO 8601 time."),
        (
            {"eventTime": "0001-01-01T00:00:00+09:00"},
            "Record 1 gives the eventTime '0001-01-01T00:00:00+09:00', which is not an ISO 8601 time.",
        ),
        (
            # Go's zero time, which asyncpg would write as infinity and could not read again.
            {"eventTime": "0001-01-01T00:00:00Z"},
            "Record 1 gives the eventTime '0001-01-01T00:00:00Z', which is no time an object store was there.",
        ),
        (
            {"eventTime": "9999-12-31T23:59:59.999999Z"},
            "Record 1 gives the eventTime '9999-12-31T23:59:59.999999Z', which is no time an object store was there.",
        ),
        ({"s3": ABSENT}, "Record 1 gives no s3.object.key."),
        ({"s3": []}, "Record 1 gives an array for s3, not an object."),
        ({"s3.object": "k"}, "Record 1 gives text for s3.object, not an object."),
        ({"s3.bucket": ABSENT}, "Record 1 gives no s3.bucket.name."),
        ({"s3.bucket.name": ""}, "Record 1 gives no s3.bucket.name."),
        ({"s3.bucket.name": True}, "Record 1 gives a truth value for s3.bucket.name, not text."),
        ({"s3.object.key": ABSENT}, "Record 1 gives no s3.object.key."),
        ({"s3.object.key": ""}, "Record 1 gives no s3.object.key."),
        ({"s3.object.key": {}}, "Record 1 gives an object for s3.object.key, not text."),
        ({"s3.object.key": "a\0"}, "Record 1 has a NUL in s3.object.key."),
        ({"s3.object.key": "a%00"}, "Record 1 has a NUL in s3.object.key."),
        ({"s3.object.key": "\ud800"}, "Record 1 has half of a surrogate pair in s3.object.key."),
        ({"s3.object.key": "k" * 8193}, "Record 1 gives 8193 characters for s3.object.key, more than 8192."),
        ({"s3.object.eTag": "\0"}, "Record 1 has a NUL in s3.object.eTag."),
        ({"s3.object.versionId": 1}, "Record 1 gives a number for s3.object.versionId, not text."),
        ({"s3.object.size": -1}, "Record 1 gives a number for s3.object.size that is not between 0 and 2^63-1."),
        ({"s3.object.size": 2**63}, "Record 1 gives a number for s3.object.size that is not between 0 and 2^63-1."),
        (
            {"s3.object.size": str(2**63)},
            "Record 1 gives a number for s3.object.size that is not between 0 and 2^63-1.",
        ),
        ({"s3.object.size": 1.5}, "Record 1 gives a number with a fraction for s3.object.size, not a whole number."),
        ({"s3.object.size": True}, "Record 1 gives a truth value for s3.object.size, not a whole number."),
        ({"s3.object.size": "1k"}, "Record 1 gives '1k' for s3.object.size, not a number of bytes."),
        ({"s3.object.size": "-1"}, "Record 1 gives '-1' for s3.object.size, not a number of bytes."),
        ({"s3.object.size": "٣"}, "Record 1 gives '\\u0663' for s3.object.size, not a number of bytes."),
        ({"awsRegion": "\udfff"}, "Record 1 has half of a surrogate pair in awsRegion."),
        ({"userIdentity": "me"}, "Record 1 gives text for userIdentity, not an object."),
        ({"block": {"a": "\ud800"}}, "Record 1 has half of a surrogate pair in a block of its own."),
        ({"block": {"a": 2**64}}, "Record 1 has a number of more than 64 bits in a block of its own."),
        ({"block": {"a": "x" * 65536}}, "Record 1 has a block of its own with more than 65536 characters."),
        ({"block": {"a": "x" * 300_000}}, "Record 1 has a block of its own among more than 262144 characters."),
    ],
)
def test_a_record_that_cannot_be_read_is_refused_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    """The reason names the member and what is wrong with it; the bytes are the record's."""
    bad = record(changes)

    refusal = refusal_of(message(bad))

    assert refusal.reason == reason
    assert refusal.raw == message(bad)[len(b'{"Records":[') : -len(b"]}")]


def test_a_block_nested_too_deep_is_refused() -> None:
    """Other readers of JSON have lower limits than this one."""
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"a": deep}

    assert refusal_of(record({"block": deep})).reason == "Record 1 has a block of its own nested more than 32 deep."


def test_neighbours_of_a_bad_record_are_kept() -> None:
    """Each bad record is refused with its own bytes, wherever it stands."""
    good = record()
    other = record({"s3.object.key": "other"})
    parts = [message(good)[12:-2], b' {"eventName" : 5}', b"7", message(other)[12:-2], b'{"a":NaN}', b'{"a":1,"a":2}']

    decoded = read(b'{"Records": [' + b" ,\n".join(parts) + b"]}")

    assert [event.key for event in decoded.events] == [b"test.pdf", b"other"]
    assert [event.record for event in decoded.events] == [parts[0], parts[3]]
    assert [(refusal.reason, refusal.raw) for refusal in decoded.refusals] == [
        ("Record 2 gives no eventTime.", b'{"eventName" : 5}'),
        ("Record 3 is a number, not an object.", b"7"),
        ("Record 5 holds NaN, which is not JSON.", b'{"a":NaN}'),
        ("Record 6 names the member 'a' twice.", b'{"a":1,"a":2}'),
    ]


def test_the_bytes_of_a_record_are_kept_as_they_came() -> None:
    """White space, order of members, escapes and forms of numbers survive."""
    text = b'{ "eventTime":"2023-04-12T20:43:38Z",\t"eventName":"\\u004fbjectCreated:Put", "x":1.0e0,\n  "s3":{'
    text += b'"object":{"key":"\xc3\xbc"},"bucket":{"name":"b"}} }'

    event = event_of(b'\n{"Records" : [ ' + text + b" ] }\n")

    assert event.record == text
    assert event.type == "s3:ObjectCreated:Put"


def test_an_empty_array_of_records_says_nothing() -> None:
    """There is nothing to record and nothing to refuse: it is acknowledged."""
    decoded = read(b'{"Records": []}')

    assert (decoded.events, decoded.refusals, decoded.is_test_event) == ((), (), False)
