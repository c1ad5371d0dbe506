"""The README is tested like code: its tree, its Python, its magics and commands, its links.

The tree is the one fenced block whose first line is `sft_magics/`:

    sft_magics/
      core/            the nouns; standard library only
        errors.py      the error tree
      verbs.py         the one table of verbs
    tests/             mirrors the tree

One entry a line: the indentation (two spaces a level), the name (a folder ends in `/`), two spaces or more, a comment.
A comment that needs a second line does not fit. Compared with the disk, by level:

- what stands under `sft_magics/` is exactly its packages and modules;
- what stands under one of its packages is exactly that package's (all of them or none: a room may stay closed);
- what stands beside `sft_magics/`, if anything does, is exactly the repository's other folders, and perhaps files.

`__init__.py` may be left out, and so may what is not Python.

Magics are found anywhere (`%sft_name`, `%%sft_name`). Commands (`sft name ...`, `python -m sft_magics name ...`) are
found in code: a fenced block of shell, or an inline code span.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PACKAGE = "sft_magics"
SHELL = {"", "sh", "bash", "shell", "console", "text"}

_FENCE = re.compile(r"^(?P<mark>```+|~~~+)(?P<language>[^\n`]*)\n(?P<body>.*?)^(?P=mark)[ \t]*$", re.M | re.S)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_ENTRY = re.compile(r"^(?P<indent> *)(?P<name>[\w.-]+/?)(?:\s{2,}.*)?$")
_MAGIC = re.compile(r"%sft_([a-z]\w*)")
_COMMAND = re.compile(
    r"(?:^|[;&|(!]|\$ )\s*(?:\w+=\S+\s+)*(?:[\w./-]*python3? -m sft_magics|(?:\S+/)?sft) +([a-z][\w-]*)", re.M
)
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|(?:src|href)=\"([^\"]+)\"|^\[[^\]]+\]:\s+(\S+)", re.M)


@dataclass(frozen=True)
class Fence:
    """A fenced block: its language and its text."""

    language: str
    body: str


def fences(text: str) -> list[Fence]:
    return [Fence((m["language"].split() or [""])[0].lower(), m["body"]) for m in _FENCE.finditer(text)]


def prose(text: str) -> str:
    return _FENCE.sub("", text)


def tree_blocks(text: str) -> list[str]:
    return [f.body for f in fences(text) if f.body.splitlines()[:1] and f.body.split(maxsplit=1)[0] == f"{PACKAGE}/"]


def read_tree(block: str) -> dict[str, set[str]]:
    """Folder -> the names listed in it. The repository itself is the folder ''; a folder's name ends in '/'."""
    listed: dict[str, set[str]] = {}
    path: list[str] = []
    for line in filter(str.strip, block.splitlines()):
        entry = _ENTRY.match(line)
        assert entry, f"not an entry (two spaces a level, a name, two spaces, a comment): {line!r}"
        level, odd = divmod(len(entry["indent"]), 2)
        assert not odd, f"indented by an odd number of spaces: {line!r}"
        assert level <= len(path), f"deeper than what stands above it: {line!r}"
        assert level == 0 or path[level - 1].endswith("/"), f"stands under a file: {line!r}"
        del path[level:]
        names = listed.setdefault("".join(path), set())
        assert entry["name"] not in names, f"listed twice: {line!r}"
        names.add(entry["name"])
        path.append(entry["name"])
    return listed


def on_disk(root: Path, folder: str) -> set[str]:
    """The packages and modules in a folder; for the repository itself, the folders that git would show."""
    children = [p for p in (root / folder).iterdir() if not p.name.startswith((".", "__pycache__"))]
    if not folder:
        return {f"{p.name}/" for p in children if p.is_dir() and p.name not in {"build", "dist"}}
    packages = {f"{p.name}/" for p in children if p.is_dir() and any(p.rglob("*.py"))}
    return packages | {p.name for p in children if p.suffix == ".py"}


def differences(root: Path, listed: dict[str, set[str]]) -> list[str]:
    """What the tree says and the disk does not, and the other way round; one sentence each."""
    found = []
    for folder, names in listed.items():
        if folder == "" and names == {f"{PACKAGE}/"}:
            continue
        if not (root / folder).is_dir():
            found.append(f"{folder} is not on disk")
            continue
        disk = on_disk(root, folder)
        found += [f"{folder}{name} is not on disk" for name in sorted(names) if not exists(root / folder, name)]
        if not any(name.endswith(".py") for name in names):  # it shows its folders alone
            disk = {name for name in disk if name.endswith("/")}
        found += [f"{folder}{name} is not in the tree" for name in sorted(disk - names - {"__init__.py"})]
    return found


def exists(folder: Path, name: str) -> bool:
    path = folder / name
    return path.is_dir() if name.endswith("/") else path.is_file()


def named_verbs(text: str) -> set[str]:
    """The verbs that the text's magics and commands name."""
    code = [f.body for f in fences(text) if f.language in SHELL] + _SPAN.findall(prose(text))
    commands = {name for piece in code for name in _COMMAND.findall(piece)}
    return {name.replace("-", "_") for name in commands | set(_MAGIC.findall(text))}


