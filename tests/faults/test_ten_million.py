"""F16: ten million deliveries are owed over a thousand lanes, and an old snapshot keeps 100,000 dead rows.

What is timed is claimed in the long form only: other work on the machine shows in the times, not in the pages.
"""

import uvloop

from bench.scale import measure
from tests.bed.faults.figures import Figures, Scale


def test_what_is_owed_costs_nothing(figures: Figures, scale: Scale) -> None:
    """A fetch touches few pages, whatever is owed and whatever is dead; the calls stay short."""
    rows = scale.of(short=100_000, long=10_000_000)
    lanes = scale.of(short=100, long=1_000)
    dead = scale.of(short=5_000, long=100_000)

    found = uvloop.run(measure(rows=rows, lanes=lanes, calls=scale.of(short=15, long=1000), dead=dead))

    timed = {
        "p99 of lease, fetch and settle within 5 ms": found.plain_milliseconds <= 5,
        "also under the snapshot": found.held_milliseconds <= 5,
        "nine tenths of the throughput under the snapshot": found.throughput >= 0.9,
    }
    figures.report(
        "F16",
        {
            "owed": rows,
            "dead": dead,
            "pages of a fetch": found.pages,
            "p99 ms, the middle of five runs": found.plain_milliseconds,
            "under a snapshot": found.held_milliseconds,
            "throughput under a snapshot": found.throughput,
        },
        {"a fetch touches at most 20 pages": found.pages <= 20, **(timed if scale.is_long else {})},
    )
