"""Messages as a whole: envelopes, test messages, foreign shapes, and input that was made to hurt."""

import json
from typing import Any

import pytest

from tests.unit.decode.samples import PAYLOADS, envelope, event_of, is_sound, message, payload, read, record, refusal_of

RECORD_BYTES = message(record())[len(b'{"Records":[') : -len(b"]}")]
MEBIBYTE = 1 << 20
NO_NAME = "Expecting property name enclosed in double quotes"


@pytest.mark.parametrize("name", ["s3-test-event", "versitygw-test-event", "moto-test-event"])
@pytest.mark.parametrize("is_wrapped", [False, True], ids=["direct", "in SNS"])
def test_a_test_message_is_a_sign_of_life(name: str, *, is_wrapped: bool) -> None:
    """It is neither an event nor refused, whichever store wrote it and however it came."""
    body = payload(name)

    decoded = read(envelope(body.decode()) if is_wrapped else body)

    assert (decoded.events, decoded.refusals, decoded.is_test_event) == ((), (), True)


def test_a_change_is_the_same_event_however_it_came() -> None:
    """Direct, in an SNS envelope with or without a subject, raw through SNS, and as MinIO wraps it: one id."""
    direct = message(record())
    text = json.dumps(json.loads(direct), indent=2)

    ids = {
        event_of(body).id
        for body in (
            direct,
            text.encode(),
            envelope(direct.decode()),
            envelope(text, Subject=None, MessageId="another"),
            b'{"EventName":"s3:ObjectCreated:Put","Key":"uploads/test.pdf",' + direct[1:],
        )
    }

    assert len(ids) == 1


def test_a_name_may_be_spelled_with_escapes() -> None:
    """It is the same name."""
    assert event_of(b'{"\\u0052ecords":[' + RECORD_BYTES + b"]}").record == RECORD_BYTES


def test_the_record_of_an_envelope_is_the_inner_texts() -> None:
    """What is kept is what S3 wrote, without the escapes of the envelope."""
    inner = record({"s3.object.key": "ü"})
    text = json.dumps({"Records": [inner]}, ensure_ascii=False)

    assert event_of(envelope(text)).record == json.dumps(inner, ensure_ascii=False).encode()


