"""Every panel on one page, in the style sheets of JupyterLab, and what a page shows wrongly: `make screenshots`.

`python -m tests.browser.gallery` draws one of every record and view, with NOTEBOOK ... executed notebooks instead.
Pictures go to build/screenshots, for each width and theme.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Browser, Page, sync_playwright

from sft_magics.notebook.display import bundle
from tests.browser import lab
from tests.notebook import panel_samples as samples

WIDTHS = (720, 900, 1280)
THEMES = ("light", "dark")
_TALL = 1_600  # pixels of one picture

# Finds, in each panel, words that cover one another, stand outside of it, or break letter by letter.
_FAULTS = """() => {
  const faults = [];
  const scrolls = e => e && e.closest('.sft-x, pre');
  for (const panel of document.querySelectorAll('.sft')) {
    if (!panel.offsetParent && !panel.getClientRects().length) continue;
    const name = panel.getAttribute('aria-label');
    const frame = panel.getBoundingClientRect();
    const boxes = [];
    const walker = document.createTreeWalker(panel, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode, holder = node.parentElement, said = node.textContent.trim();
      if (!said || ['TITLE', 'STYLE'].includes(holder.tagName.toUpperCase())) continue;
      if (holder.closest('title') || !holder.checkVisibility({visibilityProperty: true})) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      const rects = [...range.getClientRects()].filter(r => r.width > 0.5 && r.height > 0.5);
      if (rects.length > 2 && said.length > 8 && said.length / rects.length < 3)
        faults.push(`${name}: "${said.slice(0, 40)}" breaks letter by letter`);
      for (const r of rects) boxes.push({said: said.slice(0, 40), r, holder, words: true});
    }
    for (const drawn of panel.querySelectorAll('svg, img'))
      if (drawn.getBoundingClientRect().height < 40)
        boxes.push({said: `<${drawn.tagName}>`, r: drawn.getBoundingClientRect(), holder: drawn, words: false});
    for (const b of panel.querySelectorAll('.sft-b, .sft-t')) {
      const r = b.getBoundingClientRect(), cell = b.parentElement.getBoundingClientRect();
      if (r.width && (r.right > cell.right + 1.5 || r.left < cell.left - 1.5))
        faults.push(`${name}: the badge "${b.textContent}" leaves its place`);
    }
    for (const {said, r, holder} of boxes)
      if (!scrolls(holder) && (r.right > frame.right + 1 || r.left < frame.left - 1))
        faults.push(`${name}: "${said}" leaves the panel`);
    for (const e of panel.querySelectorAll('.sft-x'))
      if (e.scrollWidth > e.clientWidth + 1)
        faults.push(`${name}: the table "${e.querySelector('caption')?.textContent}" is too wide `
                    + `by ${e.scrollWidth - e.clientWidth}`);
    for (const e of [panel, ...panel.querySelectorAll('*')])
      if (!e.closest('svg') && !scrolls(e) && e.clientWidth && e.scrollWidth > e.clientWidth + 1)
        faults.push(`${name}: ${e.tagName}.${e.className} is too wide by ${e.scrollWidth - e.clientWidth}`);
    for (let i = 0; i < boxes.length; i++)
      for (let k = i + 1; k < boxes.length; k++) {
        const a = boxes[i], b = boxes[k];
        if (a.holder === b.holder || a.holder.contains(b.holder) || b.holder.contains(a.holder)) continue;
        if (!a.words && !b.words) continue;
        const wide = Math.min(a.r.right, b.r.right) - Math.max(a.r.left, b.r.left);
        const high = Math.min(a.r.bottom, b.r.bottom) - Math.max(a.r.top, b.r.top);
        if (wide > 1.5 && high > 4.5) faults.push(`${name}: "${a.said}" covers "${b.said}"`);
      }
  }
  return [...new Set(faults)];
}"""


def things() -> list[Any]:
    """One of every record and view."""
    return [*samples.everything(), *samples.crowded(), *samples.runs().values(), *samples.jobs().values()]


def notebook_of(shown: Sequence[Any]) -> nbformat.NotebookNode:
    """A notebook whose cells show these things, as if it had been executed."""
    cells = []
    for number, thing in enumerate(shown, 1):
        output = nbformat.v4.new_output("display_data", data=bundle(thing))
        cells.append(nbformat.v4.new_code_cell(f"# {type(thing).__name__}", execution_count=number, outputs=[output]))
    return nbformat.v4.new_notebook(cells=cells)


def pages(notebook: Path, folder: Path, themes: Sequence[str] = THEMES) -> dict[str, Path]:
    """The notebook as a page for each theme, made by nbconvert in JupyterLab's own style sheets."""
    made = {}
    for theme in themes:
        name = f"{notebook.stem}-{theme}"
        command = [sys.executable, "-m", "nbconvert", "--to", "html", f"--HTMLExporter.theme={theme}"]
        command += ["--output-dir", str(folder), "--output", name, str(notebook)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "IPYTHONDIR": os.devnull})
        made[theme] = folder / f"{name}.html"
    return made


def opened(browser: Browser, page_file: Path, width: int, *, dark: bool = False) -> Page:
    """The page at a width, without a network."""
    page = lab.new_page(browser, 1000, width, dark)
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort())
    page.goto(page_file.resolve().as_uri(), wait_until="domcontentloaded")
    return page


def faults(page: Page) -> list[str]:
    """What is drawn wrongly on the page, one line each."""
    page.evaluate("() => document.querySelectorAll('.sft details').forEach(d => { d.open = true; })")
    found: list[str] = page.evaluate(_FAULTS)
    return found


def pictures(page: Page, name: str) -> Iterator[Path]:
    """Screenshots of a long page, each of a part."""
    height = int(page.evaluate("() => document.documentElement.scrollHeight"))
    width = page.viewport_size["width"] if page.viewport_size else WIDTHS[0]
    for part, top in enumerate(range(0, height, _TALL)):
        path = lab.PICTURES / f"{name}-{part}.png"
        clip = {"x": 0, "y": top, "width": width, "height": min(_TALL, height - top)}
        page.screenshot(path=path, full_page=True, clip=clip)  # type: ignore[arg-type]
        yield path


def main() -> int:
    """Draw what the command line names, say what is drawn wrongly; 1 where anything is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS)
    parser.add_argument("--themes", nargs="+", default=THEMES, choices=THEMES)
    given = parser.parse_args()
    lab.PICTURES.mkdir(parents=True, exist_ok=True)
    if not given.notebooks:
        given.notebooks = [lab.PICTURES / "panels.ipynb"]
        nbformat.write(notebook_of(things()), given.notebooks[0])
    wrong = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=lab.chromium(), args=lab.FLAGS)
        for notebook in given.notebooks:
            for theme, page_file in pages(notebook, lab.PICTURES, given.themes).items():
                for width in given.widths:
                    page = opened(browser, page_file, width, dark=theme == "dark")
                    found = faults(page)
                    wrong += len(found)
                    for line in (*pictures(page, f"{notebook.stem}-{width}-{theme}"), *found):
                        sys.stdout.write(f"{line}\n")
                    page.context.close()
        browser.close()
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
