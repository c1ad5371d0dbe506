"""Every panel, as a browser lays it out in JupyterLab: nothing covers anything, nothing leaves its place."""

from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, expect

from tests.browser import gallery, lab

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page with every panel, light and dark."""
    folder = tmp_path_factory.mktemp("panels")
    nbformat.write(gallery.notebook_of(gallery.things()), folder / "panels.ipynb")
    return gallery.pages(folder / "panels.ipynb", folder)


@pytest.mark.parametrize("width", gallery.WIDTHS)
def test_nothing_covers_anything_or_leaves_its_place(browser: Browser, pages: dict[str, Path], width: int) -> None:
    page = gallery.opened(browser, pages["light"], width)
    assert page.locator(".sft").count() == len(gallery.things())
    assert gallery.faults(page) == []
    page.context.close()


def test_what_is_drawn_wrongly_is_found(browser: Browser, pages: dict[str, Path]) -> None:
    page = gallery.opened(browser, pages["light"], 900)
    page.add_style_tag(
        content=".sft.sft table{table-layout:fixed!important} .sft.sft td *{white-space:nowrap!important}"
    )
    found = "\n".join(gallery.faults(page))
    assert "covers" in found
    page.add_style_tag(
        content=".sft.sft td .sft-u{max-width:9px!important;min-width:0!important;white-space:normal!important}"
    )
    assert "breaks letter by letter" in "\n".join(gallery.faults(page))
    page.context.close()


def test_words_are_read_on_both_themes(browser: Browser, pages: dict[str, Path]) -> None:
    for theme, light in (("light", False), ("dark", True)):
        page = gallery.opened(browser, pages[theme], 900, dark=theme == "dark")
        ink = page.evaluate(
            "() => getComputedStyle(document.querySelector('.sft b')).color.match(/\\d+/g).slice(0, 3).map(Number)"
        )
        assert (sum(ink) > 3 * 128) == light, f"{theme}: {ink}"
        page.context.close()


def test_the_pointer_shows_the_values_of_a_curve(browser: Browser, pages: dict[str, Path]) -> None:
    page = gallery.opened(browser, pages["light"], 900)
    chart = page.locator('.sft[aria-label^="Fine-tuning"] svg[role=img]').last
    chart.scroll_into_view_if_needed()
    words = chart.locator(".sft-v text")
    assert words.locator("visible=true").count() == 0
    chart.locator(".sft-v rect").last.hover()
    expect(words.locator("visible=true")).to_have_count(1)
    expect(words.locator("visible=true")).to_have_text("step 240, accuracy 0.830, f1 0.820")
    lab.picture(page, "hover")
    page.context.close()
