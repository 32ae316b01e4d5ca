"""What the demo prints: plain lines as things happen. Nothing is decided here."""

import time
from datetime import UTC, datetime
from pathlib import Path

import typer


class Screen:
    """Writes lines to the terminal, each at once."""

    def __init__(self, *, started: float) -> None:
        """Take the monotonic time at which the demo began."""
        self._started = started
        self._proof_started = started

    def title(self, text: str) -> None:
        """Say what this is."""
        typer.echo(text + "\n")

    def part(self, name: str, what: str) -> None:
        """Say that a part of the world is ready, and after how long."""
        typer.echo(f"  {name:<10} {what:<66} ready {time.monotonic() - self._started:5.1f} s")

    def heading(self, number: int, text: str) -> None:
        """Begin a proof."""
        if number == 1:
            self._proof_started = time.monotonic()
            typer.echo("")
        typer.echo(f"{number}  {text}")

    def line(self, verb: str, text: str) -> None:
        """Say that something happened now."""
        now = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
        typer.echo(f"   {now}  {verb:<9} {text}")

    def wrong(self, text: str) -> None:
        """Say that a figure is not what was promised."""
        self.line("WRONG", text)

    def figures(self, figures: dict[str, int]) -> None:
        """Give the sums of the proof."""
        typer.echo("\n   " + "   ".join(f"{name} {value}" for name, value in figures.items()))

    def verdict(self, *, is_right: bool) -> None:
        """Say whether every promise held."""
        seconds = time.monotonic() - self._proof_started
        if is_right:
            typer.echo(f"   Proof complete in {seconds:.1f} s.")
        else:
            typer.echo(f"   The proof FAILED after {seconds:.1f} s: see the lines marked WRONG.")

    def your_turn(self, *, key: str, aws_url: str, gateway_url: str, gateway_log: Path) -> None:
        """Say what to try next, with commands to paste."""
        header = f'-H "Authorization: Bearer {key}"'
        typer.echo(
            "\nYour turn (the demo keeps running; Ctrl-C stops it)\n"
            "   upload a file and see it delivered\n"
            f"      curl -X PUT -d hello {aws_url}/demo/photos/hello.txt\n"
            f"      curl -s {header} '{gateway_url}/v1/deliveries?limit=1'\n"
            "   what was recorded, and what became of it\n"
            f"      curl -s {header} '{gateway_url}/v1/events?bucket=demo'\n"
            "   every route, to try in the browser\n"
            f"      {gateway_url}/docs\n"
            f"   the log of the gateway\n      tail -f {gateway_log}\n"
            "Next: production in a few commands, in README.md."
        )