def test_a_bad_record_in_an_envelope_is_refused_with_the_inner_bytes() -> None:
    """Its neighbours are kept."""
    decoded = read(envelope('{"Records":[' + RECORD_BYTES.decode() + ',{"eventName":"\ud800"}]}'))

    (event,) = decoded.events
    (refusal,) = decoded.refusals
    assert event.record == RECORD_BYTES
    assert refusal.raw == b'{"eventName":"\xed\xa0\x80"}'
    assert is_sound(refusal)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "The message is empty."),
        (b" ", "The message is not a JSON object, so it holds no S3 records."),
        (b"hello", "The message is not a JSON object, so it holds no S3 records."),
        (b"[]", "The message is an empty array, so it holds no S3 records."),
        (b"null", "The message is not a JSON object, so it holds no S3 records."),
        (b"\xef\xbb\xbf{}", "The message begins with a byte order mark, which JSON forbids."),
        (b"\xff\xfe{\0}\0", "The message is not UTF-8 at byte 0."),
        (b'{"a":"\xff"}', "The message is not UTF-8 at byte 6."),
        (b'{"a":"\xed\xa0\x80"}', "The message is not UTF-8 at byte 6."),
        (b"{}", "The message holds no S3 records: it has no member Records."),
        (b"{", f"The message is not valid JSON: {NO_NAME} at character 1."),
        (b"{1:2}", f"The message is not valid JSON: {NO_NAME} at character 1."),
        (b'{"a" 1}', "The message is not valid JSON: Expecting ':' delimiter at character 5."),
        (b'{"a":}', "The message is not valid JSON: Expecting value at character 5."),
        (b'{"a":1 2}', "The message is not valid JSON: Expecting ',' delimiter at character 7."),
        (b'{"a":1,}', f"The message is not valid JSON: {NO_NAME} at character 7."),
        (b'{"Records":[1,]}', "The message is not valid JSON: Expecting value at character 14."),
        (b'{"Records":[1 2]}', "The message is not valid JSON: neither comma nor ] at character 14."),
        (b'{"Records":[', "The message is not valid JSON: Expecting value at character 12."),
        (b'{"Records":{}}', "The message has an object as its Records, not an array."),
        (b'{"Records":null}', "The message has null as its Records, not an array."),
        (b'{"Records":"[]"}', "The message has text as its Records, not an array."),
        (b'{"Records"', "The message is not valid JSON: no colon at character 10."),
        (b'{"Records":1,', "The message is not valid JSON: no member name at character 13."),
        (b'{"Records":1 2}', "The message is not valid JSON: neither comma nor } at character 13."),
        (b'{"Records":[],"Records":[]}', "The message names the member 'Records' twice."),
        (b'{"Records":1,"Records":[]}', "The message names the member 'Records' twice."),
        (b'{"a\\u0000\\ud800":1,"a\\u0000\\ud800":2}', "The message names the member 'a\\x00\\ud800' twice."),
        (b'{"a":{"b":1,"b":1},"Records":[]}', "The message names the member 'b' twice."),
        (b'{"a":-Infinity,"Records":[]}', "The message holds -Infinity, which is not JSON."),
        (b'{"a":"\n"}', "The message is not valid JSON: Invalid control character at character 6."),
        (b'{"Event":"s3:OtherEvent"}', "The message holds no S3 records: it has no member Records."),
        (b'{"Event":["s3:TestEvent"]}', "The message holds no S3 records: it has no member Records."),
        (b'{"Type":{},"Message":"x"}', "The message holds no S3 records: it has no member Records."),
    ],
)
def test_a_message_that_cannot_be_read_is_refused_whole(body: bytes, reason: str) -> None:
    """The reason says what is wrong and where; the bytes are the whole message."""
    refusal = refusal_of(body)

    assert (reason, body) == (refusal.reason, refusal.raw)


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        ("Hello world!", "The message in the SNS envelope is not a JSON object, so it holds no S3 records."),
        ("", "The message in the SNS envelope is not a JSON object, so it holds no S3 records."),
        ('{"a":1}', "The message in the SNS envelope holds no S3 records: it has no member Records."),
        (
            envelope("{}").decode(),
            "The message in the SNS envelope is an SNS envelope again, so it holds no S3 records.",
        ),
        (None, "The message is an SNS notification with null as its Message, so it holds no S3 records."),
        ({}, "The message is an SNS notification with an object as its Message, so it holds no S3 records."),
    ],
)
def test_an_envelope_without_s3_records_is_refused(inner: Any, reason: str) -> None:
    """The reason says that SNS sent something else; the bytes are the whole message."""
    body = envelope(inner)

    refusal = refusal_of(body)

    assert (reason, body) == (refusal.reason, refusal.raw)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sns-http-notification", "not a JSON object"),
        ("sns-http-subscription-confirmation", "SNS's request to confirm a subscription"),
        ("sns-http-unsubscribe-confirmation", "SNS's note that a subscription ended"),
        ("fragment-2.5-bucket-and-retention", "holds no S3 records"),
    ],
)
def test_a_foreign_message_is_refused_by_what_it_looks_like(name: str, words: str) -> None:
    """It is never misread, and an operator sees what is wired to the wrong place."""
    refusal = refusal_of(payload(name))

    assert words in refusal.reason
    assert refusal.raw == payload(name)


