"""What holds for any input: nothing raises, and what is kept is what came."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.decode.budget import Budget
from app.decode.document import Document
from app.decode.walk import walk
from app.domain.configuration import PROFILES, Profile
from tests.unit.decode.samples import PAYLOADS, envelope, eventbridge, is_sound, message, record
from tests.unit.decode.samples import read as decode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=8), inside, max_size=4),
    max_leaves=12,
)
PATHS = st.sampled_from(
    [
        "eventVersion",
        "eventSource",
        "awsRegion",
        "eventTime",
        "eventName",
        "userIdentity",
        "userIdentity.principalId",
        "requestParameters",
        "requestParameters.sourceIPAddress",
        "responseElements",
        "responseElements.x-amz-request-id",
        "s3",
        "s3.bucket",
        "s3.bucket.name",
        "s3.bucket.arn",
        "s3.object",
        "s3.object.key",
        "s3.object.size",
        "s3.object.eTag",
        "s3.object.versionId",
        "s3.object.sequencer",
        "s3.objectAnnotation",
        "s3.object.hasObjectAnnotation",
        "s3.bucket.awsGeneratedTags",
        "restoreEventData",
        "glacierEventData",
        "objectAnnotation",
        "opaqueData",
        "ownEventData",
    ]
)
BRIDGE_PATHS = st.sampled_from(
    [
        "id",
        "detail-type",
        "source",
        "time",
        "region",
        "detail",
        "detail.bucket",
        "detail.bucket.name",
        "detail.bucket.aws-generated-tags",
        "detail.object",
        "detail.object.key",
        "detail.object.size",
        "detail.object.etag",
        "detail.object.version-id",
        "detail.object.sequencer",
        "detail.object.has-object-annotation",
        "detail.request-id",
        "detail.requester",
        "detail.reason",
        "detail.deletion-type",
        "detail.restore-expiry-time",
        "detail.object-annotation",
        "detail.object-retention-event-data",
        "detail.new-member",
    ]
)


DOCUMENTS = st.sampled_from(
    [path.read_bytes().strip() for path in sorted(PAYLOADS.glob("*.json"))]
    + [json.dumps(record()).encode(), json.dumps(eventbridge("Object Created")).encode(), b"[]", b"null", b"{}", b"{"]
)
PROFILE = st.sampled_from(PROFILES)


def _is_sound(body: bytes, profile: Profile = "auto") -> bool:
    decoded = decode(body, profile)
    for event in decoded.events:
        # Everything that is text can be stored.
        texts = [getattr(event, name) for name in ("type", "bucket", "received_key", "version_id", "etag", "sequencer")]
        texts += [event.region, event.actor, event.source_ip, event.request_id, event.host_id, event.extra]
        assert all("\0" not in text and text.encode() for text in texts if text is not None)
        assert b"\0" not in event.key
        assert 1900 <= event.time.year <= 9998
        assert event.type.isprintable()
        assert event.record in body or b'"Message"' in body
        assert event.extra is None or isinstance(json.loads(event.extra), dict)
    for refused in decoded.refusals:
        assert refused.raw in body or b'"Message"' in body
    return all(is_sound(refused) for refused in decoded.refusals)


@given(st.binary(max_size=300), PROFILE)
@settings(deadline=None)
def test_any_bytes_are_read_or_refused(body: bytes, profile: Profile) -> None:
    """Nothing raises, and no refusal is one that was not foreseen."""
    assert _is_sound(body, profile)


@given(VALUES, st.sampled_from(["plain", "array", "lines", "records", "element", "envelope", "inside", "detail", "r2"]))
@settings(deadline=None)
def test_any_json_is_read_or_refused(value: Any, place: str) -> None:
    """Nothing raises for a value of any kind in any place, lone surrogates, NaN and huge numbers included."""
    body = {
        "plain": value,
        "array": [record(), value],
        "lines": None,
        "records": {"Records": value},
        "element": {"Records": [value, record()]},
        "envelope": {"Type": "Notification", "Message": value},
        "inside": {"Type": "Notification", "Message": json.dumps({"Records": [value]}, ensure_ascii=False)},
        "detail": eventbridge("Object Created", {"detail": value}),
        "r2": {"action": "PutObject", "bucket": "b", "object": {"key": "k"}, "eventTime": "2024-05-24", "x": value},
    }[place]

    assert _is_sound(json.dumps(body).encode() if place != "lines" else b"{\n" + json.dumps([value]).encode() + b"\n{}")


@given(st.dictionaries(PATHS, VALUES | st.text(max_size=30), max_size=3), PROFILE)
@settings(deadline=None, max_examples=200)
def test_a_record_with_any_members_is_read_or_refused(changes: dict[str, Any], profile: Profile) -> None:
    """Nothing raises for wrong types or odd texts in the members that are looked at."""
    try:
        changed = record(changes)
    except (TypeError, KeyError, AttributeError):  # one change took away the object that another one changes
        return

    assert _is_sound(message(changed), profile)
    assert _is_sound(json.dumps(changed).encode(), profile)
    assert _is_sound(envelope(message(changed).decode()), profile)


@given(st.dictionaries(BRIDGE_PATHS, VALUES | st.text(max_size=30), max_size=3))
@settings(deadline=None, max_examples=200)
def test_an_eventbridge_event_with_any_members_is_read_or_refused(changes: dict[str, Any]) -> None:
    """Likewise."""
    try:
        changed = eventbridge("Object Created", changes)
    except (TypeError, KeyError, AttributeError):  # likewise
        return

    assert _is_sound(json.dumps(changed).encode())


@given(st.lists(DOCUMENTS, min_size=1, max_size=5), st.sampled_from([b"\n", b"\r\n", b"", b" ", b","]), st.booleans())
@settings(deadline=None, max_examples=200)
def test_any_documents_in_one_message_are_read_or_refused(
    documents: list[bytes],
    between: bytes,
    in_array: bool,  # noqa: FBT001 -- hypothesis gives it
) -> None:
    """However they are put together."""
    body = between.join(documents)

    assert _is_sound(b"[" + body + b"]" if in_array else body)


@given(DOCUMENTS, st.integers(min_value=0), st.binary(max_size=4), st.booleans())
@settings(deadline=None, max_examples=200)
def test_any_damage_is_read_or_refused(
    document: bytes,
    at: int,
    damage: bytes,
    is_cut: bool,  # noqa: FBT001 -- hypothesis gives it
) -> None:
    """And a damaged line leaves the lines around it alone."""
    good = json.dumps(record()).encode()
    at %= len(document) + 1
    damaged = document[:at] + damage + (b"" if is_cut else document[at + len(damage) :])

    assert _is_sound(damaged)
    line = damaged.replace(b"\n", b" ")
    assert good in [event.record for event in decode(good + b"\n" + line + b"\n" + good).events]
    assert _is_sound(good + b"\n" + line + b"\n" + good)


@given(st.lists(DOCUMENTS, min_size=1, max_size=4))
@settings(deadline=None)
def test_what_is_refused_of_several_is_refused_alone_too(documents: list[bytes]) -> None:
    """Or says nothing: reading the quarantine again brings no surprise."""
    for refused in decode(b"\n".join(document.replace(b"\n", b" ") for document in documents)).refusals:
        again = decode(refused.raw)
        assert again.events == ()
        assert [each.raw for each in again.refusals] == [refused.raw]


@given(st.lists(VALUES, max_size=5), st.sampled_from([None, 0, 1]), st.booleans())
@settings(deadline=None)
def test_slices_are_what_came(values: list[Any], indent: int | None, ascii_only: bool) -> None:  # noqa: FBT001 -- hypothesis gives it
    """Each slice reads to the same value as before, and stands in the input where it should: in order, complete."""
    text = json.dumps({"a": 1, "Records": values, "z": {}}, indent=indent, ensure_ascii=ascii_only)

    (document,) = walk(text, Budget()).pieces

    assert isinstance(document, Document)
    assert document.text == text
    records = document.records
    assert records is not None
    assert len(records) == len(values)
    at = 0
    for element, value in zip(records, values, strict=True):
        at = text.index(element.text, at) + len(element.text)
        assert json.dumps(json.loads(element.text)) == json.dumps(value)


@given(st.text(alphabet='{}[]":,\\ 01eNa\n"Records"', max_size=40))
@settings(deadline=None, max_examples=300)
def test_what_is_read_is_json(text: str) -> None:
    """The walk takes nothing that the standard library refuses, and refuses nothing of it but the non-standard."""
    read_here = _attempt(text)
    read_there = _reference(text)

    assert (read_here is None) == (read_there is None)


def _attempt(text: str) -> Document | None:
    walked = walk(text, Budget())
    if walked.problem is not None or len(walked.pieces) != 1:
        return None
    (document,) = walked.pieces
    if not isinstance(document, Document) or not text.lstrip(" \n").startswith("{"):
        return None
    return None if any(element.fault for element in document.records or ()) else document


def _reference(text: str) -> dict[str, Any] | None:
    is_strict = True

    def refuse(_: str) -> None:
        nonlocal is_strict
        is_strict = False

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal is_strict
        is_strict = is_strict and len(dict(found)) == len(found)
        return dict(found)

    try:
        value = json.loads(text, parse_constant=refuse, object_pairs_hook=pairs)
    except ValueError:
        return None
    return value if isinstance(value, dict) and is_strict else None
