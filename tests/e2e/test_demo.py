"""The demo proves what it says."""

import re
import sys
from pathlib import Path

from tests.bed.process import ChildProcess, clean_environment


async def test_the_demo_proves_every_promise(tmp_path: Path) -> None:
    """`bucketpost demo --exit` ends with status 0, after five proofs and with nothing lost."""
    demo = ChildProcess(
        [sys.executable, "-m", "app", "demo", "--exit"],
        output=tmp_path / "demo",
        cwd=tmp_path,
        env=clean_environment(),
    )
    demo.start()

    status = await demo.end(within=90)

    assert status == 0, demo.tail()
    assert "lost 0" in demo.stdout()
    assert "sent twice 0" in demo.stdout()
    assert re.findall(r"^(\d)  ", demo.stdout(), re.MULTILINE) == ["1", "2", "3", "4", "5"]
