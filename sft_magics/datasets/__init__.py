"""What a model learns from: load, check, split and fingerprint labeled data, and read it back."""

from sft_magics.datasets.builder import build, combine
from sft_magics.datasets.differences import compare
from sft_magics.datasets.inference_inputs import texts_of
from sft_magics.datasets.loaded import Loaded, frame_of
from sft_magics.datasets.pictures.image_files import pictures_below, thumbnail
from sft_magics.datasets.pictures.inline_images import keep
from sft_magics.datasets.samples.text_samples import SAMPLES
from sft_magics.datasets.sources import id_label_pairs, load, read_table
from sft_magics.datasets.tables.parquet import read_rows, rows

__all__ = [
    "SAMPLES",
    "Loaded",
    "build",
    "combine",
    "compare",
    "frame_of",
    "id_label_pairs",
    "keep",
    "load",
    "pictures_below",
    "read_rows",
    "read_table",
    "rows",
    "texts_of",
    "thumbnail",
]
