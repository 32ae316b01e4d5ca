"""Where it comes from: one file a kind, one registry."""
