"""Why a candidate is trained: only what fires on the endpoints of its own model is a reason."""

from pathlib import Path

from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Alert
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.optimize import firing
from sft_magics.registry import Registry


def test_an_alert_on_another_model_is_no_reason(tmp_path: Path) -> None:
    ws = Workspace(tmp_path).prepare()
    for name, model in (("films", "films"), ("films-two", "films"), ("pets", "pets")):
        JobFolder(ws.endpoints / name).create(
            {"name": name, "model": model, "ref": f"{model}:1", "version": f"{model}:1", "launch": "one",
             "token_file": "token", "created_at": 0.0, "keep": False, "idle_stop": 60.0,
             "task": "text-classification", "engine": "torch", "engine_why": "", "wanted": "torch",
             "example": ""}
        )  # fmt: skip
    registry = Registry(ws)
    registry.put_alert(Alert("alert-1", "films", "accuracy < 0.8", "firing", 0.7))
    registry.put_alert(Alert("alert-2", "films-two", "drift > 0.1", "ok", 0.05))
    registry.put_alert(Alert("alert-3", "pets", "accuracy < 0.9", "firing", 0.6))

    assert [a.id for a in firing(ws, registry, "films")] == ["alert-1"]
