"""Another process of a measurement: started, asked where it listens, and ended."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@asynccontextmanager
async def peer(module: str) -> AsyncIterator[str]:
    """Run a module that prints its port, and give its URL."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None  # noqa: S101 -- narrows the type
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.terminate()
        await process.wait()
