"""The command line: usage, version, wrong usage, and how little it loads to say so."""

import subprocess
import sys

import pytest

import app
from app.cli.serve import _read_parts
from app.domain.errors import SettingsError
from tests.bed.process import clean_environment


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 -- our own interpreter
        [sys.executable, "-m", "app", *arguments],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_version_is_the_packages() -> None:
    """`--version` prints the version and ends well."""
    ended = _run("--version")

    assert (ended.returncode, ended.stdout) == (0, f"bucketpost {app.__version__}\n")


@pytest.mark.parametrize(
    "arguments", [("serve", "--port", "many"), ("serve", "--only", "web"), ("nonsense",), ("keys", "revoke", "key_x")]
)
def test_wrong_usage_ends_with_status_2(arguments: tuple[str, ...]) -> None:
    """Wrong usage is status 2 and a sentence, never a stack trace."""
    ended = _run(*arguments)

    assert ended.returncode == 2
    assert ended.stderr.strip()
    assert "Traceback" not in ended.stderr


def test_help_loads_no_heavy_library() -> None:
    """`--help` answers without the database, AWS, Kafka or web libraries."""
    code = (
        "import sys; from app.cli.main import cli\n"
        "heavy = {'sqlalchemy', 'aiobotocore', 'aiokafka', 'fastapi', 'alembic', 'aiohttp'} & set(sys.modules)\n"
        "sys.exit(','.join(sorted(heavy)) or 0)"
    )

    ended = subprocess.run(  # noqa: S603 -- our own interpreter
        [sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True, check=False, timeout=60
    )

    assert ended.returncode == 0, ended.stderr


def test_parts_are_read_from_a_list() -> None:
    """`--only` takes parts separated by commas; left out, all three run."""
    assert _read_parts("api, ingest") == {"api", "ingest"}
    assert _read_parts(None) == {"api", "ingest", "relay"}
    with pytest.raises(SettingsError, match="not web"):
        _read_parts("api,web")
