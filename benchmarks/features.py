"""Features of 2018 against the gradients they are made of: gradients per second.

    python benchmarks/features.py --images 32

The CNN of 2018 with fresh weights, random images of 24 x 24 x 3, all 10 labels, on the
CPU. Interleaved, medians of 5: reading the gradients, the whole chain of features, its
fit, each step alone (as the chain applies it, after the steps before), and selection by
``torch.topk``, which the chain had before. Prints a table and writes it as JSON under
``benchmarks/results/``.
"""

import argparse
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from gradnet.classifier.features import Features
from gradnet.classifier.recipes import RECIPES
from gradnet.core.files import write_json
from gradnet.core.reproducibility import hardware, versions
from gradnet.gradients.extractor import GradientExtractor
from gradnet.models import build_model

RESULT = Path(__file__).parent / "results" / "features.json"
RECIPE = RECIPES["gradnet2018"]
ROUNDS = 5


def select_by_topk(blocks: dict[str, Tensor], percent: float) -> None:
    """Selection as it was: a topk of each block, and a mask."""
    for block in blocks.values():
        size = block.shape[-1]
        rank = math.floor((1 - percent / 100) * (size - 1) + 1e-9)
        magnitudes = block.abs()
        top = magnitudes.topk(size - rank, sorted=False).values
        block.mul_(magnitudes > top.amin(-1, keepdim=True))


def make_tasks(
    extractor: GradientExtractor, x: Tensor
) -> dict[str, tuple[Callable[[dict[str, Tensor]], object], dict[str, Tensor]]]:
    """Name -> what is timed, and the blocks that it is given a copy of."""
    gradients = extractor.layout.to_blocks(extractor.all_labels(x))
    features = RECIPE.features.make().partial_fit(gradients)
    percent = RECIPE.features.percent
    assert percent is not None
    tasks = {
        "gradients": (lambda _: extractor.all_labels(x), {}),
        "features": (
            lambda blocks: features.transform(blocks, inplace=True),
            gradients,
        ),
        "features, copied": (features.transform, gradients),
        "fit": (RECIPE.features.make().partial_fit, gradients),
        "topk": (lambda given: select_by_topk(given, percent), gradients),
    }
    before = gradients
    for step in features.steps:
        alone = Features([step])
        tasks[type(step).__name__] = (
            lambda given, alone=alone: alone.transform(given, inplace=True),
            before,
        )
        before = alone.transform(before)
    return tasks


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    model = build_model("cnn2018", in_channels=3, image_size=24, num_classes=10).eval()
    extractor = GradientExtractor(model, weight_decay=RECIPE.weight_decay_term)
    tasks = make_tasks(extractor, torch.randn(given.images, 3, 24, 24))
    wall: dict[str, list[float]] = {name: [] for name in tasks}
    used: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(ROUNDS):
        for name, (run, blocks) in tasks.items():
            copies = {block: values.clone() for block, values in blocks.items()}
            start = time.perf_counter(), time.process_time()
            run(copies)
            wall[name].append(time.perf_counter() - start[0])
            used[name].append(time.process_time() - start[1])
    count = 10 * given.images
    rows = {
        name: {
            "gradients_per_second": round(count / median(wall[name])),
            "cpu_ms_per_gradient": round(1000 * median(used[name]) / count, 3),
            "times_gradients": round(median(wall[name]) / median(wall["gradients"]), 2),
        }
        for name in tasks
    }
    print("                  gradients/s  CPU ms a gradient  times the gradients")
    for name, row in rows.items():
        print("{:17} {:11,} {:18} {:20}".format(name, *row.values()))
    facts = {
        "hardware": hardware(torch.device("cpu")),
        "threads": given.threads,
        "load": [round(load, 1) for load in os.getloadavg()],
        "coordinates": extractor.layout.size,
        "images": given.images,
        "versions": versions(),
    }
    write_json(RESULT, {"rows": rows, **facts})


if __name__ == "__main__":
    main()
