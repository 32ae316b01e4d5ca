"""A wrong clock for one process: Python runs this by itself where this directory stands first on PYTHONPATH.

The file that BED_CLOCK names holds by how many seconds the clock is ahead; it may be replaced at any time, as a clock
is set. Shifted are `time.time`, `time.time_ns` and `datetime.now/utcnow/today`, also where C code looks those up by
name: all that the gateway and its libraries tell the date by. Not shifted: monotonic clocks, which real skew does not
shift either, and what C asks the system itself (OpenSSL's validity of certificates, SQLite's own date functions).
"""

import datetime as dt
import os
import time
from pathlib import Path
from typing import Any

LOOK_SECONDS = 0.05

_file = Path(os.environ["BED_CLOCK"])
_time, _time_ns = time.time, time.time_ns
_datetime = dt.datetime


class _Ahead:
    """By how much the clock is ahead, read again when it is asked for later than a moment."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._looked_at = float("-inf")

    def seconds(self) -> float:
        now = time.monotonic()
        if now - self._looked_at > LOOK_SECONDS:
            self._looked_at = now
            self._seconds = float(_file.read_text())
        return self._seconds


class _Kind(type):
    """Lets every true datetime count as one of the shifted class."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _datetime)


class _Datetime(_datetime, metaclass=_Kind):
    """Makes true datetimes; only what it says of the present is shifted."""

    def __new__(cls, *args: Any, **fields: Any) -> Any:
        return _datetime.__new__(_datetime, *args, **fields)

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        return _datetime.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return _datetime.fromtimestamp(time.time(), dt.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        return cls.now()


_ahead = _Ahead()
_Datetime.__name__ = _Datetime.__qualname__ = "datetime"
_Datetime.__module__ = "datetime"
time.time = lambda: _time() + _ahead.seconds()
time.time_ns = lambda: _time_ns() + int(_ahead.seconds() * 1e9)
dt.datetime = _Datetime  # type: ignore[misc]  # that is the point
