"""What the pages in docs/ name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
_SPAN = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"[\w.]+(?:/[\w.]+)*/?")
_PACKAGE = ROOT / "sft_magics"
_PLACES = (ROOT, _PACKAGE, *(path for path in _PACKAGE.rglob("*") if path.is_dir()))


def missing(text: str) -> list[str]:
    """The files and folders that a page names and that are not there, below the root or a folder of the package."""
    named = {span for span in _SPAN.findall(text) if _PATH.fullmatch(span) and span.endswith((".py", ".md", "/"))}
    return sorted(name for name in named if not any((place / name).exists() for place in _PLACES))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_paths_that_a_page_names_are_there(page: Path) -> None:
    assert missing(page.read_text(encoding="utf-8")) == []


def test_a_path_that_is_not_there_is_found() -> None:
    assert missing("`core/metrics.py`, `core/nowhere.py`, `make quick`, `nothing/`") == ["core/nowhere.py", "nothing/"]
