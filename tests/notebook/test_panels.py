import dataclasses
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sft_magics.core import records
from sft_magics.core.views import JobView, LossView
from sft_magics.notebook import panels
from sft_magics.notebook.panels.formats import general
from sft_magics.notebook.panels.markup import named
from tests.notebook import panel_samples as samples
from tests.notebook.drawn import LIMIT, Reader, drawn, tables, words

EVERYTHING = [*samples.everything(), *samples.runs().values(), *samples.jobs().values()]
NAMES = [f"{type(t).__name__}-{getattr(t, 'kind', getattr(t, 'state', ''))}" for t in EVERYTHING]
each_thing = pytest.mark.parametrize("thing", EVERYTHING, ids=NAMES)


@each_thing
def test_every_panel_is_well_formed_and_small(thing: object) -> None:
    page = drawn(thing)
    ElementTree.fromstring(f"<page>{page}</page>")
    assert len(page.encode()) < LIMIT
    assert page.count("<style>") == 1


@each_thing
def test_hostile_text_stays_text(thing: object) -> None:
    bad = samples.hostile(thing)
    page = drawn(bad)
    ElementTree.fromstring(f"<page>{page}</page>")
    page.encode()  # a lone surrogate cannot be sent
    reader = Reader(page)
    assert not {"script", "img"} & set(reader.tags)
    assert reader.handlers == []
    assert "alert(1)" in reader.text or isinstance(bad, records.Metric)


@each_thing
def test_every_panel_has_a_text_twin(thing: object) -> None:
    twin = panels.text(thing)
    assert twin.strip()
    assert "<span" not in twin
    if not isinstance(thing, JobView):
        assert twin == str(thing)


@each_thing
def test_drawings_have_a_title_and_a_label_or_are_silent(thing: object) -> None:
    for svg in ElementTree.fromstring(f"<page>{drawn(thing)}</page>").iter():
        if svg.tag.endswith("svg") and svg.get("aria-hidden") != "true":
            assert svg.get("role") == "img"
            assert svg.get("aria-label")
            assert svg[0].tag.endswith("title")
            assert svg[0].text


@each_thing
def test_tables_are_semantic(thing: object) -> None:
    for table in tables(thing):
        assert table[0].tag == "caption"
        assert "".join(table[0].itertext()).strip()
        assert all(head.get("scope") == "col" for head in table.findall("thead/tr/th"))
        for row in table.findall("tbody/tr"):
            assert row[0].tag == "th"
            assert row[0].get("scope") == "row"
            assert len(row) == len(table.findall("thead/tr/*"))


def test_every_record_and_view_has_a_panel() -> None:
    kinds = {getattr(records, name) for name in records.__all__ if isinstance(getattr(records, name), type)}
    assert kinds == set(panels.RECORDS)
    assert kinds | {LossView, JobView} == {type(thing) for thing in EVERYTHING}
    assert panels.html(object()) is None


def test_no_panel_names_a_background_or_a_script() -> None:
    for source in Path(panels.__file__).parent.glob("*.py"):
        text = source.read_text()
        assert "#fff" not in text
        assert "#000" not in text
        assert "<script" not in text


def test_tables_stop_at_fifty_rows_and_say_how_many_more() -> None:
    run = next(t for t in EVERYTHING if isinstance(t, records.Run))
    many = records.Table("runs", tuple(dataclasses.replace(run, id=f"run-{i:04x}") for i in range(1203)))
    (table,) = tables(many)
    assert len(table.findall("tbody/tr")) == 50
    assert "and 1,153 more" in "".join(table.find("tfoot").itertext())  # type: ignore[union-attr]
    assert len(drawn(many).encode()) < LIMIT


def test_many_answers_stay_small() -> None:
    text = "<long & winding> " * 400
    scores = {f"class {i}": 1 / 300 for i in range(300)}
    rows = tuple(records.Prediction(text, "class 1", 0.5, scores, f"q{i}") for i in range(5000))
    page = drawn(records.Predictions("reviews:2", rows))
    assert len(page.encode()) < LIMIT
    assert "5,000 predictions" in page
    assert "and 4,950 more" in page
    assert len(drawn(records.Predictions("reviews:2", rows[:1])).encode()) < LIMIT


