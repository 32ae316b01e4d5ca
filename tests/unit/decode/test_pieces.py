"""Messages of several documents: arrays, lines, one after another. Each stands alone, and a bad one keeps its bytes."""

import json

import pytest

from tests.unit.decode.samples import (
    envelope,
    event_of,
    eventbridge,
    is_sound,
    message,
    payload,
    read,
    record,
    refusal_of,
)

ONE = json.dumps(record({"s3.object.key": "one"})).encode()
TWO = message(record({"s3.object.key": "two"}), record({"s3.object.key": "three"}))
BRIDGE = json.dumps(eventbridge("Object Created", {"detail.object.key": "four"})).encode()
R2 = payload("r2-copy-object").strip()
TEST_EVENT = payload("moto-test-event").strip()
EVERY = [ONE, TWO, BRIDGE, R2, TEST_EVENT]
KEYS = [b"one", b"two", b"three", b"four", b"my-new-object"]
FORMS = {
    "array": b"[" + b",".join(EVERY) + b"]",
    "loose array": b" [ " + b" ,\n".join(EVERY) + b" ]\n",
    "lines": b"\n".join(EVERY),
    "lines of Windows": b"\r\n".join(EVERY) + b"\r\n\r\n",
    "joined": b"".join(EVERY),
    "indented": b"\n".join(json.dumps(json.loads(each), indent=2).encode() for each in EVERY),
    "an array a line": b"[" + b",".join(EVERY[:3]) + b"]\n[" + b",".join(EVERY[3:]) + b"]",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("is_wrapped", [False, True], ids=["direct", "in SNS"])
def test_all_documents_of_a_message_are_read(form: str, *, is_wrapped: bool) -> None:
    """In their order, whatever their formats, and a test event among them is a sign of life."""
    decoded = read(envelope(FORMS[form].decode()) if is_wrapped else FORMS[form])

    assert decoded.refusals == ()
    assert decoded.is_test_event
    assert [event.key for event in decoded.events] == KEYS


def test_envelopes_may_come_in_arrays_and_lines() -> None:
    """Each is opened."""
    wrapped = envelope(message(record({"s3.object.key": "five"})).decode())

    assert [event.key for event in read(b"[" + wrapped + b"," + ONE + b"]").events] == [b"five", b"one"]
    assert [event.key for event in read(ONE + b"\n" + wrapped).events] == [b"one", b"five"]


def test_a_bare_record_is_the_same_event_as_in_its_message() -> None:
    """Alone, in an array, on a line: what the quarantine keeps of a refused record can be read again."""
    inside = event_of(message(record()))

    alone = event_of(message(record())[len(b'{"Records":[') : -len(b"]}")])

    assert alone == inside


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"eventName":5,"eventTime":"2023-04-12T20:43:38Z"}', "gives a number for eventName, not text."),
        (b'{"a":NaN}', "holds NaN, which is not JSON."),
        (b'{"a":1,"a":2}', "names the member 'a' twice."),
        (b'{"a":' + b"1" * 5000 + b"}", "holds a number with too many digits."),
        (b'{"Records":5}', "has a number as its Records, not an array."),
        (b'{"Records":[],"Records":[]}', "names the member 'Records' twice."),
        (b"{}", "holds no S3 records: it has no member Records."),
        (b"7", "is not a JSON object, so it holds no S3 records."),
        (b'"x"', "is not a JSON object, so it holds no S3 records."),
        (b"null", "is not a JSON object, so it holds no S3 records."),
    ],
)
@pytest.mark.parametrize("form", ["array", "lines"])
def test_a_bad_document_is_refused_alone(bad: bytes, reason: str, form: str) -> None:
    """With its own bytes; the documents around it are read."""
    body = b"[" + b", ".join([ONE, bad, TWO]) + b"]" if form == "array" else b"\n".join([ONE, bad, TWO])

    decoded = read(body)

    assert [event.key for event in decoded.events] == [b"one", b"two", b"three"]
    assert [(each.reason, each.raw) for each in decoded.refusals] == [(f"Document 2 {reason}", bad)]


