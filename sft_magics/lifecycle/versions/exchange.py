"""Versions leave as a plain folder or one file, and come in again with identity, lineage and hashes kept."""

import hashlib
import json
import os
import platform
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from sft_magics.core import codec, errors, references
from sft_magics.core import workspace as places
from sft_magics.core.records import Exported, Model, Version
from sft_magics.core.signatures import Names
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS, OBJECT_DETECTION, SEMANTIC_SEGMENTATION
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.jobs import client
from sft_magics.lifecycle.options import WorkspaceOption
from sft_magics.lifecycle.versions import model_card, model_card_pages

if TYPE_CHECKING:
    from sft_magics.registry import Registry

_ABOUT = "sft_version.json"
_CARD = "README.md"
_FORMAT = 1
_LARGEST_ABOUT = 16 << 20


def export(
    version: Annotated[str, "a version: reviews:3, reviews@live", Names("version")],
    to: Annotated[str, "a new folder, or a file that ends in .zip", Names("file")],
    *,
    workspace: WorkspaceOption = None,
) -> Exported:
    """Write a version as a folder that transformers loads, or as one zip file that `%sft_import` takes in elsewhere.

    Every byte is verified on its way out. With the weights go the model card (README.md) and the version's record.
    Nothing is overwritten. Raises Refused, and ModelProblem when the weights are damaged.
    """
    from sft_magics.registry import ArtifactStore, Registry, bundles

    ws = places.find(workspace)
    registry = Registry(ws)
    found = registry.version(version)
    target = Path(to).expanduser().resolve()
    _check_free(target)
    with client.telling(f"exporting {found.ref}") as say, _beside(target) as staged:
        say("verifying and copying", 0, 0)
        ArtifactStore(ws.artifacts).export(found.artifact, staged)
        card_made = not (staged / _CARD).exists()  # what was saved under that name comes back as it was
        if card_made:
            places.write_durably(staged / _CARD, _card_of(ws, registry, found))
        places.write_durably(staged / _ABOUT, json.dumps(_about(registry, found, card_made), indent=1).encode())
        if target.suffix.lower() == ".zip":
            size = bundles.pack(staged, target)
            return Exported(
                found.ref, str(target), "a bundle", size, f"%sft_import {target.name} takes it in elsewhere."
            )
        size = client.size_of(staged)
        _sync(staged)
        if target.is_dir():
            target.rmdir()
        staged.rename(target)
        places.sync_folder(target.parent)
    step = _loaded_by(found, to)
    return Exported(found.ref, str(target), "a folder", size, step)


def import_(
    source: Annotated[str, "a bundle (.zip), an exported folder, or any folder with a text classifier", Names("file")],
    *,
    name: Annotated[str | None, "the model it becomes a version of; without it the name it had", Names("model")] = None,
    workspace: WorkspaceOption = None,
) -> Version:
    """Take a version in: one that %sft_export wrote keeps its record, lineage and hashes; another becomes version 1.

    Importing the same again returns the version that is there. Raises ModelProblem for a file that is damaged, unsafe,
    or not what it says it is; then nothing has changed.
    """
    ws = places.find(workspace)
    path = Path(source).expanduser()
    if not path.exists():
        raise errors.NotFound(f"There is no file or folder {source}.", "name a bundle (.zip) or a folder with weights.")
    if path.is_dir():
        with client.telling(f"importing {path.name}") as say:
            say("copying and hashing", 0, 0)
            return _take(ws, path, name)
    from sft_magics.registry import bundles

    with (
        client.telling(f"importing {path.name}") as say,
        tempfile.TemporaryDirectory(prefix=".import-", dir=ws.root) as t,
    ):
        say("checking the bundle", 0, 0)
        bundles.unpack(path, Path(t))
        if not (Path(t) / _ABOUT).is_file():
            raise errors.ModelProblem(
                f"{path.name} holds no version: there is no {_ABOUT} in it.",
                "unpack it yourself, and %sft_import the folder.",
            )
        return _take(ws, Path(t), name)


