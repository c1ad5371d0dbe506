"""From a trained folder to a committed version: weights into the store, then one registry transaction."""

import json
import platform
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import portable
from sft_magics.core.events import Committed, Ended, Progress, Remark, Sink
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Version
from sft_magics.core.workspace import Workspace, write_durably
from sft_magics.lifecycle.jobs import client, seen_rows

if TYPE_CHECKING:
    from sft_magics.engine.jobs.worker import Trained

EXAMPLES = "examples.json"
_FAR = 3.0  # times the usual rate, up or down, from which on the rate may be to blame


def commit(job: JobFolder, sink: Sink, trained: "Trained", note: str = "") -> Ended:
    """Store the best weights of a run and commit them as the model's next version."""
    from sft_magics.registry import ArtifactStore, Registry

    spec = job.spec()
    ws = Workspace(Path(spec["workspace"]))
    sink(Progress("storing the weights", 0))
    overlap = seen_rows.write(trained.folder, spec)
    stored = ArtifactStore(ws.artifacts).save(trained.folder)
    draft = Version(
        model=spec["model"],
        number=0,
        run=job.id,
        parent=spec["parent"],
        data=spec["data"],
        data_fingerprint=spec["data_fingerprint"],
        options={**spec["options"], **trained.chosen, **({"edits": trained.edits} if trained.edits else {})},
        labels=tuple(spec["labels"]),
        preprocessing=trained.preprocessing,
        metrics=trained.metrics,
        environment={
            **trained.environment,
            "host": platform.node(),
            "start": portable.packed(spec["start"], ws.root),
            "fresh": list(trained.fresh),
            **({"cloned": spec["cloned"]} if spec.get("cloned") else {}),
        },
        artifact=stored.id,
        size=stored.size,
        added=stored.added,
        created_at=time.time(),
        task=spec["task"],
        cells=tuple(spec["cells"]),
        note=note or spec["note"],
        concern=trained.concern,
        overlap=overlap,
    )
    _remember(job, trained, sink)
    version = Registry(ws).commit_version(draft, aliases=tuple(spec["aliases"]))
    sink(Committed(version.ref))
    # The weights lie in the store now, synced; a run's working copies would take four times as much again.
    for name in client.LEFTOVERS:
        shutil.rmtree(job.path / name, ignore_errors=True)
    done = f"{version.ref} is committed."
    if not trained.concern:
        return Ended("done", done, f"%sft_evaluate {version.ref}")
    sink(Remark("warning", trained.concern))
    return Ended("done", done, cure(spec, draft.options), concern=trained.concern)


def cure(spec: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Return the line to try after a run by these `options` that learned nothing: the usual rate, the usual length."""
    usual = spec.get("usual", {})
    words = []
    lr, epochs = usual.get("lr", options["lr"]), usual.get("epochs", options["epochs"])
    if not lr / _FAR <= options["lr"] <= lr * _FAR:
        words.append(f"--lr {lr:g}")
    if options["epochs"] < epochs:
        words.append(f"--epochs {epochs:g}")
    if words:
        return " ".join([usual["line"], *words])
    model = spec["model"]
    return f"%sft_preview {model} shows what a batch holds, %sft_lr {model} which rate the run bears."


def _remember(job: JobFolder, trained: "Trained", sink: Sink) -> None:
    """Keep what the version says of a few rows beside its run, so that whoever serves it can see that it still does."""
    from sft_magics.engine.jobs import golden_examples

    sink(Progress("keeping examples", 0))
    try:
        found = golden_examples.of(trained.folder, Path(job.spec()["data_file"]))
        write_durably(job.path / EXAMPLES, json.dumps(found).encode())
    except Exception as error:  # noqa: BLE001 - whatever it is, a trained version is not lost for want of examples
        sink(Remark("warning", f"No examples were kept, so an endpoint cannot compare its answers with them: {error}"))


def examples_of(ws: Workspace, version: Version) -> str:
    """Return the file of a version's examples, or nothing where none were kept."""
    path = ws.runs / version.run / EXAMPLES
    return str(path) if version.run and path.is_file() else ""


def keep(job: JobFolder, sink: Sink) -> Ended:
    """Commit the best state that an unfinished run left behind."""
    from sft_magics.engine.jobs import worker

    spec = job.spec()
    sink(client.started("measuring the best state"))
    trained = worker.best_of({**spec, "data": spec["data_file"]}, sink, job.path)
    return commit(job, sink, trained, note=f"kept from {job.id} at step {trained.step} of {trained.steps}")
