"""How much of everything one message may hold, so that the work on it is bounded by number too, not only by bytes."""

from typing import Final

from app.decode.undecodable import Excessive

# 1 MiB of real messages stays far below each.
MEMBERS_LIMIT: Final = 64
DOCUMENTS_LIMIT: Final = 4096
RECORDS_LIMIT: Final = 4096
OBJECTS_LIMIT: Final = 65_536


class Budget:
    """What is left for one message, its envelopes included. Each method takes one, or raises Excessive."""

    def __init__(self) -> None:
        self._documents = DOCUMENTS_LIMIT
        self._records = RECORDS_LIMIT
        self._objects = OBJECTS_LIMIT

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

    def take_object(self) -> None:
        """Take a JSON object."""
        self._objects -= 1
        if self._objects < 0:
            raise Excessive(f"holds more than {OBJECTS_LIMIT} JSON objects")
