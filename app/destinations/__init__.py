"""Where it goes: one file a kind, one registry."""
