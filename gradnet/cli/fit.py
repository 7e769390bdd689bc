"""``gradnet fit``: a GradNet on the gradients of a network."""

import logging
from dataclasses import dataclass
from pathlib import Path

from gradnet.checkpoints.fingerprint import weights_fingerprint
from gradnet.classifier.recipes import Recipe
from gradnet.cli.arguments import load_recipe
from gradnet.cli.unseen_source import Source, SourceSettings, load_source
from gradnet.core.constraints import PathText
from gradnet.core.files import remove_stale_parts
from gradnet.core.locks import LockedFile
from gradnet.core.validation import Seed
from gradnet.experiments.fitting import fit_and_save, is_fitted
from gradnet.training.loop import Callbacks
from gradnet.training.supervised import evaluate

logger = logging.getLogger("gradnet")

BUSY = "another process is making this file; wait for it to end, or name another --out"


@dataclass(frozen=True, kw_only=True)
class Fit(SourceSettings):
    r"""Train a GradNet on the gradients of a snapshot, or of your own network.

    It is trained on images that the base network has not seen: of a snapshot's data the
    other half, of your own those that --seen leaves.

    Example:
        gradnet fit runs/digits/snapshots/seed-0/level-0.9.safetensors --recipe default

        gradnet fit --checkpoint my.pt --model package.module:factory \
            --data my-images/ --seen none --out my-gradnet.safetensors

    Attributes:
        recipe: a name (default, gradnet2018) or the YAML file of a recipe.
        seed: of weights, order, augmentation and random labels.
        accept_differences: continue a stopped run also where torch, gradnet, the number
            of threads or the device are others than when it began.
        out: the GradNet's file; default: beside the snapshot or the checkpoint, named
            after the recipe.
    """

    recipe: PathText = "default"
    seed: Seed = 0
    accept_differences: bool = False
    out: PathText | None = None

    def run(self, config: str) -> None:
        """Train, save, and print the validation accuracy."""
        beside = Path(self.snapshot or self.checkpoint or "network").with_suffix("")
        path = Path(self.out or f"{beside}-{self._name}")
        path = path if path.suffix == ".safetensors" else Path(f"{path}.safetensors")
        recipe, source = load_recipe(self.recipe), load_source(self)
        path.parent.mkdir(parents=True, exist_ok=True)
        with LockedFile(path.with_name(f"{path.name}.lock"), wait=False, busy=BUSY):
            self._fit(path, recipe, source)

    @property
    def _name(self) -> str:
        return Path(self.recipe).stem

    def _fit(self, path: Path, recipe: Recipe, source: Source) -> None:
        base, identity = source.base, source.identity
        checkpoint = path.with_suffix(".pt.part")
        if is_fitted(path, base, recipe, seed=self.seed, identity=identity):
            clean(path, checkpoint)
            print(f"{path}: done before; remove it to train again")
            return
        callbacks = Callbacks(
            checkpoint=checkpoint,
            identity={**identity, **source.origin},
            inputs={"base": weights_fingerprint(base)},
            on_evaluation=lambda record: logger.info(
                "step %d: validation accuracy %.4f", record["step"], record["accuracy"]
            ),
            description=f"GradNet {self._name}",
            accept_differences=self.accept_differences,
        )
        before = evaluate(base, source.samples)["accuracy"]
        fitted = fit_and_save(
            base,
            source.samples,
            recipe,
            path,
            seed=self.seed,
            callbacks=callbacks,
            about={},
        )
        accuracy = fitted.history.best["accuracy"]
        clean(path, checkpoint)
        print(f"validation accuracy: base {before:.4f}, GradNet {accuracy:.4f}")
        print(path)


def clean(path: Path, checkpoint: Path) -> None:
    """Remove what a finished run needs no more, and what killed ones left."""
    checkpoint.unlink(missing_ok=True)
    for file in (path, checkpoint):
        remove_stale_parts(file.parent, file.name)
