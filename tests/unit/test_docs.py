"""What the documentation points at is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    """Links to files of this repository are not broken."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())

    missing = [link for link in links if not (page.parent / link).exists()]

    assert missing == []


def test_the_readme_is_short() -> None:
    """Whoever comes first reads at most 150 lines."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_make_target_of_the_readme_exists() -> None:
    """Every `make` target that the README names is there."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    named = set(re.findall(r"(?:`|^ {4})make ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))

    assert named <= targets
