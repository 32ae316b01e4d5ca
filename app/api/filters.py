"""What narrows lists: the types of query parameters; a bad value is turned down with a sentence of its own."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import unquote_to_bytes

from fastapi import Request
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, WithJsonSchema

from app.domain.ids import EndpointId, EventId, Prefix, SourceId, SubscriptionId, parse_id

# RFC 3339: pydantic alone would also take a number for a time, and a day.
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def raw_parameter(request: Request, name: str) -> bytes:
    """Give a query parameter's bytes, since keys need not be UTF-8; of several the last, none where there is none."""
    query: bytes = request.scope["query_string"]
    parts = (part.partition(b"=") for part in query.split(b"&"))
    found = [value for key, _, value in parts if _unquote(key) == name.encode()]
    return _unquote(found[-1]) if found else b""


def _unquote(quoted: bytes) -> bytes:
    return unquote_to_bytes(quoted.replace(b"+", b" "))


def _check_text(text: str) -> str:
    if "\x00" in text:
        raise ValueError("This must not hold a NUL")
    return text


def _check_instant(text: Any) -> Any:
    if not isinstance(text, str) or not _INSTANT.fullmatch(text):
        raise ValueError("This is no time such as 2026-11-24T10:00:00.000Z; a + in it is written %2B")
    try:
        # Read here, for in a body nothing but a time would be taken for one.
        return datetime.fromisoformat(text.upper())
    except ValueError:
        raise ValueError("This is no time there is") from None


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("This time is out of range") from None


def _read_id(prefix: Prefix) -> Callable[[Any], bytes]:
    def read(text: Any) -> bytes:
        raw = parse_id(prefix, text) if isinstance(text, str) else None
        if raw is None:
            raise ValueError(f"This is no id: one is `{prefix}_` and 26 characters")
        return raw

    return read


def _id_schema(prefix: Prefix) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{prefix}_[a-z2-7]{{26}}$"})


TextParameter = Annotated[str, AfterValidator(_check_text)]
InstantParameter = Annotated[AwareDatetime, AfterValidator(_in_utc), BeforeValidator(_check_instant)]
EventIdParameter = Annotated[EventId, BeforeValidator(_read_id("evt")), _id_schema("evt")]
EndpointIdParameter = Annotated[EndpointId, BeforeValidator(_read_id("ep")), _id_schema("ep")]
SubscriptionIdParameter = Annotated[SubscriptionId, BeforeValidator(_read_id("sub")), _id_schema("sub")]
SourceIdParameter = Annotated[SourceId, BeforeValidator(_read_id("src")), _id_schema("src")]
