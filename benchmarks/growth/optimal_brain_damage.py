"""Optimal Brain Damage on MNIST, beside magnitude and chance; predicted and actual.

    python benchmarks/growth/optimal_brain_damage.py --data mnist.npz --seeds 0 1 2

A network of two convolutions and a linear layer is trained without augmentation, its
rate falling to zero. Then weights are deleted, 0 to 90 %, by Optimal Brain Damage (with
each curvature), by magnitude and at random: from the whole network without retraining,
and level by level with retraining after each. Errors are those on the samples that the
curvature is learned from, and on the test images. Writes JSON and a picture as in the
paper. What is there already is not done again.
"""

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional

from gradnet.core.files import load_tensors, read_json, save_tensors, write_json
from gradnet.core.reproducibility import hardware, make_generator, versions
from gradnet.curvature.diagonal import curvature_diagonal
from gradnet.data.problem import (
    AugmentationSettings,
    Problem,
    ProblemSettings,
    make_problem,
)
from gradnet.growth.method import EditContext
from gradnet.growth.methods.optimal_brain_damage import OptimalBrainDamage
from gradnet.growth.saliency import (
    chance,
    damage,
    deletion_curve,
    magnitude,
    without_weakest,
)
from gradnet.models import build_model, shape_arguments
from gradnet.surgery.masks import masks_of, with_masks, without_masks
from gradnet.training.loop import TrainingSettings, fit
from gradnet.training.supervised import SupervisedTask

RESULT = Path(__file__).parents[1] / "results" / "growth" / "optimal_brain_damage.json"
# The published recursion with f'' is the second, in a network of ReLU.
CURVATURES = ("gauss_newton", "levenberg_marquardt")
# With 0.05, half of the second layer's channels died, and cost nothing to delete.
RATE = 0.01
FRACTIONS = [0.0, 0.05, *(tenths / 10 for tenths in range(1, 10))]
LEVELS = FRACTIONS[2:]
COLORS = {"obd": "C0", "magnitude": "C1", "random": "C2"}