def test_every_payload_is_read_or_refused() -> None:
    """No sample of any store is passed over in silence."""
    decoded = [read(path.read_bytes()) for path in sorted(PAYLOADS.glob("*.json"))]

    assert len(decoded) >= 18
    assert all(bool(each.events) + bool(each.refusals) + each.is_test_event == 1 for each in decoded)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"kind": "storage#object", "bucket": "b", "selfLink": "https://x"}, "looks like a Google Cloud Storage"),
        ({"topic": "t", "subject": "s", "eventType": "e", "data": {}}, "looks like an Azure Event Grid event"),
        ({"specversion": "1.0", "type": "com.amazonaws.s3.ObjectCreated:Put"}, "looks like a CloudEvent"),
        ({"EventName": "s3:ObjectCreated:Put", "Key": "b/k"}, "it has no member Records"),
    ],
)
def test_a_message_of_another_system_is_refused_by_its_name(members: dict[str, str], words: str) -> None:
    """It is never guessed at."""
    assert words in refusal_of(json.dumps(members).encode()).reason


def _in_a_record(value: bytes) -> bytes:
    return b'{"Records":[' + RECORD_BYTES + b"," + RECORD_BYTES[:-1] + b',"x":' + value + b"}]}"


HOSTILE = {
    "deep arrays": b"[" * MEBIBYTE,
    "deep closed arrays": b"[" * (MEBIBYTE // 2) + b"]" * (MEBIBYTE // 2),
    "deep objects": b'{"a":' * (MEBIBYTE // 5),
    "a number of a mebibyte": b"1" * MEBIBYTE,
    "long numbers among many": b"[" + b"1" * 5000 + b",1" * (MEBIBYTE // 2) + b"]",
    "a cut long number": b"[" + b"1" * 5000,
    "many objects": b"[" + b"{}," * (MEBIBYTE // 3) + b"{}]",
    "not a number, often": b"[" + b"NaN," * (MEBIBYTE // 4) + b"NaN]",
    "an open string": b'"' + b"x" * MEBIBYTE,
    "open escapes": b'"' + b"\\" * (MEBIBYTE + 1),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["member", "element", "in a record", "in an envelope"])
def test_hostile_input_is_refused(name: str, place: str) -> None:
    """Depth, size and number are bounded wherever they stand; a neighbour is kept where the end can be found."""
    value = HOSTILE[name]
    body = {
        "member": b'{"x":' + value + b"}",
        "element": b'{"Records":[' + value + b"]}",
        "in a record": _in_a_record(value),
        "in an envelope": envelope(_in_a_record(value).decode()),
    }[place]

    decoded = read(body)

    (refusal,) = decoded.refusals
    assert is_sound(refusal)
    assert len(decoded.events) <= 1


@pytest.mark.parametrize("value", [b"1" * MEBIBYTE, b"[NaN]", b'{"a":1,"a":1}'])
def test_a_fault_in_one_record_does_not_spoil_its_neighbour(value: bytes) -> None:
    """Long numbers, NaN and repeated names are the record's own trouble."""
    decoded = read(_in_a_record(value))

    assert [event.record for event in decoded.events] == [RECORD_BYTES]
    assert [refusal.reason.split()[:2] for refusal in decoded.refusals] == [["Record", "2"]]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"Records":[' + b"{}," * 4096 + b"{}]}", "The message has more than 4096 records."),
        (
            b"{" + b",".join(b'"%d":0' % number for number in range(65)) + b"}",
            "The message has more than 64 members, so it is no S3 message.",
        ),
        (b'{"x":[' + b"{}," * 65536 + b"{}]}", "The message holds more than 65536 JSON objects."),
        (b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}", "The message is nested too deeply."),
    ],
)
def test_more_than_a_message_can_hold_is_refused(body: bytes, reason: str) -> None:
    """Work is bounded by number too, not only by bytes."""
    assert refusal_of(body).reason == reason


def test_a_mebibyte_of_records_is_read() -> None:
    """The bounds leave room for the largest message that queues carry."""
    count = MEBIBYTE // (len(RECORD_BYTES) + 1)

    decoded = read(b'{"Records":[' + b",".join([RECORD_BYTES] * count) + b"]}")

    assert (count, 0) == (len(decoded.events), len(decoded.refusals))
