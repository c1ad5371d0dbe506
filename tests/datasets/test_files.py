"""Every kind of file, and every way in which one is bad."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sft_magics.core.errors import DataProblem, NotFound
from sft_magics.datasets import id_label_pairs, load, read_table, texts_of
from sft_magics.datasets.tables.files import sniff

Write = Callable[[str, str | bytes], str]
ROWS = [
    ("A moving, funny film", "good"),
    ('She said "no"; twice', "bad"),
    ("two\nlines\tand a tab", "good"),
    ("<b>bold</b> & <script>alert(1)</script>", "bad"),
    ("naïve 日本語 \U0001f600", "good"),
    (" kept | as it is ", "bad"),
]
TEXTS = [text for text, _ in ROWS]
LABELS = [label for _, label in ROWS]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_of_any_dialect_is_read_verbatim(tmp_path: Path, delimiter: str, bom: bytes, newline: str) -> None:
    path = tmp_path / "films.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=newline)
        writer.writerows([("text", "label"), *ROWS])
    path.write_bytes(bom + path.read_bytes())
    loaded = load(str(path))
    assert (loaded.texts, loaded.labels) == (TEXTS, LABELS)
    assert loaded.columns == {"text": "text", "label": "label"}
    assert loaded.findings == ()


def test_the_same_rows_from_every_kind_of_source(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": TEXTS, "label": LABELS})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    sources = [tmp_path / f"a.{kind}" for kind in ("csv", "tsv", "parquet", "jsonl")]
    for source in [*sources, frame, frame.to_dict("list"), frame.to_dict("records")]:
        loaded = load(source)
        assert (loaded.texts, loaded.labels) == (TEXTS, LABELS), source


def test_an_index_column_without_a_name_does_no_harm(tmp_path: Path) -> None:
    pd.DataFrame({"review": TEXTS, "stars": [1, 2] * 3}).to_csv(tmp_path / "a.csv")
    loaded = load(tmp_path / "a.csv")
    assert loaded.columns == {"text": "review", "label": "stars"}
    assert loaded.labels == ["1", "2"] * 3


def test_words_that_pandas_takes_for_missing_are_text(write: Write) -> None:
    loaded = load(write("a.csv", "text,label\nNA,None\nnull,nan\nNone,NA\n"))
    assert (loaded.texts, loaded.labels) == (["NA", "null", "None"], ["None", "nan", "NA"])


def test_tab_separated_text_with_stray_quotes(write: Write) -> None:
    loaded = load(write("a.tsv", 'text\tlabel\n"Good" is a word\tgood\nsay "no\tbad\n"open\tbad\n'))
    assert loaded.texts == ['"Good" is a word', 'say "no', '"open']


def test_nul_bytes_are_text(write: Write) -> None:
    assert load(write("a.csv", "text,label\na\0b,x\nc,y\n")).texts == ["a\0b", "c"]


def test_a_comma_in_the_text_does_not_make_a_semicolon_file_a_comma_file() -> None:
    assert sniff("id;text;label\n1;good, funny, and so on;pos\n2;bad, sad, and so on;neg\n") == ";"
    assert sniff("text,label\n" + "a;b;c,pos\n" * 500) == ","
    assert sniff("text\njust one, column\n") == ","


def test_missing_cells_are_left_out_and_said(write: Write) -> None:
    loaded = load(write("a.csv", "text,label\none,a\n,b\n   ,b\ntwo,\nthree\nfour,b\n,\n"))
    assert (loaded.texts, loaded.labels) == (["one", "four"], ["a", "b"])
    assert [(f.level, f.code, f.message) for f in loaded.findings] == [
        ("warning", "empty_texts", "3 rows without a text were left out."),
        ("warning", "missing_labels", "2 rows without a label were left out."),
    ]


@pytest.mark.parametrize(
    ("content", "byte", "line", "guess"),
    [
        ("text,label\nfine,a\ncaf\xe9,b\n".encode("latin-1"), 21, 3, "WINDOWS-1252"),
        (b"\xef\xbb\xbftext,label\n\xff,b\n", 14, 2, "WINDOWS-1252"),
        ("text,label\nx,y\n".encode("utf-16"), 0, 1, "UTF-16"),
    ],
)
def test_a_file_that_is_not_utf8_names_the_byte_and_the_remedy(
    write: Write, content: bytes, byte: int, line: int, guess: str
) -> None:
    path = write("films.csv", content)
    with pytest.raises(DataProblem, match=rf"not UTF-8: byte {byte} \(line {line}\)") as caught:
        load(path)
    assert f"iconv -f {guess} -t UTF-8 {path} > films-utf8.csv" in caught.value.next_step


BAD = [
    ("a.csv", "", "has no rows"),
    ("a.csv", "text,label\n", "has no rows"),
    ("a.csv", "text,label\nso, it goes,good\n", "Line 2 of .* has 3 cells where the header has 2"),
    (
        "a.csv",
        'text,label\nfine,a\n"never closed,b\nx,y\n',
        "quote that does not fit, in the row that begins at line 3",
    ),
    ("a.csv", 'text,label\n"closed" too early,b\n', "quote that does not fit, in the row that begins at line 2"),
    ("a.csv", "text,label,text\na,b,c\n", "two columns called 'text'"),
    ("a.csv", "good film,1\nbad film,0\nfine film,1\n", "The first line of .* looks like data"),
    ("a.csv", "text,label\n,\n,a\nb,\n", "No row of .* has both a text"),
    ("a.jsonl", "", "has no rows"),
    ("a.jsonl", '{"text": "a", "label": "b"}\n{"text": \n', "Line 2 of .* is not JSON"),
    ("a.jsonl", "[1, 2]\n", "Line 1 of .* not an object"),
    ("a.parquet", "no parquet", "cannot be read as Parquet"),
    ("a.xlsx", "PK", "not of a kind that can be read"),
    ("plain", "text,label\na,b\n", "not of a kind that can be read"),
]


@pytest.mark.parametrize(("name", "content", "problem"), BAD, ids=[f"{b[0]}-{b[2][:20]}" for b in BAD])
def test_bad_files_get_a_sentence(write: Write, name: str, content: str, problem: str) -> None:
    with pytest.raises(DataProblem, match=problem) as caught:
        load(write(name, content))
    assert caught.value.next_step
    assert "\n" not in caught.value.what


def test_a_missing_file_and_what_may_be_meant(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("reviews.csv", "text,label\n")
    with pytest.raises(NotFound, match=r"There is no file .*reveiws.csv. Did you mean 'reviews.csv'"):
        load(tmp_path / "reveiws.csv")
    with pytest.raises(NotFound, match=r"In that folder are: reviews.csv"):
        load(tmp_path / "xyz.csv")
    with pytest.raises(NotFound, match=r"There is no folder .*nowhere either"):
        load(tmp_path / "nowhere" / "xyz.csv")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound, match=r"Did you mean 'reviews\.csv'"):
        load("reviews_csv")
    with pytest.raises(DataProblem, match="is a folder"):
        load(tmp_path)


def test_a_file_that_the_system_refuses(tmp_path: Path) -> None:
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    with pytest.raises((DataProblem, NotFound)):
        load(tmp_path / "loop.csv")
    # It exists, and its first byte cannot be read whoever asks.
    (tmp_path / "memory.csv").symlink_to("/proc/self/mem")
    with pytest.raises(DataProblem, match="cannot be read"):
        load(tmp_path / "memory.csv")


def test_jsonl_with_holes_numbers_and_nesting(write: Write) -> None:
    lines = [{"text": "a", "label": 1}, {"label": 2.0, "text": "b"}, {"text": "c"}]
    loaded = load(write("a.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n"))
    assert (loaded.texts, loaded.labels) == (["a", "b"], ["1", "2"])
    assert [f.code for f in loaded.findings] == ["missing_labels"]


FILMS = [{"text": f"film {i} was long", "label": "ab"[i % 2]} for i in range(6)]
SHAPES = {
    "an array": json.dumps(FILMS), "an array on many lines": json.dumps(FILMS, indent=2),
    "a row on each line": "\n".join(map(json.dumps, FILMS)),
    "columns": json.dumps({"text": [r["text"] for r in FILMS], "label": [r["label"] for r in FILMS]}),
    "as pandas writes it": pd.DataFrame(FILMS).to_json(),
    "rows within an object": json.dumps({"version": "1.1", "data": FILMS}),
    "rows of which one is missing a name": json.dumps([*FILMS, {"text": "so so"}]),
}  # fmt: skip


@pytest.mark.parametrize("ending", ["json", "jsonl"])
@pytest.mark.parametrize("shape", SHAPES)
def test_json_is_read_in_each_of_its_shapes(write: Write, shape: str, ending: str) -> None:
    found = load(write(f"rows.{ending}", SHAPES[shape]))
    assert (found.texts, found.labels) == ([r["text"] for r in FILMS], [r["label"] for r in FILMS])
    assert texts_of(write(f"rows.{ending}", SHAPES[shape]))[0][:6] == found.texts


def test_a_coco_file_of_no_use_is_not_taken_for_a_table(write: Write) -> None:
    with pytest.raises(DataProblem, match="COCO"):
        load(write("a.json", '{"images": [], "annotations": []}'))
    with pytest.raises(DataProblem, match="is JSON, and no table: an object with version, of"):
        load(write("a.json", '{"version": 1, "of": {"a": 1}}'))


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([["a", "b"], ["a"], ["b"]], "holds several labels a row"),
        ([np.array(["a", "b"]), np.array(["a"]), np.array(["b"])], "holds several labels a row"),
        (['["a", "b"]', '["a"]', '["b"]'], "holds several labels a row"),
        (["['a', 'b']", "['a']", "['b']"], "holds several labels a row"),
        ([("a",), ("b",), ("a",)], "holds several labels a row"),
        ([{"a": 1}, {"b": 1}, {"a": 1}], "holds several labels a row"),
    ],
)
def test_several_labels_a_row_are_refused(cells: list[object], said: str) -> None:
    with pytest.raises(DataProblem, match=said) as caught:
        load(pd.DataFrame({"text": ["one film", "two films", "three films"], "label": cells}))
    assert "frame['label']" in str(caught.value)


def test_brackets_in_a_label_are_a_name_like_any_other() -> None:
    labels = ["[sic]", "b", "[sic]"]
    assert load(pd.DataFrame({"text": ["one film", "two films", "three films"], "label": labels})).labels == labels


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([["the", "film"], ["a", "film"]], r"join its parts: frame\['text'\]"),
        ([{"en": "film", "de": "Film"}, {"en": "two"}], "is no text"),
        (["[1.0, 2.0, 3.0, 4.0]", "[5, 6, 7, 8]"], "holds lists of numbers"),
        ([[1.0, 2.0, 3.0, 4.0], [5, 6, 7, 8]], "is no text"),
    ],
)
def test_cells_that_are_no_text_are_refused(cells: list[object], said: str) -> None:
    table = pd.DataFrame({"text": cells, "label": ["a", "b"]})
    for read in (load, texts_of):
        with pytest.raises(DataProblem, match=said):
            read(table)


def test_boxes_as_strings_of_a_table_are_no_texts() -> None:
    table = pd.DataFrame(
        {"image_id": list("aabb"), "bbox": [f"[{i}, 2, 3, 4]" for i in range(4)], "source": list("xyxy")}
    )
    with pytest.raises(DataProblem, match="holds lists of numbers"):
        load(table, text="bbox", label="source")


def test_columns_that_are_not_read_are_named() -> None:
    found = load(
        pd.DataFrame({"text": ["a film", "b film"], "title": ["x", "y"], "label": ["a", "b"], "none": [None] * 2})
    )
    assert [f.message for f in found.findings] == ["Columns not read: title."]


def test_texts_of_keeps_every_row_in_its_place(write: Write) -> None:
    path = write("a.csv", "review,label\none,a\n,b\nthree,\n")
    assert texts_of(path) == (["one", "", "three"], ["a", "b", None])
    assert texts_of(pd.DataFrame({"comment": ["x y", "z"], "score": [1, 2]})) == (["x y", "z"], [None, None])
    assert texts_of(write("b.csv", "p,q\na,b\n"), text="q", label="p") == (["b"], ["a"])
    with pytest.raises(DataProblem, match="no column 'r'"):
        texts_of(write("b.csv", "p,q\na,b\n"), text="r")


def test_read_table_keeps_every_column(write: Write) -> None:
    frame = read_table(write("a.csv", "id,label,other\n007,a,\n"))
    assert frame.to_dict("records") == [{"id": "007", "label": "a", "other": None}]


def test_id_label_pairs(write: Write) -> None:
    assert id_label_pairs(write("a.csv", "other,label,id\nx,good,r1\ny,,r2\nz,bad,r3\n")) == [
        ("r1", "good"),
        ("r3", "bad"),
    ]
    assert id_label_pairs(pd.DataFrame({"id": ["a", "b"], "label": [1.0, None]})) == [("a", "1")]
    with pytest.raises(DataProblem, match="no column 'id'") as caught:
        id_label_pairs(write("b.csv", "identity,truth\n1,2\n"))
    assert "id and label" in caught.value.next_step
