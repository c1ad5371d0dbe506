"""Which engine an endpoint answers with: OpenVINO or ONNX Runtime where they say what torch says, else torch.

The export and the comparison are a job of their own, since they need torch. What was found is kept beside the export,
so the next deploy of the version asks for neither.
"""

import contextlib
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from sft_magics.core import errors
from sft_magics.core.events import Ended, Progress, Sink
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Version
from sft_magics.core.runtime import exports
from sft_magics.core.runtime.exports import TORCH, AgreementReport
from sft_magics.core.tasks import SEMANTIC_SEGMENTATION, TEXT_CLASSIFICATION
from sft_magics.core.workspace import Workspace, is_locked, locked
from sft_magics.lifecycle.jobs import client

AUTO = "auto"
_ROWS = {TEXT_CLASSIFICATION: 200, SEMANTIC_SEGMENTATION: 16}  # that are compared; of other tasks:
_OTHERS = 64
_SPLITS = ("validation", "train")  # test rows are for nothing but a last look


@dataclass(frozen=True)
class Choice:
    """The engine that answers, why it is that one (a sentence), and the folder that it loads."""

    engine: str
    why: str
    folder: Path


def choose(ws: Workspace, version: Version, folder: Path, wanted: str = AUTO) -> Choice:
    """Return the engine for a version whose checked-out files lie in `folder`, exporting and comparing if need be.

    `wanted` is "auto", or one of `core.runtime.exports.ENGINES` or `PRECISIONS`. "auto" takes the first of OpenVINO and
    ONNX Runtime that is installed and says what torch says, and torch where there is none or torch computes on a GPU.
    Raises UsageProblem for a name that is none, Refused when the engine that was asked for cannot answer for this
    version or its answers are others, ModelProblem when its package is missing.
    """
    if wanted in exports.PRECISIONS:
        return Choice(wanted, f"{wanted} was asked for.", folder)
    if wanted == AUTO:
        return _best(ws, version, folder)
    if wanted not in exports.ENGINES:
        raise errors.UsageProblem(
            f"There is no engine '{wanted}'.", f"choose one of {', '.join((AUTO, *exports.ENGINES))}."
        )
    if why := _refusal(version, wanted):
        raise errors.Refused(f"{version.ref} cannot be served by {wanted}: {why}.", "write --engine torch.")
    if gone := _missing(ws, version, wanted):
        raise errors.ModelProblem(
            f"The engine {wanted} needs packages that are not installed: {', '.join(gone)}.", _install(wanted)
        )
    verdict = _judged(ws, version, folder, wanted)
    if not verdict.agrees:
        raise errors.Refused(
            f"{version.ref} answers otherwise by {wanted}: {verdict.said}, and {verdict.tolerance:g} is allowed.",
            "write --engine torch, or --engine auto, which takes what agrees.",
        )
    return Choice(wanted, f"{wanted} was asked for; {verdict.said}.", exports.folder_of(ws, version.artifact))


def others(choice: Choice, folder: Path, wanted: str) -> tuple[tuple[str, str], ...]:
    """Return the engines to try where the chosen one does not answer as the version did, each with its folder.

    Torch follows an export that "auto" chose. Torch in fp32, then in bfloat16, follows torch: one of the two is the
    number format that the version's answers were kept in, whatever machine made it. An export that was asked for by its
    name has no others.
    """
    if choice.engine not in exports.PRECISIONS and wanted != AUTO:
        return ()
    return tuple((engine, str(folder)) for engine in exports.PRECISIONS if engine != choice.engine)


def _best(ws: Workspace, version: Version, folder: Path) -> Choice:
    if why := _refusal(version, AUTO):
        return Choice(TORCH, f"torch answers: {why}.", folder)
    reasons = []
    for engine in exports.LADDER:
        if gone := _missing(ws, version, engine):
            reasons.append(f"{engine} needs packages that are not installed ({', '.join(gone)})")
            continue
        try:
            verdict = _judged(ws, version, folder, engine)
        except errors.SftError as error:  # whatever is in the way of an engine, torch can answer
            reasons.append(f"{engine} could not be tried ({error.what.rstrip('.')})")
            continue
        if verdict.agrees:
            return Choice(engine, f"{engine} answers: {verdict.said}.", exports.folder_of(ws, version.artifact))
        reasons.append(f"{engine} says something else: {verdict.said}")
    return Choice(TORCH, f"torch answers: {'; '.join(reasons)}.", folder)


def _refusal(version: Version, wanted: str) -> str:
    if why := exports.refusal(version.task):
        return why
    if wanted == exports.INT8 and version.task != TEXT_CLASSIFICATION:
        return "8-bit weights are for texts; of pictures they say something else"
    if wanted == AUTO and _has_gpu():
        return "it computes on the GPU here"
    return ""


