"""One browser for all tests of a file."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser import lab

# A slow machine takes its time to show what it shows in the end; five seconds, the default, are too few.
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=lab.chromium(), args=lab.FLAGS)
        yield made
        made.close()
