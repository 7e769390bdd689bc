"""Gradients on disk: safetensors shards and a manifest.

Read ``manifest`` first (the contents of a store), then ``writer`` and ``reader``.
``row_checks`` and ``checking`` check what is written and read, ``extraction`` computes
the rows, ``dataset`` shuffles samples, ``shard`` is one file and ``filesystem`` a local
folder or a URL.
"""

from gradnet.store.dataset import ShardBatches, StoreDataset
from gradnet.store.extraction import Extraction, ExtractionSettings
from gradnet.store.manifest import StorePlan
from gradnet.store.reader import GradientStore
from gradnet.store.writer import survey, write_store

__all__ = [
    "Extraction",
    "ExtractionSettings",
    "GradientStore",
    "ShardBatches",
    "StoreDataset",
    "StorePlan",
    "survey",
    "write_store",
]
