"""Settings: environment over file over defaults, and a sentence for everything wrong."""

import os
import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from app.domain.errors import SettingsError
from app.settings import FILE, PREFIX, names, read_settings

EXAMPLE = Path(__file__).parents[2] / "deploy" / ".env.example"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start from no settings in an empty working directory."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_without_settings_the_defaults_hold() -> None:
    """No settings at all mean SQLite in the working directory, on port 8080 of this machine."""
    settings = read_settings()

    assert settings.database_url.get_secret_value() == "sqlite:///bucketpost.db"
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8080)


def test_environment_goes_over_file_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name in the environment wins over the file, and the file over the default."""
    Path(FILE).write_text("server:\n  port: 9000\n  host: 0.0.0.0\n")
    monkeypatch.setenv("BUCKETPOST_SERVER__PORT", "9001")

    settings = read_settings()

    assert (settings.server.host, settings.server.port) == ("0.0.0.0", 9001)  # noqa: S104 -- a value, nothing listens


def test_networks_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are separated by commas, with or without spaces."""
    monkeypatch.setenv("BUCKETPOST_DELIVERY__ALLOW_CIDRS", "127.0.0.0/8, ::1/128")

    settings = read_settings()

    assert settings.allow_networks == (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BUCKETPOST_DELIVERY__ALOW_CIDRS", "x", "BUCKETPOST_DELIVERY__ALLOW_CIDRS"),
        ("BUCKETPOST_DATABASE_URI", "x", "BUCKETPOST_DATABASE_URL"),
        ("BUCKETPOST_SERVER__PORT", "eighty", "BUCKETPOST_SERVER__PORT"),
        ("BUCKETPOST_SERVER__PORT", "70000", "BUCKETPOST_SERVER__PORT"),
        ("BUCKETPOST_DELIVERY__ALLOW_CIDRS", "10.0.0.0/99", "BUCKETPOST_DELIVERY__ALLOW_CIDRS"),
    ],
)
def test_a_wrong_setting_stops_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """Unknown names get the nearest known one, wrong values their own name."""
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=said):
        read_settings()


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("", None),
        (" ", None),
        ("https://hooks.example", "https://hooks.example"),
        ("HTTPS://hooks.example:8443/", "https://hooks.example:8443"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_the_public_url_is_read_to_its_host(monkeypatch: pytest.MonkeyPatch, value: str, read: str | None) -> None:
    """Without its final slash; empty is as good as not set."""
    monkeypatch.setenv("BUCKETPOST_SERVER__PUBLIC_URL", value)

    assert read_settings().server.public_url == read


@pytest.mark.parametrize(
    "value",
    [
        "hooks.example",
        "ftp://hooks.example",
        "https://",
        "https://hooks.example/bucketpost",
        "https://hooks.example?x=1",
        "https://hooks.example#x",
        "https://user:word@hooks.example",
        "https://hooks.example:0",
        "https://hooks.example:65536",
        "https://hooks example",
        "https://[::1",
        "https://hooks.example//",
    ],
)
def test_a_public_url_with_more_than_a_host_stops_the_start(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """What comes after it is ours, and credentials would be shown to everybody."""
    monkeypatch.setenv("BUCKETPOST_SERVER__PUBLIC_URL", value)

    with pytest.raises(SettingsError, match="BUCKETPOST_SERVER__PUBLIC_URL"):
        read_settings()


def test_names_for_tests_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """BUCKETPOST_TEST_ names belong to the tests."""
    monkeypatch.setenv("BUCKETPOST_TEST_ANYTHING", "1")

    assert read_settings().server.port == 8080


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("delivery:\n  lease: 5\n", "delivery.lease_seconds"),
        ("worker: 1\n", "worker is not a setting"),
        ("server: [1, 2]\n", "server"),
        ("a: b: c\n", "not YAML"),
        ("just text\n", FILE),
    ],
)
def test_a_wrong_file_stops_with_a_sentence(text: str, said: str) -> None:
    """What cannot work in the file is named, with the nearest known name."""
    Path(FILE).write_text(text)

    with pytest.raises(SettingsError, match=re.escape(said)):
        read_settings()


def test_the_example_names_every_setting_with_its_default() -> None:
    """deploy/.env.example holds every name, its default, and nothing else."""
    example = dict(re.findall(r"^#?(BUCKETPOST_[A-Z_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))

    assert example == {name: default for name, (default, _) in names().items()}
