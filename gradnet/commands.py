"""What each command of the command line takes and does: one dataclass a command."""

import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gradnet.arguments import load_recipe, parse, to_yaml
from gradnet.base_network import BaseSettings, ModelSettings, describe_snapshot
from gradnet.classifier import evaluate_predictor, fit_gradnet
from gradnet.controls import CONTROLS, ControlSettings
from gradnet.errors import GradnetError
from gradnet.files import sha256, write_text
from gradnet.foreign import load_weights
from gradnet.models import build_model
from gradnet.predictor import GradNetPredictor
from gradnet.problem import (
    AugmentationSettings,
    Problem,
    ProblemSettings,
    SplitSettings,
    make_problem,
)
from gradnet.recipes import RECIPES, Recipe
from gradnet.report import to_markdown, write_report
from gradnet.run_folder import read_rows
from gradnet.snapshots import Snapshot, load_snapshot, save_snapshot
from gradnet.study import Study, StudySettings
from gradnet.supervised import evaluate
from gradnet.training import Watch

logger = logging.getLogger("gradnet")


class Command(Protocol):
    """A command's options, and what it does with them."""

    def run(self, config: str) -> None:
        """Do it; ``config`` is the YAML of all options."""


@dataclass(frozen=True)
class Reproduce(BaseSettings, ProblemSettings):
    """Train base networks, GradNets and controls; write the table and the picture.

    Attributes:
        recipes: names (default, gradnet2018) or YAML files of recipes; the controls
            see as many samples as the first.
        controls: how the last layer alone and the whole base are trained further;
            null leaves them out.
        seeds: everything is done once for each.
        most_epochs: cuts the recipes' steps to so many passes over their half of the
            images; for small data and quick looks.
        out: the run folder; default: runs/ and the name of the data. Levels, seeds
            and recipes may be added to a folder later.
    """

    recipes: list[str] = field(default_factory=lambda: ["default"])
    controls: ControlSettings | None = field(default_factory=ControlSettings)
    seeds: list[int] = field(default_factory=lambda: [0])
    most_epochs: float | None = None
    out: str | None = None

    def run(self, config: str) -> None:
        """Do what is not done yet, and print the table."""
        settings = StudySettings(
            base=self,
            recipes=name_recipes(self.recipes),
            controls=self.controls,
            seeds=tuple(self.seeds),
            most_epochs=self.most_epochs,
        )
        folder = default_folder(self)
        study = Study(make_problem(self), settings, folder)
        write_text(folder / "config.yaml", config)
        study.run()
        Table(str(folder)).run(config)


@dataclass(frozen=True)
class TrainBase(BaseSettings, ProblemSettings):
    """Train a base network, and save a snapshot when it first passes each level.

    Attributes:
        seed: of weights, order and augmentation.
        out: the run folder; default: runs/ and the name of the data.
    """

    seed: int = 0
    out: str | None = None

    def run(self, config: str) -> None:
        """Train, and print where the snapshots are."""
        settings = StudySettings(self, RECIPES, seeds=(self.seed,))
        folder = default_folder(self)
        study = Study(make_problem(self), settings, folder)
        write_text(folder / "config.yaml", config)
        for level, path in study.train_base(self.seed).items():
            print(f"{level:g}\t{path}")


@dataclass(frozen=True)
class Fit:
    """Train a GradNet on the gradients of a snapshot.

    Attributes:
        snapshot: the base network's file, made by train-base or import-weights.
        recipe: a name (default, gradnet2018) or the YAML file of a recipe.
        data: default: the data set that the snapshot names.
        root: folder of the files that torchvision downloads.
        download: fetch what is missing.
        device: cpu, cuda, or auto.
        seed: of weights, order, augmentation and random labels.
        out: the GradNet's file; default: beside the snapshot, named after the recipe.
    """

    snapshot: str
    recipe: str = "default"
    data: str | None = None
    root: str = "data"
    download: bool = False
    device: str = "auto"
    seed: int = 0
    out: str | None = None

    def run(self, config: str) -> None:
        """Train, save, and print the validation accuracy."""
        recipe, name = load_recipe(self.recipe), Path(self.recipe).stem
        snapshot = load_snapshot(self.snapshot)
        path = Path(self.out or f"{Path(self.snapshot).with_suffix('')}-{name}")
        path = path if path.suffix == ".safetensors" else Path(f"{path}.safetensors")
        if path.exists():
            if GradNetPredictor.load(path, snapshot.model).recipe != recipe:
                raise GradnetError(
                    f"{path} was made by another recipe; name another file with --out"
                )
            print(f"{path}: done before; remove it to train anew")
            return
        problem = problem_of(snapshot, self)
        base = snapshot.model.to(problem.data.x_train.device)
        watch = Watch(
            checkpoint=path.with_suffix(".pt.part"),
            identity={**problem.identity, "snapshot": sha256(self.snapshot)},
            on_record=lambda record: logger.info(
                "step %d: validation accuracy %.4f", record["step"], record["accuracy"]
            ),
            description=f"GradNet {name}",
        )
        before = evaluate(base, problem.gradnet_half)["accuracy"]
        predictor, history = fit_gradnet(
            base, problem.gradnet_half, recipe, seed=self.seed, watch=watch
        )
        accuracy = history.best["accuracy"]
        predictor.save(path, validation_accuracy=accuracy, seed=self.seed)
        path.with_suffix(".pt.part").unlink(missing_ok=True)
        print(f"validation accuracy: base {before:.4f}, GradNet {accuracy:.4f}")
        print(path)