def _loaded_by(version: Version, to: str) -> str:
    """Return the line that loads an exported folder without us."""
    if version.task == CAUSAL_LM:
        made = f'transformers.AutoModelForCausalLM.from_pretrained("{to}")'
        adapter = str(version.preprocessing.get("adapter") or "")
        return (
            f'peft.PeftModel.from_pretrained({made}, "{to}/{adapter}")' if adapter else made
        ) + " loads it in any Python."
    if version.task in (OBJECT_DETECTION, SEMANTIC_SEGMENTATION):
        return f'safetensors.torch.load_file("{to}/model.safetensors") has its weights.'
    if version.task in IMAGE_TASKS:
        by = (
            "torchvision.models.get_model" if version.preprocessing["library"] == "torchvision" else "timm.create_model"
        )
        made = f'{by}("{version.preprocessing["architecture"]}", num_classes={len(version.labels)})'
        return f'{made}.load_state_dict(safetensors.torch.load_file("{to}/model.safetensors")) loads it in any Python.'
    return f'transformers.AutoModelForSequenceClassification.from_pretrained("{to}") loads it in any Python.'


def _check_free(target: Path) -> None:
    if not target.parent.is_dir():
        raise errors.UsageProblem(f"There is no folder {target.parent}.", "make it first, or name another place.")
    if target.is_dir() and not any(target.iterdir()) and target.suffix.lower() != ".zip":
        return
    if target.exists() or target.is_symlink():
        raise errors.Refused(f"{target} is there already, and is not overwritten.", "name another place, or remove it.")


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Yield a folder on the same disk as `target`, which goes when the block ends."""
    staged = target.parent / f".{target.name}.{secrets.token_hex(4)}"
    try:
        staged.mkdir(mode=0o755)
        yield staged
    except OSError as error:
        raise errors.from_os_error(error, f"writing {target}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    places.sync_folder(folder)


def _card_of(ws: Workspace, registry: "Registry", version: Version) -> bytes:
    return model_card_pages.markdown(model_card_pages.sections(model_card.gather(ws, registry, version))).encode(
        "utf-8", "replace"
    )


def _about(registry: "Registry", version: Version, card_made: bool) -> dict[str, Any]:
    """Return all that is known of a version, and which files are no part of it, with a hash over it."""
    parents: list[dict[str, Any]] = []
    parent = version.ancestor
    while parent is not None:
        found = registry.version(parent)
        parents.append({"ref": found.ref, "artifact": found.artifact, "data_fingerprint": found.data_fingerprint})
        parent = found.ancestor
    about = {
        "format": _FORMAT,
        "version": codec.plain(version),
        "model": codec.plain(registry.model(version.model)),
        "parents": parents,
        "imported": version.environment.get("imported"),
        "host": platform.node(),
        "exported_at": time.time(),
        "beside": [*([_CARD] if card_made else []), _ABOUT],
    }
    return {**about, "sha256": _digest(about)}


def _digest(about: dict[str, Any]) -> str:
    return hashlib.sha256(codec.dumps({k: v for k, v in about.items() if k != "sha256"}).encode()).hexdigest()


def _take(ws: Workspace, folder: Path, name: str | None) -> Version:
    if not (folder / _ABOUT).is_file():
        return _take_plain(ws, folder, name)
    model, version, about = _read(folder)
    model = replace(model, name=references.check_name(name or model.name, "model"))
    from sft_magics.registry import ArtifactStore, Registry

    stored = ArtifactStore(ws.artifacts).save(folder, without=about["beside"])
    if stored.id != version.artifact:
        raise errors.ModelProblem(
            f"The files are not those of {version.ref}: their hash begins with {stored.id[:12]}, and it says "
            f"{version.artifact[:12]}.",
            "ask for the bundle again; something was changed or lost on the way.",
        )
    registry = Registry(ws)
    with registry.transaction():
        if model.name not in {m.name for m in registry.models()}:
            registry.add_model(replace(model, data=None))
        elif registry.model(model.name).labels != model.labels:
            raise errors.Refused(
                f"The model {model.name} here has other labels than {version.ref}.", f"add --name {model.name}-2."
            )
        known = [v for v in registry.versions(model.name) if v.artifact == stored.id]
        if known:
            return known[0]
        return registry.commit_version(
            _draft(registry, model.name, version, about, stored.added), reason=f"import of {version.ref}"
        )


def _read(folder: Path) -> tuple[Model, Version, dict[str, Any]]:
    path = folder / _ABOUT
    broken = errors.ModelProblem(f"{_ABOUT} is damaged or was changed.", "ask for the bundle again.")
    if path.stat().st_size > _LARGEST_ABOUT:
        raise broken
    try:
        about = json.loads(path.read_bytes())
        if about["format"] > _FORMAT:
            raise errors.ModelProblem(
                f"The bundle has format {about['format']}, which this release does not know.",
                "pip install --upgrade sft-magics",
            )
        if about["sha256"] != _digest(about):
            raise broken
        found = codec.build(Model, about["model"]), codec.build(Version, about["version"])
        codec.dumps(found[1])
        about["beside"] = [str(name) for name in about["beside"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise broken from error
    return (*found, about)


def _draft(registry: "Registry", model: str, version: Version, about: dict[str, Any], added: int) -> Version:
    """Return the version as it was, but for what only holds where it was made."""
    origin = {
        "ref": version.ref, "host": about["host"], "exported_at": about["exported_at"], "lineage": about["parents"],
        "before": about["imported"],
    }  # fmt: skip
    here = {v.artifact: v.ref for v in registry.versions(model)}
    parent = next((here[p["artifact"]] for p in about["parents"][:1] if p["artifact"] in here), None)
    environment = {**version.environment, "imported": origin}
    if version.parent != version.ancestor:  # it began with the weights of a run, whose own parent is not known here
        parent = version.parent
        environment["cloned"] = {**environment["cloned"], "parent": None}
    return replace(
        version, model=model, number=0, aliases=(), parent=parent, status="ready", successor=None, added=added,
        environment=environment,
    )  # fmt: skip


def _take_plain(ws: Workspace, folder: Path, name: str | None) -> Version:
    """Take in a folder that others made: a text classifier with a head of its own."""
    from sft_magics.registry import ArtifactStore, Registry

    model = references.check_name(name or folder.resolve().name, "model")
    labels = _labels(folder)
    start = {"kind": "folder", "path": str(folder.resolve()), "source": f"folder {folder.resolve()}"}
    task = "text-classification"
    known = client.ask(
        ws,
        f"checking the weights of {folder.name}",
        {"kind": "inspect", "task": task, "start": start, "labels": labels},
    )
    if known["fresh"]:
        raise errors.ModelProblem(
            f"The weights in {folder} have no trained head: {', '.join(known['fresh'][:4])} would start fresh.",
            f"%sft_create {model} --base {folder} --data DATASET makes a model of it.",
        )
    preprocessing = {"max_length": min(512, int(known["max_length"]))}
    with tempfile.TemporaryDirectory(prefix=".import-", dir=ws.root) as place:
        own = Path(place) / "files"
        shutil.copytree(folder, own, symlinks=True)
        about = {"task": task, "labels": labels, "preprocessing": preprocessing}
        (own / "sft.json").write_text(json.dumps(about, indent=1))
        stored = ArtifactStore(ws.artifacts).save(own)
    registry = Registry(ws)
    origin = {
        "ref": "",
        "host": platform.node(),
        "exported_at": time.time(),
        "lineage": [],
        "path": str(folder.resolve()),
    }
    draft = Version(
        model, 0, "import", None, "unknown", "", {}, tuple(labels), preprocessing, {}, {"imported": origin}, stored.id,
        stored.size, time.time(), task, added=stored.added, note=f"imported from {folder.name}",
    )  # fmt: skip
    with registry.transaction():
        if model not in {m.name for m in registry.models()}:
            registry.add_model(
                Model(model, task, str(folder), None, tuple(labels), {**known, "start": start}, time.time())
            )
        elif registry.model(model).labels != tuple(labels):
            raise errors.Refused(
                f"The model {model} here has other labels than {folder.name}.", f"add --name {model}-2."
            )
        same = [v for v in registry.versions(model) if v.artifact == stored.id]
        return same[0] if same else registry.commit_version(draft, reason=f"import of {folder.name}")


def _labels(folder: Path) -> list[str]:
    try:
        config = json.loads((folder / "config.json").read_bytes())
        found = {int(k): str(v) for k, v in config["id2label"].items()}
        labels = [found[i] for i in range(len(found))]
    except FileNotFoundError:
        raise errors.ModelProblem(
            f"The folder {folder} holds no model: there is no config.json in it.",
            "name a folder that holds a whole one.",
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise errors.ModelProblem(
            f"config.json in {folder} names no labels (id2label), so its answers would have no names.",
            'add "id2label": {"0": "negative", "1": "positive"} to it.',
        ) from None
    if len(set(labels)) != len(labels) or len(labels) < 2:
        raise errors.ModelProblem(
            f"config.json in {folder} names {len(labels)} labels: {labels[:5]}.", "give two or more."
        )
    return labels
