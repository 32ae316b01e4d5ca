"""What may stand between `://` and the path of a URL: a host, and a port where one is given."""

import re
from typing import Final

_AUTHORITY: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::(?P<port>[0-9]{1,5}))?")
_LAST_PORT: Final = 65_535


def is_authority(text: str) -> bool:
    """Tell whether a text is a host with or without a port, and nothing else: no credentials, no path, no spaces."""
    found = _AUTHORITY.fullmatch(text)
    return found is not None and (found["port"] is None or 0 < int(found["port"]) <= _LAST_PORT)
