"""What four numbers of a box mean is voted on: few boxes do not decide for all, and the votes are shown."""

import json
from pathlib import Path

import pytest

from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build, load
from sft_magics.datasets.annotations import boxes
from tests.datasets.house import SIDES, codes, save, thing

COUNT = 20
Four = list[float]


def table(folder: Path, rows: dict[int, list[Four]], scale: tuple[float, float] = (1, 1)) -> str:
    """A line of JSON for each picture; boxes are numbers in pixels, divided by `scale`."""
    lines = []
    for number, places in rows.items():
        save(thing(number)[0], folder / f"{number}.png")
        shown = [[n / s for n, s in zip(place, scale * 2, strict=True)] for place in places]
        found = [{"bbox": place, "category": "red"} for place in shown]
        lines.append(json.dumps({"image": f"{number}.png", "objects": found}))
    (folder / "a.jsonl").write_text("\n".join(lines))
    return str(folder / "a.jsonl")


def small(number: int) -> Four:
    """A box near the corner of its picture that fits as corner and size, and as corners too."""
    return [2 + number % 5, 2 + number % 3, 20, 15]


def corners(number: int) -> Four:
    return [30, 20 + number % 5, 50, 35]


def test_one_box_beyond_its_picture_does_not_decide_for_all(tmp_path: Path) -> None:
    rows = {number: [small(number)] for number in range(COUNT)}
    rows[7].append([25, 15, 45, 30])
    source = table(tmp_path, rows)
    with pytest.raises(errors.DataProblem, match=r"7\.png \(a box leaves the picture of 60 x 40\)"):
        load(source)
    found = load(source, broken="skip")
    assert len(found) == COUNT
    assert boxes.loads(found.labels[0])[0].corners == (2, 2, 22, 17)
    said = codes(found)["boxes"]
    assert said.level == "warning"
    assert "left, top, width, height, in pixels: 20 of 21 fit their pictures so, 21 as left, top" in said.message


def test_corners_are_read_where_most_fit_only_so(tmp_path: Path) -> None:
    found = load(table(tmp_path, {number: [corners(number)] for number in range(COUNT)}))
    assert boxes.loads(found.labels[0])[0].corners == (30, 20, 50, 35)
    assert codes(found)["boxes"].level == "info"


def test_where_the_boxes_do_not_show_it_the_user_is_asked(tmp_path: Path, ws: Workspace) -> None:
    rows = {number: [corners(number) if number < 3 else small(number)] for number in range(COUNT)}
    source = table(tmp_path, rows)
    with pytest.raises(errors.DataProblem, match="of 20, 3 leave their picture as left, top, width") as refused:
        load(source)
    assert refused.value.next_step == "say it: --boxes xywh, or --boxes xyxy."
    told = build("x", source, workspace=ws, boxes="xyxy")
    assert sum(told.counts.values()) == COUNT
    assert len(load(source, boxes="xywh", broken="skip")) == COUNT - 3


def test_one_number_beyond_1_leaves_shares_shares(tmp_path: Path) -> None:
    rows = {number: [small(number)] for number in range(COUNT)}
    rows[7].append([45, 5, 17, 10])
    found = load(table(tmp_path, rows, SIDES), broken="skip")
    assert "in shares" in codes(found)["boxes"].message
    assert boxes.loads(found.labels[0])[0].corners == (2, 2, 22, 17)
    rows[7][1] = [5, 5, 66, 10]
    found = load(table(tmp_path, rows, SIDES), broken="skip")
    assert "in shares" in codes(found)["boxes"].message
    assert len(boxes.loads(found.labels[7])) == 1


def test_one_bad_box_of_a_row_spoils_that_box(tmp_path: Path) -> None:
    rows = {number: [small(number)] for number in range(COUNT)}
    source = table(tmp_path, rows)
    lines = Path(source).read_text().splitlines()
    first = json.loads(lines[0])
    first["objects"] += [{"bbox": [1, 2, 3], "category": "red"}, {"bbox": [1, 2, 3, 4], "category": " "}]
    Path(source).write_text("\n".join([json.dumps(first), *lines[1:]]))
    with pytest.raises(errors.DataProblem, match=r"0\.png \(box 2: not enough values.*and 1 more"):
        load(source)
    assert len(load(source, broken="skip")) == COUNT


def test_the_option_goes_with_tables_of_boxes_only(tmp_path: Path, ws: Workspace) -> None:
    for number in range(4):
        save(thing(number)[0], tmp_path / "set" / "ab"[number % 2] / f"{number}.png")
    with pytest.raises(errors.UsageProblem, match="--boxes does not go with it"):
        build("x", str(tmp_path / "set"), workspace=ws, boxes="xywh")
