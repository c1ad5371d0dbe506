"""Too few rows to put one aside: everything works, and nothing claims a quality that nobody measured."""

from pathlib import Path

import sft_magics as sft
from sft_magics.notebook import panels


def test_a_model_without_validation_rows_is_trained_and_used(tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    file = tmp_path / "rows.csv"
    file.write_text("text,label\na moving film,positive\na dull film,negative\n", encoding="utf-8")
    sft.data("rows", str(file), workspace=root)
    sft.create("films", data="rows", workspace=root)

    version = sft.finetune("films", epochs=1, workspace=root)

    assert (version.ref, version.metrics) == ("films:1", {})
    assert str(version)
    listed = sft.versions("films", workspace=root)
    assert "nan" not in str(listed).lower()
    assert "nan" not in str(panels.html(listed)).lower()
    answers = sft.predict("films:1", "a moving, funny film", workspace=root)
    assert answers.rows[0].label in version.labels