def test_many_classes_show_the_largest_mistakes_instead_of_a_matrix() -> None:
    n = 300
    labels = tuple(f"class {i} " + "x" * 500 for i in range(n))
    counts = [[9 if i == j else int(j == i + 1) for j in range(n)] for i in range(n)]
    counts[7][3] = 6
    metrics = {"accuracy": records.Metric("accuracy", 0.9, 0.88, 0.92, 3000)}
    for label in labels:
        metrics[f"recall[{label}]"] = records.Metric("recall", 0.9, 0.8, 0.95, 10, label)
    found = records.Evaluation("x:1", "d", "validation", 3000, labels, metrics, counts)
    assert len(drawn(found).encode()) < LIMIT
    assert "Confusion matrix" not in words(found)
    mistakes = next(t for t in tables(found) if "mistakes" in "".join(t[0].itertext()))
    first = ["".join(c.itertext()) for c in mistakes.findall("tbody/tr")[0]]
    assert first[0].startswith("class 7 ")
    assert first[1].startswith("class 3 ")
    assert first[2] == "6"


def test_a_metric_without_a_value_is_a_dash() -> None:
    found = next(t for t in samples.everything() if isinstance(t, records.Evaluation))
    empty = {**found.metrics, "precision[negative]": records.Metric("precision", math.nan, n=0, label="negative")}
    assert "negative 750 – " in words(dataclasses.replace(found, metrics=empty))


def test_the_endpoint_card_shows_the_file_of_the_token_and_lines_that_quote_it() -> None:
    found = next(t for t in samples.everything() if isinstance(t, records.Endpoint))
    odd = dataclasses.replace(found, token_file="/home/a b/it's/token")
    page = "".join(ElementTree.fromstring(f"<page>{drawn(odd)}</page>").itertext())
    assert """$(cat '/home/a b/it'"'"'s/token')""" in page
    assert """pathlib.Path("/home/a b/it's/token")""" in page
    assert '{"inputs": ["a moving, funny film"]}' in page
    assert 'href="http://127.0.0.1:8731/docs?key=0a53"' in drawn(odd)
    complaint = words(dataclasses.replace(found, example="the parcel is late", task="text-classification"))
    assert '{"inputs": ["the parcel is late"]}' in complaint
    assert "film" not in words(dataclasses.replace(found, example=""))
    stopped = words(dataclasses.replace(found, state="stopped"))
    assert "curl" not in stopped


def test_alerts_that_fire_come_first() -> None:
    alert = next(t for t in samples.everything() if isinstance(t, records.Alert))
    others = [dataclasses.replace(alert, rule=f"{s} rule", state=s) for s in ("ok", "no data")]
    (table,) = tables(records.Table("alerts", (*others, alert)))
    first = ["".join(row[0].itertext()) for row in table.findall("tbody/tr")]
    assert first == [alert.rule, "no data rule", "ok rule"]


def test_an_unknown_state_has_a_badge_too() -> None:
    run = next(t for t in samples.everything() if isinstance(t, records.Run))
    assert "who knows" in words(dataclasses.replace(run, state="who knows" + samples.HOSTILE))


def test_history_shows_what_changed() -> None:
    @dataclasses.dataclass
    class Entry:
        at: float = samples.AT
        who: str = "ada"
        host: str = "box"
        action: str = "alias"
        subject: str = "reviews@live"
        before: str | None = None
        after: str | None = "reviews:2"
        reason: str = samples.HOSTILE
        cell: str = "%sft_promote reviews:2"

    seen = words(records.Table("history", (Entry(),)))
    assert "ada@box alias reviews@live nothing → reviews:2" in seen
    assert "alert(1)" in seen
    assert "%sft_promote reviews:2" in seen

    look = Entry(action="test", subject="reviews:2", after="looked at 43 test rows of reviews:1", reason="evaluate")
    seen = words(records.Table("history", (look,)))
    assert "test reviews:2 looked at 43 test rows of reviews:1" in seen
    assert "nothing" not in seen


def test_a_short_class_name_stays_on_one_line_and_a_long_one_may_break() -> None:
    assert 'class="sft-a"' in named("negative")
    assert 'class="sft-u"' in named("n" * 60)


def test_a_number_of_three_figures_ends_without_a_point() -> None:
    assert [general(v) for v in (472.4, 47.24, 4.724, 0.4724)] == ["472", "47.2", "4.72", "0.472"]
