"""What it says: bytes in, events or a named refusal out. No I/O; one file a format."""
