"""`bucketpost serve` as a child process: started, asked, killed and started again by tests.

It runs the code of this repository in a directory of its own, with none of the developer's own settings.
"""

import json
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from tests.bed.api_client import ApiClient
from tests.bed.aws import ENVIRONMENT
from tests.bed.ports import HOST, free_port
from tests.bed.process import BedError, ChildProcess, Ended, clean_environment, until

KEY_FILE = "bucketpost.key"
LOOPBACK = "127.0.0.0/8,::1/128"
PROBE_TIMEOUT = aiohttp.ClientTimeout(total=1)


class Gateway:
    """One gateway, the same over kills and starts: its port, directory, database and key do not change.

    `env` goes on top of the environment; `only` is `serve --only`; `key` is for a replica whose database
    another one has made, otherwise it comes from the file of the first start, or a new one is made. `under` is a
    command that runs `serve`, such as strace, without taking its place.
    """

    def __init__(  # noqa: PLR0913 - what can differ between two gateways
        self,
        directory: Path,
        *,
        database_url: str | None = None,
        only: str | None = None,
        env: Mapping[str, str] | None = None,
        key: str | None = None,
        port: int | None = None,
        name: str = "gateway",
        under: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.name = name
        self.port = port or free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.api = ApiClient(f"{self.url}/v1", self.key)
        self._key = key
        self._commands = 0
        self._env = clean_environment(
            **ENVIRONMENT,
            **({} if database_url is None else {"BUCKETPOST_DATABASE_URL": database_url}),
            **{"BUCKETPOST_DELIVERY__ALLOW_CIDRS": LOOPBACK, **(env or {})},
        )
        arguments = ["serve", "--host", HOST, "--port", str(self.port), *(["--only", only] if only else [])]
        self.process = self._program(arguments, name, under=under)

    def start(self) -> None:
        """Start it and return at once; see `ready`."""
        self.process.start()

    async def ready(self, *, within: float = 15) -> None:
        """Wait until `/readyz` is 200; a BedError with its output when it ends instead."""
        async with aiohttp.ClientSession(timeout=PROBE_TIMEOUT) as session:
            await until(lambda: _is_ready(session, self.url), within=within, what=self.name, process=self.process)

    async def status_of(self, path: str) -> int | None:
        """GET a path without a key and give the status; None when nobody answers."""
        try:
            async with aiohttp.ClientSession(timeout=PROBE_TIMEOUT) as session, session.get(self.url + path) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def metrics(self) -> str:
        """Read `/metrics`."""
        async with (
            aiohttp.ClientSession(timeout=PROBE_TIMEOUT) as session,
            session.get(f"{self.url}/metrics") as answer,
        ):
            return await answer.text()

    async def figure(self, name: str) -> float:
        """Read one figure of `/metrics`, its labels included in the name; 0 when there is none, or no answer."""
        try:
            found = re.search(rf"^{re.escape(name)} (\S+)", await self.metrics(), re.MULTILINE)
        except (aiohttp.ClientError, TimeoutError):
            return 0.0
        return float(found.group(1)) if found else 0.0

    async def lanes_held(self) -> int:
        """Ask how many lanes it holds; 0 when it does not answer."""
        return int(await self.figure("bucketpost_lanes_held"))

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Give what it logged under a name, over all its lives."""
        needle = f'"event": "{event}"'
        return [json.loads(line) for line in self.process.stderr().splitlines() if needle in line]

    async def kill(self) -> None:
        """End it as kill -9 does."""
        await self.process.kill()

    async def terminate(self, *, within: float = 30) -> Ended:
        """Send SIGTERM and wait for its end."""
        return await self.process.stop(signal.SIGTERM, within=within)

    async def close(self) -> None:
        """Kill it if it still runs, and close the client."""
        await self.api.aclose()
        await self.process.kill()

    async def key(self) -> str:
        """Give an operator's key: the one given, else the one of the first start, else one made now."""
        if self._key is None:
            file = self.directory / KEY_FILE
            made = file.read_text().strip() if file.exists() else None
            self._key = made or (await self.run("keys", "create", "--name", "test")).splitlines()[-1].strip()
        return self._key

    async def run(self, *arguments: str, within: float = 30) -> str:
        """Run a short command with the same directory and settings, and give its standard output.

        A status other than 0 is a BedError with the output.
        """
        self._commands += 1
        command = self._program(arguments, f"{self.name}.command-{self._commands}")
        command.start()
        status = await command.end(within=within)
        if status != 0:
            raise BedError(f"bucketpost {' '.join(arguments)} ended with status {status}\n{command.tail()}")
        return command.stdout()

    def _program(self, arguments: Sequence[str], output_name: str, *, under: Sequence[str] = ()) -> ChildProcess:
        return ChildProcess(
            [*under, sys.executable, "-m", "app", *arguments],
            output=self.directory / output_name,
            cwd=self.directory,
            env=self._env,
        )


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/readyz") as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
