"""The study of a network that is trained already: its GradNets and its controls.

The same comparison as :mod:`gradnet.experiments.gradnet_study` makes on each of its
snapshots, on a network of the user's own.
"""

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from torch import Tensor, nn

from gradnet.checkpoints.fingerprint import layers_fingerprint, weights_fingerprint
from gradnet.checkpoints.network_check import check_classes, logits_of
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.classifier.recipes import RECIPES, Recipe
from gradnet.core.constraints import Length, Name
from gradnet.core.evaluation_mode import check_evaluation_mode
from gradnet.core.reproducibility import (
    environment,
    hardware,
    isolated_randomness,
)
from gradnet.core.settings import to_plain
from gradnet.core.text import reason_of
from gradnet.core.validation import Positive, Seed, Validated
from gradnet.data.network_inputs import NetworkInputs
from gradnet.data.unseen import UnseenData
from gradnet.errors import InvalidInputError
from gradnet.experiments.base_comparison import BaseComparison, cut_to_epochs
from gradnet.experiments.controls import ControlSettings, check_controls
from gradnet.experiments.results import Row, read_rows
from gradnet.experiments.run_folder import RunFolder
from gradnet.training.loop import TrainingSettings

# Batches are no larger than this part of the training samples: of small data an epoch
# then still has several steps, and few samples are left out at its end.
LEAST_STEPS_PER_EPOCH = 10
LEAST_BATCH = 8
RATES = (1e-3, 1e-4)
# Samples that a GradNet sees, each as often as it is seen, and bounds of the passes.
USUAL_SAMPLES = 12_000
EPOCHS = (3.0, 30.0)


@dataclass(frozen=True)
class NetworkStudySettings(Validated):
    """What a study of a trained network compares.

    Attributes:
        recipes: name -> recipe; the controls see as many samples as the first.
        controls: how they are trained; None leaves them out.
        rates: learning rates that each control is tried at, to take the one that is
            best on the validation samples; empty takes that of ``controls``.
        seeds: everything is repeated for each, on the same network.
        max_epochs: cuts the recipes' steps to so many passes over their samples; None
            takes :func:`usual_epochs`.
    """

    recipes: Mapping[Name, Recipe] = field(
        default_factory=lambda: {"default": RECIPES["default"]}
    )
    controls: ControlSettings | None = field(default_factory=ControlSettings)
    rates: Annotated[tuple[Positive, ...], Length(0, 100)] = RATES
    seeds: tuple[Seed, ...] = (0,)
    max_epochs: Positive | None = None


