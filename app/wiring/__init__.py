"""How a bucket is wired to a queue: looked at, planned, carried out, taken back, examined. Knows no store."""