class Study:
    """One seed: a trained network, and the samples that it is judged on.

    Args:
        problem: the images.
        given: command-line arguments.
        seed: of weights, order and chance.
    """

    def __init__(self, problem: Problem, given: argparse.Namespace, seed: int) -> None:
        self.problem, self.given, self.seed = problem, given, seed
        self.samples = problem.all_training
        self.method = OptimalBrainDamage(curvature_samples=given.samples)
        self.x, self.y = self.method.curvature_samples_of(self.context(0))

    def context(self, stage: int) -> EditContext:
        """What an edit may look at."""
        probe = self.samples.images[:2].float()
        return EditContext(stage, probe, self.seed, self.samples)

    def train(self, model: nn.Module, steps: int, rate: float) -> None:
        """By SGD with momentum and no decay, the rate falling to zero."""
        settings = TrainingSettings(
            steps=steps,
            learning_rate=rate,
            weight_decay=0.0,
            schedule="cosine",
            evaluate_every=steps,
        )
        task = SupervisedTask(model, self.samples, settings.batch_size, self.seed)
        fit(task, settings, seed=self.seed)
        model.eval()

    def trained(self, path: Path) -> nn.Module:
        """The whole network, from its file where there is one."""
        torch.manual_seed(self.seed)
        shape = shape_arguments(self.problem.input_shape, self.samples.num_classes)
        model = build_model("cnn2018", **shape, width=self.given.width).eval()
        if path.exists():
            model.load_state_dict(load_tensors(path))
        else:
            self.train(model, self.given.steps, RATE)
            save_tensors(path, model.state_dict())
        return model

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Mean cross-entropy and percent wrong, where it learned and on test images."""
        images, labels = self.problem.data.x_test, self.problem.data.y_test
        test = self.problem.augmentation.evaluate(images)
        return {
            **_errors(model, self.x, self.y, "train"),
            **_errors(model, test, labels, "test"),
        }

    def without_retraining(self, model: nn.Module) -> dict[str, Any]:
        """A curve for each criterion, with the prediction of the Gauss-Newton."""
        scores, seconds = {}, {}
        for kind in CURVATURES:
            start = time.perf_counter()
            diagonal = curvature_diagonal(model, self.x, self.y, kind)
            seconds[kind] = round(time.perf_counter() - start, 2)
            scores[f"obd, {kind}"] = damage(model, diagonal)
        scores["magnitude"] = magnitude(model)
        scores["random"] = chance(model, make_generator("chance", self.seed))
        usual = scores["obd, gauss_newton"]
        curves = {
            name: deletion_curve(
                model,
                score,
                score if name.startswith("obd") else usual,
                FRACTIONS,
                self.measure,
            )
            for name, score in scores.items()
        }
        return {"seconds of the curvature": seconds, **curves}

    def with_retraining(self, model: nn.Module, criterion: str) -> dict[str, Any]:
        """Level by level: before and after a short training at half the rate."""
        method = OptimalBrainDamage(
            criterion=criterion, curvature_samples=self.given.samples
        )
        rows = []
        for stage, level in enumerate(LEVELS, start=1):
            plain, kept = without_masks(model), masks_of(model)
            scores = method.scores(plain, self.context(stage))
            left = sum(int(mask.sum()) for mask in kept.values())
            target = (1 - level) * sum(mask.numel() for mask in kept.values())
            kept = without_weakest(scores, kept, 1 - target / left)
            model = with_masks(plain, kept).eval()
            before = self.measure(model)
            self.train(model, self.given.retraining_steps, RATE / 2)
            rows.append(
                {
                    "deleted": level,
                    "remaining": sum(int(mask.sum()) for mask in kept.values()),
                    **{f"{name} before": value for name, value in before.items()},
                    **self.measure(model),
                }
            )
        return {name: [row[name] for row in rows] for name in rows[0]}

    def missing(self, done: Iterable[str], path: Path) -> Iterator[tuple[str, Any]]:
        """What is not done yet, part after part; the file is of the whole network."""
        jobs = {"without retraining": self.without_retraining}
        for name in COLORS:
            job = partial(self.with_retraining, criterion=name)
            jobs[f"with retraining, {name}"] = job
        names = [name for name in jobs if name not in done]
        if not names:
            return
        model = self.trained(path)
        for name in names:
            start = time.perf_counter()
            yield name, jobs[name](model)
            seconds = time.perf_counter() - start
            print(f"seed {self.seed}, {name}: {seconds:.0f} s", flush=True)
        path.unlink()


@torch.no_grad()
def _errors(model: nn.Module, x: Tensor, y: Tensor, name: str) -> dict[str, float]:
    logits = torch.cat([model(part) for part in x.split(500)])
    wrong = (logits.argmax(1) != y).double().mean().item()
    return {
        f"{name} loss": functional.cross_entropy(logits, y).item(),
        f"{name} error": round(100 * wrong, 3),
    }


def draw(seeds: Mapping[str, Any]) -> Figure:
    """The paper's figures: deletion, prediction, and retraining; a line a seed."""
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    plain, predicted, retrained = figure.subplots(1, 3)
    for seed, parts in seeds.items():
        is_first = seed == next(iter(seeds))
        for name, color in COLORS.items():
            label = name if is_first else None
            key = "obd, gauss_newton" if name == "obd" else name
            curve = parts["without retraining"][key]
            x, y = curve["remaining"], curve["train loss"]
            plain.plot(x, y, color=color, label=label)
            later = parts.get(f"with retraining, {name}")
            if later:
                x = later["remaining"]
                retrained.plot(x, later["test error"], color=color, label=label)
                retrained.plot(x, later["test error before"], ":", color=color)
        for index, kind in enumerate(CURVATURES):
            curve = parts["without retraining"][f"obd, {kind}"]
            x = [100 * fraction for fraction in curve["deleted"][1:]]
            whole = curve["train loss"][0]
            actual = [loss - whole for loss in curve["train loss"][1:]]
            label = kind if is_first else None
            predicted.plot(x, actual, color=f"C{index}", label=label)
            predicted.plot(x, curve["predicted"][1:], "--", color=f"C{index}")
        whole = parts["without retraining"]["magnitude"]["test error"][0]
        retrained.axhline(whole, color="grey", linewidth=0.8)
    plain.set(title="Without retraining", ylabel="training loss")
    predicted.set(
        title="By OBD: actual (solid) and predicted (dashed)",
        xlabel="weights deleted (%)",
        ylabel="increase of the training loss",
    )
    retrained.set(title="With retraining (dotted: before it)", ylabel="test error (%)")
    for panel in (plain, retrained):
        panel.set_xlabel("weights left")
        panel.invert_xaxis()
    for panel in (plain, predicted, retrained):
        panel.set_yscale("log", nonpositive="mask")  # a loss may fall a little
        panel.legend()
    predicted.set_ylim(bottom=1e-6)
    ticks = [1, 2, 5, 10, 20, 50]
    retrained.set_yticks(ticks, map(str, ticks))
    retrained.minorticks_off()
    return figure


def main() -> None:
    """Do what is not done yet; write and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="an .npz of images")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--width", type=int, default=8, help="channels")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--retraining-steps", type=int, default=500)
    parser.add_argument("--samples", type=int, default=5000, help="for the curvature")
    given = parser.parse_args()
    whole_images = AugmentationSettings(crop=0)
    problem = make_problem(
        ProblemSettings(data=given.data, device="cpu", augmentation=whole_images)
    )
    names = ("width", "steps", "retraining_steps", "samples")
    settings = {name: getattr(given, name) for name in names}
    result = read_json(given.out) if given.out.exists() else {"settings": settings}
    if result["settings"] != settings:
        raise SystemExit(f"{given.out} has other settings; give another --out")
    seeds = result.setdefault("seeds", {})
    result |= {
        "hardware": hardware(torch.device("cpu")),
        "versions": versions(),
    }
    for seed in given.seeds:
        study = Study(problem, given, seed)
        parts = seeds.setdefault(str(seed), {})
        path = given.out.with_suffix(f".seed-{seed}.pt")
        for name, values in study.missing(parts, path):
            parts[name] = values
            write_json(given.out, result)
    draw(seeds).savefig(given.out.with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
