from pathlib import Path

import pytest

from sft_magics.notebook.completion import kind_of, option_at, suggest, values
from sft_magics.verbs import VERBS


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "films.csv").write_text("text,label\n")


@pytest.mark.parametrize(
    ("verb", "before", "word", "some"),
    [
        ("data", ["films"], "", {"sample:reviews", "films.csv"}),
        ("data", ["-o", "got", "films"], "", {"sample:reviews", "films.csv"}),
        ("data", ["--seed", "3", "films"], "", {"sample:reviews", "films.csv"}),
        ("data", ["--seed=3", "films"], "", {"sample:reviews", "films.csv"}),
        ("finetune", ["films", "--precision"], "", {"auto", "bf16", "fp32"}),
        ("finetune", ["films", "--background", "--device"], "", {"cpu", "cuda"}),
        ("finetune", ["films"], "--e", {"--epochs", "--lr", "-o"}),
        ("finetune", ["films"], "", {"--epochs"}),
        ("alias", ["films:1"], "", {"live", "candidate"}),
        ("create", ["films", "--base"], "", {"minilm"}),
    ],
)
def test_what_could_stand_here(verb: str, before: list[str], word: str, some: set[str]) -> None:
    assert some <= set(suggest(VERBS[verb].signature, before, word))


@pytest.mark.parametrize(
    ("verb", "before", "word", "kind"),
    [
        ("finetune", ["films"], "--epochs", "param"),
        ("finetune", [], "films", "model"),
        ("finetune", ["films", "--precision"], "bf16", "keyword"),
        ("finetune", ["films", "--data"], "films", "dataset"),
        ("data", ["films"], "films.csv", "path"),
        ("data", ["films"], "sample:reviews", "source"),
        ("predict", [], "films:1", "version"),
        ("watch", [], "run-1", "run"),
        ("create", ["films", "--base"], "minilm", "base"),
    ],
)
def test_every_suggestion_says_what_it_is(verb: str, before: list[str], word: str, kind: str) -> None:
    assert kind_of(option_at(VERBS[verb].signature, before, word), word) == kind


def test_a_flag_is_offered_once_and_a_variable_has_no_suggestions() -> None:
    signature = VERBS["finetune"].signature
    assert "--epochs" not in suggest(signature, ["films", "--epochs", "3"], "--")
    assert suggest(signature, ["films", "-o"], "") == []


def test_the_tab_key_makes_no_workspace(tmp_path: Path) -> None:
    for verb in VERBS.values():
        for option in verb.signature.options:
            values(option)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["films.csv"]