def relative_links(text: str) -> set[str]:
    targets = {next(filter(None, groups)) for groups in _LINK.findall(prose(text))}
    local = {t.partition("#")[0] for t in targets if not re.match(r"[a-z][a-z0-9+.-]*:|//", t)}
    return local - {""}


def compiles(source: str) -> None:
    """As a notebook cell would: magics, `!commands` and a top-level await are all right."""
    from IPython.core.inputtransformer2 import TransformerManager

    cell = TransformerManager().transform_cell(source)
    compile(cell, "README.md", "exec", flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.fixture(scope="module")
def readme() -> str:
    assert README.is_file(), "README.md is missing"
    return README.read_text(encoding="utf-8")


# --- the README ------------------------------------------------------------------------------------------------------


def test_the_tree_is_what_is_on_disk(readme: str) -> None:
    blocks = tree_blocks(readme)
    assert len(blocks) == 1, f"{len(blocks)} fenced blocks begin with `{PACKAGE}/`; there should be one"
    listed = read_tree(blocks[0])
    assert f"{PACKAGE}/" in listed, f"nothing stands under {PACKAGE}/"
    assert differences(ROOT, listed) == []


def test_the_python_compiles(readme: str) -> None:
    blocks = [f.body for f in fences(readme) if f.language in {"python", "py"}]
    assert blocks, "no Python in the README"
    for block in blocks:
        compiles(block)


def test_every_magic_and_command_exists(readme: str) -> None:
    from sft_magics.verbs import VERBS

    named = named_verbs(readme)
    assert named, "no magic and no command in the README"
    assert sorted(named - {verb.word for verb in VERBS.values()}) == []


def test_every_relative_link_leads_somewhere(readme: str) -> None:
    assert sorted(link for link in relative_links(readme) if not (ROOT / link).exists()) == []


# --- the reading itself ----------------------------------------------------------------------------------------------

SAMPLE = """# A title
See [the tour](notebooks/00_tour.ipynb#start), [a page](https://example.org/x), [below](#tree) and
<img src="notebooks/loss.svg" alt="loss">. Type `sft board` or `%sft_board`.
`sft_magics`, `sft --help` and `sft.train(x)` are no commands.

```python
%load_ext sft_magics
%sft_finetune pets --data pets.csv --epochs 3
run = await thing()
```

```console
$ sft deploy pets:3
$ SFT_HOME=here .venv/bin/python -m sft_magics fetch minilm && sft watch run-1
$ python -m sft_magics VERB
```

```
sft_magics/
  __init__.py      the verbs
  core/            the nouns
    errors.py      the error tree
  verbs.py         the table
tests/             mirrors the tree
```
"""


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    for name in ("sft_magics/__init__.py", "sft_magics/core/__init__.py", "sft_magics/core/errors.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sft_magics/verbs.py").touch()
    (tmp_path / "sft_magics/__pycache__").mkdir()
    (tmp_path / "tests").mkdir()
    return tmp_path


def test_a_true_tree_has_no_differences(disk: Path) -> None:
    assert differences(disk, read_tree(tree_blocks(SAMPLE)[0])) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "    errors.py ",
            "    mistakes.py ",
            ["core/mistakes.py is not on disk", "core/errors.py is not in the tree"],
        ),
        ("  verbs.py         the table\n", "", ["verbs.py is not in the tree"]),
        ("  core/  ", "  kernel/  ", ["kernel/ is not on disk", "core/ is not in the tree", "kernel/ is not on disk"]),
        ("    errors.py      the error tree\n", "", []),
    ],
)
def test_a_false_tree_is_told(disk: Path, old: str, new: str, said: list[str]) -> None:
    changed = tree_blocks(SAMPLE.replace(old, new))[0]
    assert differences(disk, read_tree(changed)) == [f"sft_magics/{sentence}" for sentence in said]


def test_what_stands_beside_the_package_is_all_or_nothing(disk: Path) -> None:
    (disk / "notebooks").mkdir()
    block = tree_blocks(SAMPLE)[0]
    assert differences(disk, read_tree(block)) == ["notebooks/ is not in the tree"]
    assert differences(disk, read_tree(block.replace("tests/             mirrors the tree\n", ""))) == []


@pytest.mark.parametrize("line", ["   odd.py  x", "    deep.py  x", "  two words.py", "  verbs.py  again"])
def test_a_crooked_tree_is_refused(line: str) -> None:
    with pytest.raises(AssertionError):
        read_tree(f"sft_magics/\n  verbs.py  the table\n{line}\n")


def test_magics_and_commands_are_found() -> None:
    assert named_verbs(SAMPLE) == {"board", "finetune", "deploy", "fetch", "watch"}


def test_relative_links_are_found() -> None:
    assert relative_links(SAMPLE) == {"notebooks/00_tour.ipynb", "notebooks/loss.svg"}


def test_python_that_does_not_compile_is_told() -> None:
    compiles(fences(SAMPLE)[0].body)
    with pytest.raises(SyntaxError):
        compiles("def f(:\n    pass\n")
