"""The left half: receive, decode, record, acknowledge."""
