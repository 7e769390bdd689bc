"""``gradnet grow METHOD --data two-spirals``: many trials on a classic problem."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gradnet.cli.arguments import parse_several
from gradnet.constructive.cascade.settings import CascadeSettings, SpiralCascadeSettings
from gradnet.constructive.node_creation import NodeCreationSettings
from gradnet.core.files import save_figure, write_json, write_text
from gradnet.core.reproducibility import hardware, versions
from gradnet.data.toy_problems import classic_problem, is_classic
from gradnet.errors import GradnetError
from gradnet.experiments.trials import (
    Trials,
    TrialSettings,
    cascade_trials,
    node_creation_trials,
)
from gradnet.experiments.trials_report import (
    draw_decisions,
    draw_errors,
    write_trials,
)

MAX_MAPS = 8
DRAWN_TRIALS = 3

# Method -> how it runs on classic problems.
RUNNERS: Mapping[str, Callable[..., Trials]] = {
    "cascade-correlation": cascade_trials,
    "node-creation": node_creation_trials,
}


def asks_for_trials(arguments: Sequence[str]) -> bool:
    """Whether ``--data``, or the file of ``--config``, names a classic problem."""
    return is_classic(_data(arguments))


def run_trials(name: str, arguments: Sequence[str]) -> None:
    """Grow a network for each trial; print and write the table, draw the pictures.

    Args:
        name: of the method.
        arguments: what follows it on the command line.

    Raises:
        GradnetError: the method does not run on classic problems, or an option is bad.
    """
    if name not in RUNNERS:
        raise GradnetError(
            f"{name} does not run on classic problems; these do: {', '.join(RUNNERS)}"
        )
    kind = _settings_of(name, _data(arguments))
    (method, settings), config = parse_several(
        [kind, TrialSettings], f"gradnet grow {name}", arguments
    )
    problem = classic_problem(settings.data)
    if settings.trials < 1:
        raise GradnetError(f"trials is {settings.trials}; give at least one")
    seeds = range(settings.seed, settings.seed + settings.trials)
    trials = RUNNERS[name](problem, method, seeds)
    folder = Path(settings.out or f"runs/{name}-{settings.data}")
    write_text(folder / "config.yaml", config)
    facts = {
        "seconds": trials.seconds,
        "hardware": hardware(problem.inputs.device),
        "versions": versions(),
    }
    write_json(folder / "trials.json", {**facts, "trials": list(trials.rows)})
    title = f"{name}, {settings.data}"
    print(write_trials(trials.rows, folder, title))
    print(f"all trials together: {trials.seconds:.1f} s")
    _draw(trials, problem.inputs, problem.targets, folder, title)
    print(f"pictures: {folder}")


def _settings_of(name: str, data: str) -> type:
    """The options of a method on a problem, with the defaults that suit it."""
    if name == "node-creation":
        return NodeCreationSettings
    is_spirals = data == "two-spirals"
    return SpiralCascadeSettings if is_spirals else CascadeSettings


def _draw(trials: Trials, inputs: Any, targets: Any, folder: Path, title: str) -> None:
    if trials.errors:
        drawn = range(min(DRAWN_TRIALS, len(trials.rows)))
        save_figure(folder / "errors.png", draw_errors(trials.errors, drawn, title))
    outputs = trials.outputs
    if outputs is None or inputs.shape[1] != 2 or targets.shape[1] != 1:
        return
    units = int(trials.rows[0]["hidden_units"])
    count = min(units + 1, MAX_MAPS)
    shown = sorted({round(units * i / max(count - 1, 1)) for i in range(count)})
    figure = draw_decisions(
        lambda points, number: outputs(points, number)[0, :, 0],
        inputs,
        targets[:, 0],
        shown,
    )
    save_figure(folder / "decisions.png", figure)


def _data(arguments: Sequence[str]) -> str:
    """The data that are asked for; empty where none are."""
    config = Path(_option(arguments, "--config"))
    given = _option(arguments, "--data")
    if given or not config.is_file():
        return given
    try:
        values = yaml.safe_load(config.read_text())
    except yaml.YAMLError:  # told by the parser of options, with its place
        return given
    return str(values.get("data", "")) if isinstance(values, dict) else ""


def _option(arguments: Sequence[str], name: str) -> str:
    """The value of an option, given as one argument or as two; empty without it."""
    for index, argument in enumerate(arguments):
        if argument == name and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    return ""