def _missing(ws: Workspace, version: Version, engine: str) -> list[str]:
    """Return the packages that are missing: the engine's, and those of the exporter where there is no export yet."""
    whole = (exports.folder_of(ws, version.artifact) / exports.CARD).is_file()
    names = (exports.PACKAGES[engine], *(() if whole else exports.EXPORTER_PACKAGES))
    return [name for name in names if util.find_spec(name) is None]


def _install(engine: str) -> str:
    return f"pip install 'sft_magics[{exports.EXTRAS[engine]}]', or write --engine torch."


def _has_gpu() -> bool:
    """Say whether there is a GPU and a torch that may use it; torch itself is not asked, since it is not loaded."""
    if "+cpu" in metadata.version("torch"):
        return False
    try:
        import pynvml

        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount()) > 0
    except Exception:  # noqa: BLE001 - NVML raises its own tree: no GPU is fine
        return False


def _exporter() -> str:
    return ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "onnxscript"))


def _judged(ws: Workspace, version: Version, folder: Path, engine: str) -> AgreementReport:
    """Return what is known of an engine, found out now if it was not; raises what the job does."""
    from sft_magics.registry import Registry
    from sft_magics.serving.engines import agreement

    target = exports.folder_of(ws, version.artifact)
    if not (target / exports.CARD).is_file() and (why := exports.read_refusal(target, _exporter())):
        raise errors.ModelProblem(why, "write --engine torch.")
    known = exports.read_verdict(target, engine, agreement.library_of(engine))
    if known is not None and (target / exports.CARD).is_file():
        return known
    spec = {
        "kind": "export",
        "task": version.task,
        "folder": str(folder),
        "export": str(target),
        "engine": engine,
        "data": str(ws.root / Registry(ws).data_of(version).file),
    }
    client.ask(ws, f"comparing {engine} with torch for {version.ref}", spec)
    found = exports.read_verdict(target, engine)
    if found is None:
        raise errors.RunProblem(f"{engine} was not compared with torch.", "type the same line again.")
    return found


def carry_out(job: JobFolder, sink: Sink) -> Ended:
    """Export a version, if it is not, and compare an engine with torch: what runs in the job's process."""
    from sft_magics.engine.inference import onnx_export
    from sft_magics.engine.jobs import worker
    from sft_magics.serving.engines import agreement

    spec = job.spec()
    target = Path(spec["export"])
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    sink(client.started("exporting the network"))
    with locked(_lock(target)):
        if not (target / exports.CARD).is_file():
            try:
                onnx_export.export(Path(spec["folder"]), target)
            except errors.ModelProblem as error:
                exports.write_refusal(target, error.what, _exporter())
                raise
        if spec["engine"] == exports.INT8:
            sink(Progress("rounding the weights to 8 bits", 0))
            onnx_export.quantize(target)
        inputs = _examples(Path(spec["data"]), spec["task"])
        sink(Progress(f"asking torch and {spec['engine']} the same", 0))
        truths = worker.reference(Path(spec["folder"]), inputs, alone=spec["task"] == SEMANTIC_SEGMENTATION)
        verdict = agreement.judge(target, spec["engine"], inputs, truths)
    job.finish({"agrees": verdict.agrees})
    return Ended("done")


def _examples(data: Path, task: str) -> list[Any]:
    """Return real inputs to compare with: of the rows it was measured on if there are any, else of others."""
    from sft_magics.datasets import read_rows

    rows = read_rows(data, None)
    split = next((name for name in _SPLITS if (rows["split"] == name).any()), _SPLITS[0])
    found = list(rows["text"][rows["split"] == split])
    if not found:
        raise errors.DataProblem(f"There are no rows in {data} to compare with.", "write --engine torch.")
    return _spread(found, _ROWS.get(task, _OTHERS))


def _spread(rows: Sequence[Any], most: int) -> list[Any]:
    """Return at most so many rows, evenly drawn from all of them in the order of their lengths."""
    ordered = sorted(rows, key=len)
    count = min(most, len(ordered))
    return [ordered[i * (len(ordered) - 1) // max(1, count - 1)] for i in range(count)]


def _lock(target: Path) -> Path:
    return target.with_name(f"{target.name}.lock")


# What is left of versions that are gone


def unneeded(ws: Workspace, keep: Collection[str]) -> list[Path]:
    """Return the exports of artifacts that are not in `keep`, those of an old exporter, and what a killed one left."""
    wanted = {exports.folder_of(ws, artifact).name for artifact in keep}
    found = []
    for path in sorted(ws.exports.iterdir()) if ws.exports.is_dir() else ():
        name = path.name.removeprefix(".").partition(".")[0]
        half = path.name.startswith(".")
        if (half or name not in wanted) and not is_locked(ws.exports / f"{name}.lock"):
            found.append(path)
    return found


def remove(paths: Sequence[Path]) -> None:
    """Remove exports."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
