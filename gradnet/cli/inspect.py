"""``gradnet inspect``: what a gradient store holds, and its norms."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from gradnet.core.constraints import PathText
from gradnet.core.files import save_figure
from gradnet.core.progress import progress
from gradnet.core.text import one_line
from gradnet.core.validation import Validated
from gradnet.experiments.gradient_figures import draw_norms
from gradnet.store.reader import GradientStore


@dataclass(frozen=True)
class Inspect(Validated):
    """Print what a gradient store holds, check it, and draw norms by layer and label.

    Example:
        gradnet inspect store

    Attributes:
        store: a folder, or a URL.
        picture: file of the figure; default: beside the store, named after it.
        no_verify: do not compare the shards with their checksums.
    """

    store: PathText
    picture: PathText | None = None
    no_verify: bool = False

    def run(self, config: str) -> None:
        """Read every shard, compare it with its checksum, and print."""
        store = GradientStore(self.store, verify=not self.no_verify)
        print(store.plan.describe())
        for name, value in store.fingerprint.items():
            print(f"{name}: {json.dumps(value)}")
        norms, means = measure_norms(store)
        print(norms.to_string(float_format="{:.4g}".format))
        name = Path(self.store.split("://")[-1]).name or "store"
        path = Path(self.picture or Path(self.store).parent / f"{name}-norms.png")
        if "://" in self.store and not self.picture:
            path = Path(f"{name}-norms.png")
        figure = draw_norms(means, list(store.blocks))
        save_figure(path, figure, dpi=110)
        state = "not verified" if self.no_verify else "whole"
        print(f"all {store.plan.num_shards} shards are {state}\npicture: {path}")


def measure_norms(store: GradientStore) -> tuple[pd.DataFrame, Tensor]:
    """L2 norms of all gradients.

    Returns:
        A row a block with ``D``, mean, least and largest norm; and mean norms ``(B,
        K)`` by block and candidate label, NaN for labels that never occur.
    """
    plan = store.plan
    total = torch.zeros(len(store.blocks), plan.num_logits, dtype=torch.float64)
    count = torch.zeros(plan.num_logits, dtype=torch.float64)
    least = torch.full((len(store.blocks),), torch.inf, dtype=torch.float64)
    largest = torch.zeros(len(store.blocks), dtype=torch.float64)
    with progress("shards", plan.num_shards, "shards") as advance:
        for rows in store.shards():
            label = rows["label"]
            count += torch.bincount(label, minlength=plan.num_logits)
            for b, name in enumerate(store.blocks):
                block = rows[f"block/{name}"].float()
                norms = torch.linalg.vector_norm(block, dim=1).double()
                total[b].index_add_(0, label, norms)
                least[b] = torch.minimum(least[b], norms.min())
                largest[b] = torch.maximum(largest[b], norms.max())
            advance(1)
    table = pd.DataFrame(
        {
            "numbers": list(store.blocks.values()),
            "mean norm": (total.sum(1) / count.sum()).tolist(),
            "least": least.tolist(),
            "largest": largest.tolist(),
        },
        index=pd.Index(list(map(one_line, store.blocks)), name="block"),
    )
    return table, total / count
