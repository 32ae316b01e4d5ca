"""Processor seconds of a process and all its children, those that ended included; on Linux, in steps of 10 ms."""

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree_seconds(pid: int) -> float:
    """Add up what a process and its living and reaped children took."""
    spent: dict[int, int] = {}
    parents: dict[int, int] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                # The name in brackets may hold anything; what follows it is numbers.
                fields = (path / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(path.name)] = int(fields[1])
            spent[int(path.name)] = sum(map(int, fields[11:15]))
    family, grows = {pid}, True
    while grows:
        more = {each for each, parent in parents.items() if parent in family} | family
        grows, family = len(more) > len(family), more
    return sum(spent.get(each, 0) for each in family) / _TICKS
