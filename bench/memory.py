"""How much memory one process takes that owes a million deliveries to 5,000 endpoints, most of them hostile.

`serve --only relay,api` on PostgreSQL, over receivers a fifth of which each answer at a drip, without end, with headers
without end, with a reset, and well. The high-water mark of its resident memory is printed every few seconds.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

from bench.filled import filled
from bench.peer import peer
from tests.bed.gateway import Gateway

LIMIT_MIB = 300


def _mebibytes(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(name)


async def _measure(rows: int, endpoints: int, seconds: float, pause: float) -> float:
    async with (
        peer("bench.hostile") as receiver,
        filled(rows=rows, lanes=endpoints, url=f"{receiver}/") as (url, _),
    ):
        with tempfile.TemporaryDirectory() as directory:
            env = {"BUCKETPOST_LOG__DELIVERED": "false"}
            gateway = Gateway(Path(directory), database_url=url, only="relay,api", env=env)
            gateway.start()
            connection = await asyncpg.connect(url)
            try:
                await gateway.ready(within=60)
                began, pid = time.monotonic(), gateway.process.pid
                while (spent := time.monotonic() - began) < seconds:
                    await asyncio.sleep(pause)
                    outcomes = await connection.fetch("SELECT outcome, count(*) FROM attempt GROUP BY 1 ORDER BY 1")
                    tries = ", ".join(f"{row['outcome']} {row['count']:,}" for row in outcomes)
                    taken, most = (_mebibytes(pid, name) for name in ("VmRSS", "VmHWM"))
                    print(f"{spent:4.0f} s: {taken:.0f} MiB, at most {most:.0f}; {tries}")
                most = _mebibytes(pid, "VmHWM")
                print(f"{rows:,} owed to {endpoints:,} endpoints: at most {most:.0f} MiB (< {LIMIT_MIB})")
                return most
            finally:
                await connection.close()
                await gateway.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--endpoints", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--pause", type=float, default=5)
    chosen = parser.parse_args()
    most_mib = asyncio.run(_measure(chosen.rows, chosen.endpoints, chosen.seconds, chosen.pause))
    sys.exit(most_mib >= LIMIT_MIB)
