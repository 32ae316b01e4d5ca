"""What it says: the bytes of a message in, events or named refusals out. Pure: no I/O, no clock."""

from app.decode.message import decode

__all__ = ["decode"]
