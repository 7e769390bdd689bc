"""``gradnet fit``: a GradNet on the gradients of a snapshot."""

import logging
from dataclasses import dataclass
from pathlib import Path

from gradnet.checkpoints.snapshots import load_snapshot
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.cli.arguments import load_recipe
from gradnet.cli.options import DataSettings, problem_of
from gradnet.core.constraints import PathText
from gradnet.core.files import sha256
from gradnet.core.validation import Seed
from gradnet.errors import InvalidInputError
from gradnet.experiments.fitting import fit_and_save
from gradnet.training.loop import Callbacks
from gradnet.training.supervised import evaluate

logger = logging.getLogger("gradnet")


@dataclass(frozen=True)
class Fit(DataSettings):
    """Train a GradNet on the gradients of a snapshot.

    It is trained on the half of the images that the base network has not seen.

    Example:
        gradnet fit runs/digits/snapshots/seed-0/level-0.9.safetensors --recipe default

    Attributes:
        snapshot: the base network's file, made by train-base or import-weights.
        recipe: a name (default, gradnet2018) or the YAML file of a recipe.
        seed: of weights, order, augmentation and random labels.
        out: the GradNet's file; default: beside the snapshot, named after the recipe.
    """

    snapshot: PathText
    recipe: PathText = "default"
    seed: Seed = 0
    out: PathText | None = None

    def run(self, config: str) -> None:
        """Train, save, and print the validation accuracy."""
        recipe, name = load_recipe(self.recipe), Path(self.recipe).stem
        snapshot = load_snapshot(self.snapshot)
        path = Path(self.out or f"{Path(self.snapshot).with_suffix('')}-{name}")
        path = path if path.suffix == ".safetensors" else Path(f"{path}.safetensors")
        if path.exists():
            if GradNetPredictor.load(path, snapshot.model).recipe != recipe:
                raise InvalidInputError(
                    f"{path} was made by another recipe; name another file with --out"
                )
            print(f"{path}: done before; remove it to train again")
            return
        problem = problem_of(snapshot, self)
        base = snapshot.model.to(problem.data.x_train.device)
        callbacks = Callbacks(
            checkpoint=path.with_suffix(".pt.part"),
            identity={**problem.identity, "snapshot": sha256(self.snapshot)},
            on_evaluation=lambda record: logger.info(
                "step %d: validation accuracy %.4f", record["step"], record["accuracy"]
            ),
            description=f"GradNet {name}",
        )
        before = evaluate(base, problem.gradnet_half)["accuracy"]
        fitted = fit_and_save(
            base,
            problem.gradnet_half,
            recipe,
            path,
            seed=self.seed,
            callbacks=callbacks,
            about={"seed": self.seed},
        )
        accuracy = fitted.history.best["accuracy"]
        path.with_suffix(".pt.part").unlink(missing_ok=True)
        print(f"validation accuracy: base {before:.4f}, GradNet {accuracy:.4f}")
        print(path)
