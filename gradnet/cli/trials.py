"""``gradnet grow METHOD --data two-spirals``: many trials on a classic problem."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gradnet.cli.arguments import option_value, parse_several
from gradnet.cli.option_files import check_option_file
from gradnet.constructive.cascade.settings import CascadeSettings, SpiralCascadeSettings
from gradnet.constructive.node_creation import NodeCreationSettings
from gradnet.core.constraints import PathText, Range
from gradnet.core.files import write_text
from gradnet.core.validation import Seed, Validated
from gradnet.data.toy_problems import classic_problem, is_classic
from gradnet.errors import InvalidInputError
from gradnet.experiments.tables import trials_to_markdown
from gradnet.experiments.trials import RUNNERS, TrialStudy


@dataclass(frozen=True)
class TrialSettings(Validated):
    """Which problem, and how often.

    Attributes:
        data: xor, parity-N, symmetry-N, encoder-N, addition-N, two-spirals, or monks-1
            to monks-3.
        trials: networks that are grown, all at once.
        seed: of the first trial; the next ones follow.
        out: the folder for table and figures; default: runs/ and the names of method
            and problem. Trials that are finished there are not done again; those of
            other options need another folder.
    """

    data: PathText = "two-spirals"
    trials: Annotated[int, Range(1, 10_000)] = 10
    seed: Seed = 0
    out: PathText | None = None


def asks_for_trials(arguments: Sequence[str]) -> bool:
    """Whether ``--data``, or the file of ``--config``, names a classic problem."""
    return is_classic(_data(arguments))


def run_trials(name: str, arguments: Sequence[str]) -> None:
    """Grow a network in each trial, unless it is done; print and write the table.

    Args:
        name: of the method.
        arguments: what follows it on the command line.

    Raises:
        GradnetError: the method does not run on classic problems, or an option is bad.
    """
    if name not in RUNNERS:
        raise InvalidInputError(
            f"{name} does not run on classic problems; these do: {', '.join(RUNNERS)}"
        )
    kind = _settings_of(name, _data(arguments))
    (method, settings), config = parse_several(
        [kind, TrialSettings], f"gradnet grow {name}", arguments
    )
    problem = classic_problem(settings.data)
    folder = Path(settings.out or f"runs/{name}-{settings.data}")
    study = TrialStudy(name, problem, folder, settings.trials, settings.seed)
    row = study.run(method)
    write_text(folder / "config.yaml", config)
    print(trials_to_markdown(row["trials"]))
    print(f"all trials together: {row['seconds']:.1f} s")
    print(f"pictures: {folder}")


def _settings_of(name: str, data: str) -> type:
    """The options of a method on a problem, with the defaults that suit it."""
    if name == "node-creation":
        return NodeCreationSettings
    is_spirals = data == "two-spirals"
    return SpiralCascadeSettings if is_spirals else CascadeSettings


def _data(arguments: Sequence[str]) -> str:
    """The data that are asked for; empty where none are."""
    config = option_value("--config", arguments)
    given = option_value("--data", arguments)
    if given or not config:
        return given or ""
    values = check_option_file(config)
    data = values.get("data") if isinstance(values, dict) else None
    return data if isinstance(data, str) else ""
