r"""Validation accuracy of recipes at equal samples, from one snapshot.

    python benchmarks/recipes.py checkpoints/cifar10-jpeg/level-0.5.safetensors \
        --data cifar10.npz --steps 80

Every recipe sees ``steps`` batches of 64 images of GradNet's half and is judged on the
validation part; the test images are not touched. Prints a line a recipe and writes them
as JSON under ``benchmarks/results/``. What is there already is not done again.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from gradnet.checkpoints.snapshots import load_snapshot
from gradnet.classifier.features import FeatureSettings
from gradnet.classifier.fit import fit_gradnet
from gradnet.classifier.recipes import DEFAULT, Recipe
from gradnet.cli.fit import Fit
from gradnet.cli.options import problem_of
from gradnet.core.files import read_json, write_json
from gradnet.core.reproducibility import hardware, versions
from gradnet.training.supervised import evaluate

RESULT = Path(__file__).parent / "results" / "recipes.json"

RELU = replace(DEFAULT, activation="relu", hidden=16)
STD = FeatureSettings(scaling="std")
STD_L2 = FeatureSettings(scaling="std", unit_norm=True)
# name -> recipe and learning rate, each rate the best of two or three that were tried
VARIANTS = {
    "linear": (DEFAULT, 1e-3),
    "linear, std": (replace(DEFAULT, features=STD), 3e-6),
    "linear, std, L2": (replace(DEFAULT, features=STD_L2), 3e-4),
    "ReLU 16, std, L2": (replace(RELU, features=STD_L2, initial_std=0.02), 1e-3),
}


def cut(recipe: Recipe, steps: int, learning_rate: float) -> Recipe:
    """The recipe with so many steps, judged at the end only."""
    training = replace(
        recipe.training,
        steps=steps,
        evaluate_every=steps,
        learning_rate=learning_rate,
    )
    return replace(recipe, training=training)


def main() -> None:
    """Fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("snapshot")
    parser.add_argument("--data", help="default: what the snapshot names")
    parser.add_argument("--steps", type=int, default=80)
    given = parser.parse_args()
    snapshot = load_snapshot(given.snapshot)
    problem = problem_of(snapshot, Fit(given.snapshot, data=given.data, device="cpu"))
    half = problem.gradnet_half
    before = evaluate(snapshot.model, half)
    header = {"snapshot": given.snapshot, "steps": given.steps, "base": before}
    done = read_json(RESULT) if RESULT.exists() else {}
    rows = done["rows"] if done.get("header") == header else {}
    facts = {"hardware": hardware(half.images.device), "versions": versions()}
    print(f"{'base network':20} {before['accuracy']:.4f}  loss {before['loss']:.4f}")
    for name, (recipe, learning_rate) in VARIANTS.items():
        if name not in rows:
            start = time.monotonic()
            chosen = cut(recipe, given.steps, learning_rate)
            _, history = fit_gradnet(snapshot.model, half, chosen)
            seconds = round(time.monotonic() - start, 1)
            rows[name] = {**history.records[-1], "seconds": seconds}
            write_json(RESULT, {"header": header, "rows": rows, **facts})
        row = rows[name]
        print(f"{name:20} {row['accuracy']:.4f}  loss {row['loss']:.4f}", flush=True)


if __name__ == "__main__":
    main()