@pytest.mark.parametrize(
    "broken",
    [
        b"{",
        b"hello",
        TWO[:-1],
        TWO[:40],
        b'{"a":1]',
        b"{" * 50,
        b"[" * 5000 + b"]",
        b"\xff\xfe",
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf" + ONE,
        b"\0",
        b'{"a":"\t"}',
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_broken_line_does_not_spoil_the_others(broken: bytes, place: int) -> None:
    """It is refused with its own bytes, wherever it stands."""
    lines = [ONE, TWO]
    lines.insert(place, broken)

    decoded = read(b"\n".join(lines) + b"\n")

    (refusal,) = decoded.refusals
    assert [event.key for event in decoded.events] == [b"one", b"two", b"three"]
    assert refusal.raw.strip() == broken
    assert refusal.reason.startswith(f"Document {place + 1} ")
    assert is_sound(refusal)


def test_a_line_of_two_documents_may_break_in_the_second() -> None:
    """The first is read, the rest of the line is refused."""
    decoded = read(TWO + b"\n" + ONE + b'{"a":]}\n' + ONE)

    assert [event.key for event in decoded.events] == [b"two", b"three", b"one", b"one"]
    assert [each.raw for each in decoded.refusals] == [b'{"a":]}']


def test_what_follows_a_document_is_refused_alone() -> None:
    """The document is read all the same."""
    decoded = read(ONE + b" and so on\n")

    assert [event.key for event in decoded.events] == [b"one"]
    assert [(each.reason, each.raw.strip()) for each in decoded.refusals] == [
        ("Document 2 is not a JSON object, so it holds no S3 records.", b"and so on")
    ]


def test_a_broken_document_of_many_lines_is_refused_once() -> None:
    """Its lines are parts of one thing: nobody wants them one by one."""
    body = json.dumps(json.loads(TWO), indent=2).encode()[:-1]

    refusal = refusal_of(body)

    assert refusal.raw == body


def test_a_bad_record_in_one_of_several_documents_says_where() -> None:
    """With the record's own bytes, which can be read again alone."""
    bad = json.dumps(record({"s3.object.size": -1})).encode()

    (refusal,) = read(b"[" + ONE + b',{"Records":[' + bad + b"]}]").refusals

    assert refusal.raw == bad
    assert refusal.reason.startswith("Document 2: Record 1 gives a number for s3.object.size")
    assert refusal_of(bad).reason.startswith("The message gives a number for s3.object.size")


def test_a_bad_document_in_an_envelope_is_refused_alone() -> None:
    """What the envelope holds is more than one."""
    decoded = read(envelope(ONE.decode() + "\n{}\n" + TWO.decode()))

    assert len(decoded.events) == 3
    assert [(each.reason, each.raw) for each in decoded.refusals] == [
        ("Document 2 in the SNS envelope holds no S3 records: it has no member Records.", b"{}")
    ]


def test_the_one_document_of_an_array_is_refused_with_its_own_bytes() -> None:
    """The brackets are none of it."""
    assert refusal_of(b"[ {} ]").raw == b"{}"


def test_an_array_in_an_array_is_refused() -> None:
    """Nobody sends that."""
    decoded = read(b"[" + ONE + b",[" + ONE + b"]]")

    assert len(decoded.events) == 1
    assert [each.raw for each in decoded.refusals] == [b"[" + ONE + b"]"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[" + b"{}," * 4096 + b"{}]", "The message has more than 4096 documents."),
        (b"{}\n" * 4097, "The message has more than 4096 documents."),
        (b"{\n" + b"{}\n" * 4097, "The message has more than 4096 documents."),
        (
            b'[{"Records":[' + b"1," * 4000 + b'1]},{"Records":[' + b"1," * 100 + b"1]}]",
            "The message has more than 4096 records.",
        ),
        (envelope("{}\n" * 4097), "The message has more than 4096 documents."),
        (b'{"x":[' + b"[]," * 65536 + b"[]]}", "The message holds more than 65536 JSON arrays."),
        (b'{"x":[' + b"1," * 98305 + b"1]}", "The message holds more than 98304 values."),
        (b'{"x":{' + b'"a":1,' * 98304 + b'"a":1}}', "The message holds more than 98304 members."),
        (
            b'{"x":{' + b",".join(b'"%d":1' % number for number in range(1025)) + b"}}",
            "The message has an object with more than 1024 members, so it is no S3 message.",
        ),
        (
            b'{"x":{' + b'"a":1,' * 5000 + b'"a":1}}',
            "The message has too many members for its few objects, so it is no S3 message.",
        ),
    ],
)
def test_more_than_a_message_can_hold_is_refused_whole(body: bytes, reason: str) -> None:
    """Work is bounded by number, over all documents together."""
    refusal = refusal_of(body)

    assert (refusal.reason, refusal.raw) == (reason, body)


def test_a_message_of_broken_lines_is_refused_once() -> None:
    """Past some number they are noise, and one refusal says as much as thousands."""
    body = b'{"a":\n' * 3000 + ONE

    assert refusal_of(body).raw == body
