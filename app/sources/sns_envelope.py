"""What SNS writes around a message it pushes, read as strictly as its signature demands. Believes nothing yet.

Whether it is signed is sns_signature.py's question; what is in the message is decode's.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, get_args

from app.domain.errors import Forged

Kind = Literal["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
VERSIONS: Final = ("1", "2")

_ALWAYS: Final = (
    "Message",
    "MessageId",
    "Signature",
    "SignatureVersion",
    "SigningCertURL",
    "Timestamp",
    "TopicArn",
    "Type",
)
_OF_CONFIRMATIONS: Final = ("SubscribeURL", "Token")
# Any of these makes a document an envelope, so that leaving others out is no way around the signature.
_MARKS: Final = frozenset({"Type", "Signature", "SigningCertURL", "SigningCertUrl"})
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An envelope as it came: `texts` are its members by name, with Subject only if there is one."""

    kind: Kind
    texts: Mapping[str, str]
    sent_at: datetime

    @property
    def topic_arn(self) -> str:
        """Say which topic it claims to come from."""
        return self.texts["TopicArn"]

    @property
    def message_id(self) -> str:
        """Give SNS's own id, the same at each retry."""
        return self.texts["MessageId"]


def read_envelope(body: bytes) -> Envelope | None:
    """Read an envelope; None when this is something else, as with raw delivery. Raises Forged."""
    repeated: list[str] = []
    members = _members(body, repeated)
    if members is None or not _MARKS & members.keys():
        return None
    if repeated:
        raise Forged("The envelope names a member twice.")
    kind = next((each for each in KINDS if each == members.get("Type")), None)
    if kind is None:
        raise Forged(f"The envelope's Type is none of {', '.join(KINDS)}.")
    texts = {name: _text(members, name) for name in _ALWAYS + (() if kind == "Notification" else _OF_CONFIRMATIONS)}
    if "SigningCertUrl" in members:
        raise Forged("SigningCertUrl is how Lambda spells it; SNS never pushes it.")
    if texts["SignatureVersion"] not in VERSIONS:
        raise Forged(f"The envelope's SignatureVersion is none of {', '.join(VERSIONS)}.")
    if "Subject" in members:
        # Not even null: SNS leaves the member out, and what it did not write, it did not sign.
        texts["Subject"] = _text(members, "Subject")
    return Envelope(kind=kind, texts=texts, sent_at=_time(texts["Timestamp"]))


def _members(body: bytes, repeated: list[str]) -> dict[str, Any] | None:
    def take(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            repeated.append("")
        return members

    try:
        document = json.loads(body.decode("utf-8"), object_pairs_hook=take)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str):
        raise Forged(f"The envelope's {name} is not a text.")
    # Only a message may have lines: a second one elsewhere could shift what was signed from one member to the next.
    if name != "Message" and _CONTROL.search(value):
        raise Forged(f"The envelope's {name} holds control characters.")
    return value


def _time(text: str) -> datetime:
    if _TIME.fullmatch(text) is None:
        raise Forged("The envelope's Timestamp is not a time as SNS writes it.")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Forged("The envelope's Timestamp is not a time of the calendar.") from None