class NetworkStudy:
    """A study of a trained network in its run folder.

    Args:
        network: inputs to logits ``(N, K)``; it is copied, and never changed.
        data: what it has not seen, on its device; see
            :func:`gradnet.data.unseen.split_unseen`.
        settings: what is compared.
        folder: the run folder; made when it is missing.
        seen: what was said of the network, for the record.
        accept_differences: continue runs that were begun in another environment.

    Raises:
        InvalidInputError: the network fails on the data, or has another number of
            logits than they have classes; no recipe or no seed is given; or the folder
            holds results of another network or of other data.
    """

    def __init__(
        self,
        network: nn.Module,
        data: UnseenData,
        settings: NetworkStudySettings,
        folder: str | Path,
        *,
        seen: str,
        accept_differences: bool = False,
    ) -> None:
        if not settings.recipes or not settings.seeds:
            raise InvalidInputError("a study needs at least one recipe and one seed")
        self.network = copy_of(network)
        self.data, self.settings = data, settings
        with isolated_randomness():
            self._check(data)
        device = data.samples.images.device
        self.folder = RunFolder(
            folder,
            {
                "study": "network",
                "seen": seen,
                "problem": {**data.identity, **describe_inputs(data)},
                "network": type(network).__qualname__,
                "layers": layers_fingerprint(self.network),
                "weights": weights_fingerprint(self.network),
                "trained_on": data.source,
                "train_samples": len(data.samples.train),
                "validation_samples": len(data.samples.validation),
                "test_samples": len(data.test.evaluation),
            },
            hardware(device),
            where=environment(device),
            accept_differences=accept_differences,
        )

    def _check(self, data: UnseenData) -> None:
        """Refuse, before any work, what would fail in the midst of it."""
        check_fit(self.network, data)
        if self.settings.controls is not None:
            check_controls(self.network, data.samples)
        self.recipes = {
            name: self._suited(recipe) for name, recipe in self.settings.recipes.items()
        }
        for recipe in self.recipes.values():
            GradNetPredictor(self.network, recipe, data.samples.num_classes)

    def running(self) -> AbstractContextManager[None]:
        """Keep other processes from this study's seeds; see RunFolder.running."""
        return self.folder.running(*(f"seed-{seed}" for seed in self.settings.seeds))

    def run(self) -> list[Row]:
        """Do every run that is not finished yet.

        Returns:
            All rows of the run folder, with those of earlier calls.

        Raises:
            BusyError: another process is at one of the seeds.
        """
        settings = self.settings
        control = None
        if settings.controls is not None:
            control = self._small_batches(settings.controls.training)
        comparison = BaseComparison(
            self.folder,
            self.data.samples,
            self.data.test,
            self.recipes,
            control,
            settings.rates,
        )
        with self.running():
            for seed in settings.seeds:
                comparison.run(seed, None, self.network)
            return read_rows(self.folder.path)

    def _suited(self, recipe: Recipe) -> Recipe:
        """The recipe, with batches and steps that suit the data and the network."""
        if not any(p.requires_grad for p in self.network.parameters()):
            # A frozen network is read as a whole; its GradNet says so in its file.
            recipe = replace(recipe, layers=recipe.layers or ("*",))
        training = self._small_batches(recipe.training)
        recipe = replace(recipe, training=training)
        count = len(self.data.samples.train)
        return cut_to_epochs(
            recipe, self.settings.max_epochs or usual_epochs(count), count
        )

    def _small_batches(self, training: TrainingSettings) -> TrainingSettings:
        count = len(self.data.samples.train)
        most = min(count, max(LEAST_BATCH, count // LEAST_STEPS_PER_EPOCH))
        return replace(training, batch_size=min(training.batch_size, most))


def usual_epochs(count: int) -> float:
    """Passes over ``count`` samples where none are asked for.

    Many over few samples, few over many: a first answer takes minutes for a ResNet-18
    on two cores.

    >>> [usual_epochs(count) for count in (200, 2000, 50_000)]
    [30.0, 6.0, 3.0]
    """
    least, most = EPOCHS
    return min(most, max(least, USUAL_SAMPLES / count))


def copy_of(network: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode, which shares nothing with it.

    Raises:
        InvalidInputError: it cannot be copied, or it normalizes by the batch in any
            mode.
    """
    memo: dict[int, Any] = {}
    for layer in network.modules():
        for value in vars(layer).values():
            # Computed in an earlier forward pass, and kept; deepcopy takes leaves only.
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        copied = copy.deepcopy(network, memo)
    except Exception as error:  # whatever the user's classes raise
        raise InvalidInputError(
            f"the network cannot be copied ({reason_of(error)}); give one that "
            "copy.deepcopy copies"
        ) from error
    copied.eval()
    copied.zero_grad(set_to_none=True)
    check_evaluation_mode(copied)
    return copied


def check_fit(network: nn.Module, data: UnseenData) -> None:
    """Check that a network takes the data, and has a logit for each class.

    Raises:
        InvalidInputError: it does not.
    """
    samples = data.samples
    for images, labels in ((samples.images, samples), (data.test.images, data.test)):
        logits = logits_of(network, labels.augmentation.evaluate(images[:1]))
        check_classes(logits, samples.num_classes)
    generator = torch.Generator(samples.images.device).manual_seed(0)
    samples.augmentation.train(samples.images[:1], generator)


def describe_inputs(data: UnseenData) -> dict[str, Any]:
    """How the inputs are prepared and augmented, in values that can be compared."""
    transform = cast(NetworkInputs, data.samples.augmentation)
    prepare = transform.prepare
    name = f"{prepare.__module__}.{getattr(prepare, '__qualname__', '')}"
    is_settings = is_dataclass(prepare) and not isinstance(prepare, type)
    return {
        "preparation": to_plain(asdict(prepare)) if is_settings else name,  # type: ignore[call-overload]
        "augmentation": {"flip": transform.flip, "shift": transform.shift},
    }