@dataclass(frozen=True)
class Evaluate:
    """Test a snapshot on the test images, centre crops, and a GradNet beside it.

    Attributes:
        snapshot: the base network's file.
        gradnet: the file of a GradNet that was read from it.
        data: default: the data set that the snapshot names.
        root: folder of the files that torchvision downloads.
        download: fetch what is missing.
        device: cpu, cuda, or auto.
    """

    snapshot: str
    gradnet: str | None = None
    data: str | None = None
    root: str = "data"
    download: bool = False
    device: str = "auto"

    def run(self, config: str) -> None:
        """Print the test accuracies."""
        snapshot = load_snapshot(self.snapshot)
        problem = problem_of(snapshot, self)
        base = snapshot.model.to(problem.data.x_train.device)
        predictor = self.gradnet and GradNetPredictor.load(self.gradnet, base)
        count = len(problem.data.x_test)
        accuracy = evaluate(base, problem.test)["accuracy"]
        print(f"base network: {accuracy:.4f} of {count} test images")
        if predictor:
            found = evaluate_predictor(predictor, problem.test, "test images")
            print(f"GradNet:      {found['accuracy']:.4f} of {count} test images")


@dataclass(frozen=True)
class Table:
    """Write table.csv, table.md and table.png of a run folder anew, and print it.

    Attributes:
        folder: the run folder.
    """

    folder: str

    def run(self, config: str) -> None:
        """Write and print."""
        folder = Path(self.folder)
        summary = write_report(read_rows(folder), folder, folder.resolve().name)
        print(to_markdown(summary))
        print(f"picture: {folder / 'table.png'}")


@dataclass(frozen=True, kw_only=True)
class ImportWeights(ModelSettings, ProblemSettings):
    """Make a snapshot of weights that were trained elsewhere, for fit and evaluate.

    Attributes:
        weights: a .safetensors, .pt or .pth file with a state dict of the model, or the
            .npz of a Chainer model or trainer snapshot.
        out: the snapshot's file; default: imported.safetensors.
    """

    weights: str
    out: str = "imported.safetensors"

    def run(self, config: str) -> None:
        """Read, validate, and save."""
        problem = make_problem(self)
        name, arguments = self.model_name(problem), self.model_arguments(problem)
        model = load_weights(self.weights, build_model(name, **arguments))
        model = model.to(problem.data.x_train.device)
        accuracy = evaluate(model, problem.base_half)["accuracy"]
        info = describe_snapshot(problem, name, arguments, seed=0)
        info = dataclasses.replace(info, level=accuracy, validation_accuracy=accuracy)
        save_snapshot(self.out, model, info)
        print(f"validation accuracy {accuracy:.4f}\n{self.out}")


@dataclass(frozen=True)
class PrintRecipe:
    """Print a recipe as YAML; change it, and give the file to --recipe or --recipes.

    Attributes:
        name: default or gradnet2018, or a file to be checked and completed.
    """

    name: str

    def run(self, config: str) -> None:
        """Print it."""
        print(to_yaml(load_recipe(self.name)), end="")


CLASSES: Mapping[str, type[Command]] = {
    "reproduce": Reproduce,
    "train-base": TrainBase,
    "fit": Fit,
    "evaluate": Evaluate,
    "table": Table,
    "import-weights": ImportWeights,
    "recipe": PrintRecipe,
}


def run(name: str, arguments: Sequence[str]) -> None:
    """Parse a command's arguments and run it.

    Args:
        name: a key of :data:`CLASSES`.
        arguments: what follows it on the command line.

    Raises:
        GradnetError: something is wrong with what the user gave.
    """
    command, config = parse(CLASSES[name], f"gradnet {name}", arguments)
    command.run(config)


def name_recipes(names: Sequence[str]) -> dict[str, Recipe]:
    """Each recipe under the name of its row: its own, or that of its file.

    Raises:
        GradnetError: two have one name, or one has that of a control.
    """
    recipes: dict[str, Recipe] = {}
    for name in names:
        row = Path(name).stem
        if row in recipes or row in ("base", *CONTROLS):
            raise GradnetError(
                f"recipe {name!r}: the table has a row {row!r} already; name the file "
                "otherwise"
            )
        recipes[row] = load_recipe(name)
    return recipes


def default_folder(settings: Reproduce | TrainBase) -> Path:
    """The run folder: the one that is named, or one named after the data."""
    if settings.out is not None:
        return Path(settings.out)
    return Path("runs") / re.sub(r"\W+", "-", Path(settings.data).stem)


def problem_of(snapshot: Snapshot, settings: Fit | Evaluate) -> Problem:
    """The problem that a snapshot was trained on, with its split and augmentation.

    Raises:
        GradnetError: the data cannot be had, or do not fit the network.
    """
    info = snapshot.info
    augmentation = info.make_augmentation()
    problem = make_problem(
        ProblemSettings(
            data=settings.data or info.data,
            root=settings.root,
            download=settings.download,
            device=settings.device,
            split=SplitSettings(info.split_seed, info.validation_fraction),
            augmentation=AugmentationSettings(
                crop=augmentation.crop or 0,
                flip=augmentation.flip,
                contrast=list(augmentation.contrast or ()),
                whiten=augmentation.whiten,
            ),
        )
    )
    wanted = (info.arguments["in_channels"], info.arguments["image_size"])
    found = problem.input_shape[:2]
    if found != wanted or info.arguments["num_classes"] != problem.data.num_classes:
        raise GradnetError(
            f"{problem.data.name} does not fit the snapshot: it takes {wanted[0]} "
            f"channels, {wanted[1]} pixels, {info.arguments['num_classes']} classes; "
            f"the data have {found[0]}, {found[1]} and {problem.data.num_classes}"
        )
    if problem.data.fingerprint != info.data_fingerprint:
        logger.warning(
            "the snapshot was trained on other data than these (%s): its training "
            "images may be among those that count as unseen here",
            info.data,
        )
    return problem
