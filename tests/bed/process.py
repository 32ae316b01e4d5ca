"""A program started by the tests: its output in files, its end bounded in time.

Whatever is still alive when Python exits is killed; nothing here knows what the programs do.
"""

import asyncio
import atexit
import os
import signal
import subprocess
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TAIL_CHARACTERS = 5_000
REPOSITORY = Path(__file__).resolve().parents[2]


class BedError(Exception):
    """A part of the test bed did not do what it was asked to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended: its exit status (negative for a signal) and how long it took after being asked."""

    status: int
    seconds: float


class ChildProcess:
    """One program, which may be started again after it ended; the files of its output then grow.

    It runs in a session of its own: Ctrl-C in a terminal reaches pytest alone, which stops it in order.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        output: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        self.arguments = tuple(arguments)
        self.stdout_file = output.with_name(f"{output.name}.stdout")
        self.stderr_file = output.with_name(f"{output.name}.stderr")
        self._cwd = cwd
        self._env = env
        self._user = user
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended yet."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def pid(self) -> int:
        """The id of the process that was started last."""
        return self._started().pid

    @property
    def status(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._started().poll()

    def start(self) -> None:
        """Start it; returns at once."""
        if self.is_running:
            raise BedError(f"{self.arguments[0]} is running already")
        with self.stdout_file.open("ab") as stdout, self.stderr_file.open("ab") as stderr:
            self._popen = subprocess.Popen(  # noqa: S603 - the arguments come from the tests themselves
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=self._cwd,
                env=None if self._env is None else dict(self._env),
                user=self._user,
                start_new_session=True,
            )
        _alive.add(self)

    def send(self, signal_number: signal.Signals) -> None:
        """Send a signal; one that has ended already does not mind."""
        self._started().send_signal(signal_number)

    async def end(self, *, within: float) -> int:
        """Wait for its end and give the exit status; TimeoutError when it goes on."""
        popen = self._started()
        try:
            return await asyncio.to_thread(popen.wait, within)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{self.arguments[0]} did not end in {within} s\n{self.tail()}") from error

    async def stop(self, signal_number: signal.Signals = signal.SIGTERM, *, within: float = 10) -> Ended:
        """Ask it to end and wait; past the time it is killed, and the status says so."""
        asked_at = time.monotonic()
        self.send(signal_number)
        try:
            status = await self.end(within=within)
        except TimeoutError:
            status = await self.kill()
        return Ended(status=status, seconds=time.monotonic() - asked_at)

    async def kill(self) -> int:
        """End it as kill -9 does; safe to call on one that has ended or was never started."""
        if self._popen is None:
            return 0
        self._popen.kill()
        return await self.end(within=10)

    def stdout(self) -> str:
        """Everything it wrote to its standard output."""
        return _read(self.stdout_file)

    def stderr(self) -> str:
        """Everything it wrote to its standard error."""
        return _read(self.stderr_file)

    def tail(self) -> str:
        """Give the end of both outputs, for the message of a failure."""
        parts = [(self.stdout_file.name, self.stdout()), (self.stderr_file.name, self.stderr())]
        return "\n".join(f"--- {name}\n{text[-TAIL_CHARACTERS:]}" for name, text in parts if text)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._popen is None:
            raise BedError(f"{self.arguments[0]} was never started")
        return self._popen


async def until(
    is_so: Callable[[], Awaitable[bool]], *, within: float, what: str, process: ChildProcess | None = None
) -> None:
    """Ask again every 20 ms, for what gives no signal: a port of another program, a line in its log.

    Ends early with a BedError when the process behind it has ended; TimeoutError past the time.
    """
    deadline = time.monotonic() + within
    while not await is_so():
        if process is not None and not process.is_running:
            raise BedError(f"{what}: the process ended with status {process.status}\n{process.tail()}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within} s\n{process.tail() if process else ''}")
        await asyncio.sleep(0.02)


def clean_environment(**added: str) -> dict[str, str]:
    """Give our own environment without what configures Bucketpost or AWS, and with what is added."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BUCKETPOST_", "AWS_"))}
    return {**kept, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", **added}


_alive: weakref.WeakSet[ChildProcess] = weakref.WeakSet()


@atexit.register
def _kill_what_is_left() -> None:
    for process in list(_alive):
        if process.is_running and process._popen is not None:
            process._popen.kill()
            process._popen.wait(10)


def _read(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""
