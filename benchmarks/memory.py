"""Peak memory of ``gradnet fit`` and ``gradnet evaluate`` on N and on 4 N images.

    python benchmarks/memory.py --images 1000

Each command runs in its own process, on random images of 32 x 32 x 3 and the CNN of
2018, with both recipes cut to a few steps: what is measured does not depend on how long
they go on. Prints a table and writes it as JSON under ``benchmarks/results/``.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from gradnet.checkpoints.snapshots import save_snapshot
from gradnet.classifier.recipes import RECIPES
from gradnet.cli.arguments import to_yaml
from gradnet.core.files import write_json
from gradnet.core.reproducibility import versions
from gradnet.data.problem import ProblemSettings, make_problem
from gradnet.experiments.base_network import BaseSettings, describe_snapshot
from gradnet.models import build_model

RESULT = Path(__file__).parent / "results" / "memory.json"
CHILD = """
import resource, sys
from gradnet.cli.main import main
main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def prepare(folder: Path, images: int) -> tuple[str, str]:
    """Write random data and an untrained snapshot; returns their paths."""
    rng = np.random.default_rng(0)
    arrays = {
        f"{axis}_{part}": values
        for part, count in (("train", images), ("test", images // 4))
        for axis, values in (
            ("x", rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)),
            ("y", np.arange(count) % 10),
        )
    }
    data, snapshot = folder / f"{images}.npz", folder / f"{images}.safetensors"
    np.savez(data, **arrays)
    problem = make_problem(ProblemSettings(data=str(data), device="cpu"))
    arguments = BaseSettings().model_arguments(problem)
    model = build_model("cnn2018", **arguments)
    save_snapshot(snapshot, model, describe_snapshot(problem, "cnn2018", arguments, 0))
    return str(data), str(snapshot)


def peak_of(*arguments: str) -> float:
    """Peak resident memory of a command, in MB."""
    run = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(run.stdout.split()[-1]) / 1024


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--images",
        type=int,
        default=1000,
        help="N training images, and a quarter as many test images",
    )
    images = parser.parse_args().images
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in (images, 4 * images):
            data, snapshot = prepare(folder, count)
            for title, recipe in RECIPES.items():
                training = replace(recipe.training, steps=4, evaluate_every=4)
                file = folder / f"{title}.yaml"
                file.write_text(to_yaml(replace(recipe, training=training)))
                out = str(folder / f"{title}-{count}.safetensors")
                common = [snapshot, "--data", data]
                fit = peak_of("fit", *common, "--recipe", str(file), "--out", out)
                test = peak_of("evaluate", *common, "--gradnet", out)
                rows.append(
                    {"recipe": title, "images": count, "fit_mb": fit, "test_mb": test}
                )
                print(f"{title:12} {count:6} images: fit {fit:.0f} MB, ", end="")
                print(f"evaluate {test:.0f} MB", flush=True)
    facts = {"hardware": platform.machine(), "threads": torch.get_num_threads()}
    write_json(RESULT, {"rows": rows, **facts, "versions": versions()})
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
