"""One call that studies a network of your own, on your own data."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradnet.checkpoints.inputs import InputPreparation
from gradnet.classifier.recipes import RECIPES, Recipe
from gradnet.data.datasets import ImageData, load_data
from gradnet.data.network_inputs import NetworkInputs, as_they_are
from gradnet.data.unseen import DataParts, Seen, split_unseen
from gradnet.errors import InvalidInputError
from gradnet.experiments.controls import CONTROLS, ControlSettings
from gradnet.experiments.network_study import (
    RATES,
    NetworkStudy,
    NetworkStudySettings,
)
from gradnet.experiments.reports import write_network_report
from gradnet.experiments.results import Row, read_rows, table_lock

Arrays = Mapping[str, tuple[Any, Any]]


def study_network(
    model: nn.Module,
    data: Arrays | ImageData | str | Path,
    *,
    seen: Seen,
    recipes: Sequence[str] | Mapping[str, Recipe] = ("default",),
    controls: ControlSettings | None = ControlSettings(),  # noqa: B008 (it is frozen)
    rates: Sequence[float] = RATES,
    seeds: Sequence[int] = (0,),
    max_epochs: float | None = None,
    prepare: Callable[[Tensor], Tensor] | None = None,
    flip: bool = False,
    shift: int = 0,
    num_classes: int | None = None,
    split_seed: int = 0,
    validation_fraction: float = 0.1,
    out: str | Path | None = None,
    accept_differences: bool = False,
) -> list[Row]:
    """Compare a trained network with its GradNets and with its own further training.

    All are trained on samples that the network has not seen, and tested once.

    Args:
        model: inputs to logits ``(N, K)``, on the device to work on. It is copied, and
            left exactly as it is.
        data: part (``train``, ``val``, ``test``) -> inputs ``(N, ...)`` and labels
            ``(N,)``, as the network takes them; or images: a data set of
            :func:`gradnet.data.load_data`, or its name or path.
        seen: which samples the network has been trained on: ``"train"`` (the train
            part; GradNet and the controls then take the ``val`` part of arrays, or a
            half of the test part) or ``"none"`` (none; they take the train part).
        recipes: names of :data:`gradnet.classifier.recipes.RECIPES`, or name -> recipe.
        controls: how the last layer is retrained and the whole network fine-tuned; None
            leaves both out.
        rates: learning rates that each control is tried at; the one that is best on the
            validation samples counts.
        seeds: everything is repeated for each, on the same network.
        max_epochs: most passes over the training samples; None takes as many as make
            12,000 samples, but 3 at least and 30 at most.
        prepare: maps a batch to inputs of the network; default: bytes of images are
            divided by 255, and arrays stay as they are. Floats take the type of the
            network's weights.
        flip: mirror half of the training images left to right.
        shift: move training images by up to so many pixels.
        num_classes: ``K`` of arrays; default: the largest label and one.
        split_seed: of the shuffles that divide the data.
        validation_fraction: of the training samples, that is held out.
        out: the run folder, where a stopped study continues and the table and the
            figure are written; None writes nothing.
        accept_differences: continue a run that was begun in another environment.

    Returns:
        The rows of the study: ``seed``, ``method``, ``test_accuracy``,
        ``validation_accuracy``, ``samples_seen``, ``parameters``, ...

    Raises:
        InvalidInputError: the network and the data do not fit each other, a part of
            the data is missing, or an argument is out of range.
        BusyError: another process is at one of the seeds in the folder.

    Example:
        >>> x = torch.randn(80, 4, generator=torch.Generator().manual_seed(0))
        >>> y = (x[:, 0] > 0).long()
        >>> data = {"train": (x[:40], y[:40]), "test": (x[40:], y[40:])}
        >>> rows = study_network(nn.Linear(4, 2), data, seen="none", max_epochs=2)
        >>> [row["method"] for row in rows]
        ['base', 'default', 'fine-tuned', 'last-layer']
    """
    if isinstance(data, str | Path):
        data = load_data(str(data))
    is_images = isinstance(data, ImageData)
    parts = (
        DataParts.of_data(data)
        if isinstance(data, ImageData)
        else DataParts.of_arrays(data, num_classes)
    )
    inputs = NetworkInputs(
        prepare or (InputPreparation() if is_images else as_they_are),
        dtype_of(model),
        flip,
        shift,
    )
    unseen = split_unseen(
        parts.to(device_of(model)), seen, inputs, split_seed, validation_fraction
    )
    settings = NetworkStudySettings(
        recipes=_by_name(recipes),
        controls=controls,
        rates=tuple(rates),
        seeds=tuple(seeds),
        max_epochs=max_epochs,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary if out is None else out)
        study = NetworkStudy(
            model,
            unseen,
            settings,
            folder,
            seen=seen,
            accept_differences=accept_differences,
        )
        rows = study.run()
        if out is not None:
            with table_lock(folder):
                write_network_report(read_rows(folder), folder, folder.resolve().name)
    return rows


def device_of(model: nn.Module) -> torch.device:
    """Where a network's weights are; the CPU for one without weights."""
    found = next((p for p in model.parameters()), None)
    return torch.device("cpu") if found is None else found.device


def dtype_of(model: nn.Module) -> torch.dtype | None:
    """The type of a network's weights; None for one without weights."""
    floats = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next(floats, None)


def _by_name(recipes: Sequence[str] | Mapping[str, Recipe]) -> Mapping[str, Recipe]:
    if isinstance(recipes, Mapping):
        found = recipes
    else:
        if unknown := [name for name in recipes if name not in RECIPES]:
            raise InvalidInputError(
                f"no recipe {unknown[0]!r}; give one of {', '.join(RECIPES)}, or a "
                "mapping from a name of yours to a Recipe"
            )
        found = {name: RECIPES[name] for name in recipes}
    if taken := [name for name in found if name in ("base", *CONTROLS)]:
        raise InvalidInputError(
            f"a recipe has the name {taken[0]!r}, which the table has already; give "
            "another"
        )
    return found
