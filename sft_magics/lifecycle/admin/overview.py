"""The board and the doctor: what there is, what is wrong, and what to type next."""

import importlib.metadata
import importlib.util
import os
import platform
import shlex
import sys
from pathlib import Path

from sft_magics.core import errors, observer
from sft_magics.core import workspace as places
from sft_magics.core.records import Board, Check, Dataset, Endpoint, Model, Run, Table, Version
from sft_magics.core.runtime import usage
from sft_magics.core.workspace import Workspace
from sft_magics.engine.runtime import free_memory
from sft_magics.lifecycle.endpoints import rollout
from sft_magics.lifecycle.jobs import run_folders
from sft_magics.lifecycle.options import WorkspaceOption

_PACKAGES = ("torch", "torchvision", "transformers", "tinydb", "ipywidgets", "IPython", "pandas")
_SLOWEST = "transformers"
_LOW_DISK = 2e9


def board(*, workspace: WorkspaceOption = None) -> Board:
    """Show the whole workspace: models, running jobs, endpoints, alerts, disk used, and what to type next."""
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    registry = Registry(ws)
    active = tuple(
        r
        for r in (run_folders.describe(j) for j in run_folders.all_jobs(ws))
        if r.state in ("running", "queued", "paused")
    )
    datasets, models, versions = tuple(registry.datasets()), tuple(registry.models()), tuple(registry.versions())
    endpoints = tuple(rollout.running(ws))
    disk = usage.known(ws)
    return Board(
        workspace=str(ws.root),
        models=models,
        versions=versions,
        runs=active,
        endpoints=endpoints,
        alerts=tuple(registry.alerts()),
        datasets=datasets,
        disk_bytes=disk.bytes,
        free_bytes=ws.free_bytes(),
        next_step=_next_step(datasets, models, versions, active, endpoints),
        disk_at=disk.at,
    )


def _next_step(
    datasets: tuple[Dataset, ...],
    models: tuple[Model, ...],
    versions: tuple[Version, ...],
    active: tuple[Run, ...],
    endpoints: tuple[Endpoint, ...],
) -> str:
    if endpoints:
        return f"%sft_monitor {endpoints[0].name}"
    if active:
        first = next((r for r in active if r.state != "paused"), active[0])
        return f"%sft_{'resume' if first.state == 'paused' else 'watch'} {first.id}"
    if not datasets:
        return "%sft_data reviews sample:reviews"
    if not models:
        return f"%sft_create {datasets[0].name} --data {datasets[0].name} --base minilm"
    newest = next((v for v in versions if v.status != "retired"), None)
    if newest is None:
        return f"%sft_finetune {models[0].name}"
    live = next((v for v in versions if "live" in v.aliases), None)
    return f"%sft_deploy {live.model}@live" if live else f"%sft_alias {newest.ref} live"


def doctor(*, workspace: WorkspaceOption = None) -> Table:
    """Check versions, device, cores, number formats, front end and the workspace; each problem says what to do."""
    checks = [
        Check("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *(_package(name) for name in _PACKAGES),
        *_slow_start(),
        *_hardware(),
        Check("front end", observer.current().face),
    ]
    try:
        checks += _workspace(places.find(workspace))
    except errors.SftError as error:
        checks.append(Check("workspace", error.what, "problem", error.next_step))
    return Table("checks", tuple(checks))


def _package(name: str) -> Check:
    try:
        return Check(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "not installed", "problem", f"{Path(sys.executable).name} -m pip install {name}")


def _slow_start() -> list[Check]:
    """Say where every process compiles its libraries anew, because a variable forbids to keep what it compiled."""
    found = importlib.util.find_spec(_SLOWEST)
    if not sys.dont_write_bytecode or found is None or found.origin is None:
        return []
    if Path(importlib.util.cache_from_source(found.origin)).exists():
        return []
    folder = Path(found.origin).parents[1]
    what = "Python compiles its libraries anew in every process (PYTHONDONTWRITEBYTECODE): jobs start seconds later"
    compiling = f"{Path(sys.executable).name} -m compileall -q {shlex.quote(str(folder))}"
    return [Check("imports", what, "warning", compiling)]


def _hardware() -> list[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free = free_memory.free_memory()
    low = free < 2e9
    return [
        Check("cores", f"{cores} usable"),
        Check("number formats", _formats()),
        Check("gpu", _gpu()),
        Check(
            "memory",
            f"{free / 1e9:.1f} GB free",
            "warning" if low else "ok",
            "close other programs, or use --in-process and a small --batch" if low else "",
        ),
    ]


def _formats() -> str:
    try:
        flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split()
    except (OSError, IndexError):
        return "fp32 (nothing is known of this processor)"
    names = [("amx_bf16", "AMX bf16"), ("avx512_bf16", "AVX-512 bf16"), ("avx512f", "AVX-512"), ("avx2", "AVX2")]
    return ", ".join(shown for flag, shown in names if flag in flags) or "fp32"


def _gpu() -> str:
    try:
        import pynvml

        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        names = [pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(count)]
    except Exception:  # noqa: BLE001 - NVML raises its own tree, and none of it is the user's problem: no GPU is fine
        return "none; training uses the CPU"
    return ", ".join(str(n) for n in names) or "none; training uses the CPU"


def _workspace(ws: Workspace) -> list[Check]:
    from sft_magics.registry import Registry

    found = [run_folders.describe(j) for j in run_folders.all_jobs(ws)]
    lost = [r for r in found if r.state == "lost"]
    free = ws.free_bytes()
    Registry(ws).models()
    return [
        Check("workspace", f"{ws.root}: the registry opens, {usage.measure(ws).bytes / 1e6:,.0f} MB used"),
        Check(
            "disk", f"{free / 1e9:.1f} GB free", "warning" if free < _LOW_DISK else "ok",
            "free some space" if free < _LOW_DISK else "",
        ),
        Check(
            "runs", f"{len(found)} runs, {len(lost)} lost", "warning" if lost else "ok",
            f"%sft_finetune --resume {lost[0].id}" if lost else "",
        ),
        Check("cache", str(places.cache())),
    ]  # fmt: skip
