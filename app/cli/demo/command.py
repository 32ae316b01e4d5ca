"""The command itself: sets up the world, runs the proofs, says what to try next."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import app
from app.cli.demo.screen import Screen
from app.domain.errors import StartError

if TYPE_CHECKING:
    from app.cli.demo.proofs import Proofs
    from app.cli.demo.world import World


def demo(
    *,
    leave: Annotated[
        bool, typer.Option("--exit", help="End after the proof; status 0 only if every figure is right.")
    ] = False,
) -> None:
    """Prove on this machine what Bucketpost promises: S3, SNS, SQS, a receiver and the gateway, and a kill -9."""
    for name in ("moto", "flask", "flask_cors", "standardwebhooks"):
        try:
            __import__(name)
        except ImportError as error:
            raise StartError(f"The demo needs {name}: pip install 'bucketpost[demo]'.") from error
    sys.exit(asyncio.run(_run(leave=leave)))


async def _run(*, leave: bool) -> int:
    # aiobotocore and aiohttp take half a second to load; the usage text need not wait for them.
    from app.cli.demo.proofs import Proofs
    from app.cli.demo.world import World

    screen = Screen(started=time.monotonic())
    screen.title(
        f"bucketpost {app.__version__}  demo: everything runs on this machine, nothing leaves it. Not for production."
    )
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="bucketpost-demo-") as directory:
        async with contextlib.AsyncExitStack() as stack:
            world = World(Path(directory), screen)
            stack.push_async_callback(world.close)
            work = asyncio.ensure_future(_prove(world, Proofs(world, screen), screen))
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stopped.set)
            stopping = asyncio.ensure_future(stopped.wait())
            await asyncio.wait((work, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work
                stopping.cancel()
                return 130
            is_right = work.result()
            if not leave and is_right:
                screen.your_turn(
                    key=world.key,
                    aws_url=world.aws_url,
                    gateway_url=world.gateway_url,
                    gateway_log=world.gateway_log,
                )
                await stopping
            stopping.cancel()
    return os.EX_OK if is_right else 1


async def _prove(world: "World", proofs: "Proofs", screen: Screen) -> bool:
    await world.open()
    is_right = await proofs.run()
    screen.verdict(is_right=is_right)
    return is_right
