"""Supervised fine-tuning and the whole life cycle of a model, from a notebook, a script or a shell.

The verbs are plain functions: `import sft_magics as sft; sft.finetune("reviews", epochs=1)`. They are loaded when they
are first used, so the import costs next to nothing and brings in neither torch nor IPython.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from sft_magics.lifecycle.admin.garbage_collection import gc
    from sft_magics.lifecycle.admin.overview import board, doctor
    from sft_magics.lifecycle.admin.registry_maintenance import registry_
    from sft_magics.lifecycle.create import create
    from sft_magics.lifecycle.deploy import deploy, endpoints
    from sft_magics.lifecycle.endpoints.bench import bench
    from sft_magics.lifecycle.endpoints.canary import traffic
    from sft_magics.lifecycle.evaluation.error_gallery import errors_
    from sft_magics.lifecycle.evaluation.evaluate import evaluate
    from sft_magics.lifecycle.evaluation.predict import predict
    from sft_magics.lifecycle.inputs.data import data, fetch
    from sft_magics.lifecycle.monitor import alert, alerts, feedback, monitor
    from sft_magics.lifecycle.optimize import retrain
    from sft_magics.lifecycle.retire import retire
    from sft_magics.lifecycle.train import finetune, resume
    from sft_magics.lifecycle.training.planning import lr, plan
    from sft_magics.lifecycle.training.preview import preview
    from sft_magics.lifecycle.training.run_control import edit, pause
    from sft_magics.lifecycle.training.runs import keep, runs, stop, watch
    from sft_magics.lifecycle.versions.diff import diff
    from sft_magics.lifecycle.versions.exchange import export, import_
    from sft_magics.lifecycle.versions.model_card import show
    from sft_magics.lifecycle.versions.notes import note, tag
    from sft_magics.lifecycle.versions.promote import promote, rollback
    from sft_magics.lifecycle.versions.reproduce import reproduce
    from sft_magics.lifecycle.versions.versions import alias, history, models, versions

__all__ = [
    "alert",
    "alerts",
    "alias",
    "bench",
    "board",
    "create",
    "data",
    "deploy",
    "diff",
    "doctor",
    "edit",
    "endpoints",
    "errors_",
    "evaluate",
    "export",
    "feedback",
    "fetch",
    "finetune",
    "gc",
    "history",
    "import_",
    "keep",
    "lr",
    "models",
    "monitor",
    "note",
    "pause",
    "plan",
    "predict",
    "preview",
    "promote",
    "registry_",
    "reproduce",
    "resume",
    "retire",
    "retrain",
    "rollback",
    "runs",
    "show",
    "stop",
    "tag",
    "traffic",
    "versions",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from sft_magics.verbs import VERBS

        return VERBS[name].python
    raise AttributeError(f"module 'sft_magics' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def load_ipython_extension(ipython: "InteractiveShell") -> None:
    """Register the magics, completion and displays: `%load_ext sft_magics`."""
    from sft_magics.notebook.extension import load

    load(ipython)


def unload_ipython_extension(ipython: "InteractiveShell") -> None:
    """Take the magics, completion and displays out again: `%unload_ext sft_magics`."""
    from sft_magics.notebook.extension import unload

    unload(ipython)
