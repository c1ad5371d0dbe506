"""The files of versions: each tensor and each file once, named by its hash, verified when it is loaded.

    packs/<sha256>.safetensors   tensors of one save that the store did not have yet, under their hashes; a legal
                                 safetensors file, named by the hash of its header, which names the content of the rest
    blobs/ab/<sha256>            any other file, and the header of each safetensors file
    manifests/<id>.json          canonical JSON of what the artifact's files are; its SHA-256 is the id
    places/<id>.json             the packs that hold its tensors: a hint that is found again when it is lost
    views/<id>/                  a folder to load from: hard links to blobs and packs, and an index of the tensors
    staging/                     what is being written; emptied by the next writer
    store.lock                   held by whoever saves, deletes, collects or makes a view

The id depends on the content alone, so it is the same on every machine. Packs and blobs are on the disk before the
manifest that names their content, so a manifest never points to nothing.
"""

from sft_magics.registry.artifacts.base import Artifact, Artifacts, Collected
from sft_magics.registry.artifacts.store import ArtifactStore

__all__ = ["Artifact", "ArtifactStore", "Artifacts", "Collected"]
