"""F31: each guard taken away in turn makes the tests fail that are there for it; else they would guard nothing."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from tests.bed.faults.figures import Figures
from tests.bed.postgres import Databases
from tests.faults.guards import GUARDS, Guard

ROOT: Final = Path(__file__).parents[2]
PARTS: Final = ("app", "migrations", "tests")
FILES: Final = ("pyproject.toml", "README.md", "openapi.json")
AT_ONCE: Final = 2
LONGEST_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run of tests gave."""

    passed: int
    failed: int
    output: str


class Copies:
    """Copies of the repository, and tests run in them, a few at a time."""

    def __init__(self, directory: Path, *, database_url: str) -> None:
        self._directory = directory
        self._environment = {**os.environ, "BUCKETPOST_TEST_DATABASE_URL": database_url}
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._under_way: dict[str, Future[Run]] = {}

    def begin(self, name: str, tests: tuple[str, ...], guard: Guard | None = None) -> None:
        """Have tests run in a copy, without a guard if one is given."""
        self._under_way[name] = self._pool.submit(self._run, f"copy-{len(self._under_way)}", tests, guard)

    def result(self, name: str) -> Run:
        """Wait for what came of it."""
        return self._under_way[name].result()

    def is_missed(self, guard: Guard) -> bool:
        """Tell whether all tests named for a guard failed without it; one that was not asked for is not known of."""
        run = self.result(guard.name)
        return (run.passed, run.failed) == (0, len(guard.missed_by))

    def close(self) -> None:
        """Wait for what is under way, and begin nothing else."""
        self._pool.shutdown(cancel_futures=True)

    def _run(self, name: str, tests: tuple[str, ...], guard: Guard | None) -> Run:
        copy = self._directory / name
        for part in PARTS:
            shutil.copytree(ROOT / part, copy / part)
        for file in FILES:
            shutil.copy2(ROOT / file, copy / file)
        if guard is not None:
            take_away(guard, copy)
        report = copy / "report.xml"
        done = subprocess.run(  # noqa: S603 -- our own tests
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests],
            cwd=copy,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_SECONDS,
        )
        run = _read(report, done.stdout + done.stderr)
        shutil.rmtree(copy)
        return run


def take_away(guard: Guard, copy: Path) -> None:
    """Take a guard away in a copy."""
    file = copy / guard.file
    text = file.read_text()
    assert text.count(guard.text) == 1, f"{guard.file} has not exactly one of: {guard.text}"
    file.write_text(text.replace(guard.text, guard.without))


def _read(report: Path, output: str) -> Run:
    assert report.exists(), output
    # A test that fails and then leaves something unclosed stands there twice.
    outcomes: dict[tuple[str, str], set[str]] = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 -- written by our own pytest
        outcomes.setdefault((case.attrib["classname"], case.attrib["name"]), set()).update(each.tag for each in case)
    return Run(
        passed=sum(not each & {"failure", "error", "skipped"} for each in outcomes.values()),
        failed=sum("failure" in each for each in outcomes.values()),
        output=output,
    )


ALL_TESTS: Final = tuple(dict.fromkeys(test for guard in GUARDS for test in guard.missed_by))
INTACT: Final = "intact"


@pytest.fixture(scope="module")
def copies(
    request: pytest.FixtureRequest, postgres: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Copies]:
    """Begin all that the tests of this module ask for, so that they need not wait for one another."""
    asked = {name for item in request.session.items if item.path == request.path for name in _guards_of(item)}
    made = Copies(tmp_path_factory.mktemp("guards"), database_url=postgres.server_url)
    made.begin(INTACT, ALL_TESTS)
    for guard in GUARDS:
        if guard.name in asked:
            made.begin(guard.name, guard.missed_by, guard)
    yield made
    made.close()


def _guards_of(item: pytest.Item) -> list[str]:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    # The one test without a parameter is about all of them.
    return [parameters["guard"].name] if "guard" in parameters else [guard.name for guard in GUARDS]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: re.sub(r"\W+", "-", guard.name))
def test_a_guard_is_missed(guard: Guard, copies: Copies) -> None:
    """Without it every test named for it fails, and by what it asserts."""
    assert copies.is_missed(guard), copies.result(guard.name).output


def test_with_all_guards_nothing_fails(copies: Copies, figures: Figures) -> None:
    """The same tests pass as it is: that they fail otherwise is the guard's doing."""
    run = copies.result(INTACT)

    assert (len(ALL_TESTS), 0) == (run.passed, run.failed), run.output
    missed = sum(copies.is_missed(guard) for guard in GUARDS)
    figures.report(
        "F31",
        {"guards": len(GUARDS), "tests that miss one": len(ALL_TESTS)},
        {"each is missed by every test named for it": missed == len(GUARDS)},
    )
