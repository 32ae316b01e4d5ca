"""How much of everything one message may hold, so that the work on it is bounded by number too, not only by bytes."""

from typing import Final

from app.decode.undecodable import Excessive

# 1 MiB of real messages stays far below each.
MEMBERS_LIMIT: Final = 64
OBJECT_MEMBERS_LIMIT: Final = 1024
DOCUMENTS_LIMIT: Final = 4096
RECORDS_LIMIT: Final = 4096
# Of each kind. Those inside texts count too: telling them apart costs what the limits are there to save.
BRACKETS_LIMIT: Final = 65_536
VALUES_LIMIT: Final = 98_304
# Colons stand in times and arns too: a real message has four to eight for each object.
COLONS_AN_OBJECT_LIMIT: Final = 32
COLONS_FREE: Final = 4096


class Budget:
    """What is left for one message, its envelopes included. Each method takes some, or raises Excessive."""

    def __init__(self) -> None:
        self._documents = DOCUMENTS_LIMIT
        self._records = RECORDS_LIMIT

    def take_document(self) -> None:
        """Take a JSON document."""
        self._documents -= 1
        if self._documents < 0:
            raise Excessive(f"has more than {DOCUMENTS_LIMIT} documents")

    def take_record(self) -> None:
        """Take an element of `Records`."""
        self._records -= 1
        if self._records < 0:
            raise Excessive(f"has more than {RECORDS_LIMIT} records")


def check_density(text: str) -> None:
    """Refuse a text that may hold more objects, arrays or values than any message does. Raises Excessive."""
    for mark, limit, name in (
        ("{", BRACKETS_LIMIT, "JSON objects"),
        ("[", BRACKETS_LIMIT, "JSON arrays"),
        (":", VALUES_LIMIT, "members"),
        (",", VALUES_LIMIT, "values"),
    ):
        if text.count(mark) > limit:
            raise Excessive(f"holds more than {limit} {name}")
    if text.count(":") > COLONS_FREE + COLONS_AN_OBJECT_LIMIT * text.count("{"):
        raise Excessive("has too many members for its few objects, so it is no S3 message")
