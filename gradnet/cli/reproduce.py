"""``gradnet reproduce``: a whole study, from the data to the table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from gradnet.classifier.recipes import Recipe
from gradnet.cli.arguments import load_recipe
from gradnet.cli.options import print_table, run_folder
from gradnet.core.constraints import Length, PathText
from gradnet.core.files import write_text
from gradnet.core.validation import Positive, Seeds
from gradnet.data.problem import ProblemSettings, make_problem
from gradnet.errors import GradnetError
from gradnet.experiments.base_network import BaseSettings
from gradnet.experiments.controls import CONTROLS, ControlSettings
from gradnet.experiments.gradnet_study import Study, StudySettings


@dataclass(frozen=True)
class Reproduce(BaseSettings, ProblemSettings):
    """Train base networks, GradNets and controls; write the table and the figure.

    Stop it whenever you like: the same command continues. Levels, seeds and recipes can
    be added to a run folder later.

    Example:
        gradnet reproduce --data digits --levels 0.7 0.9 --seeds 0 1

    Attributes:
        recipes: names (default, gradnet2018) or YAML files of recipes; the controls
            see as many samples as the first.
        controls: further training of the last layer alone and of the whole base; null
            leaves them out.
        seeds: the study is repeated for each.
        max_epochs: cuts the recipes' steps to so many passes over their half of the
            images; for small data and quick tries.
        accept_differences: continue a stopped run also where torch, gradnet, the number
            of threads or the device are others than when it began.
        out: the run folder; default: runs/ and the name of the data.
    """

    recipes: Annotated[list[PathText], Length(1, 1000)] = field(
        default_factory=lambda: ["default"]
    )
    controls: ControlSettings | None = field(default_factory=ControlSettings)
    seeds: Seeds = field(default_factory=lambda: [0])
    max_epochs: Positive | None = None
    accept_differences: bool = False
    out: PathText | None = None

    def run(self, config: str) -> None:
        """Do every run that is not finished yet, and print the table."""
        settings = StudySettings(
            base=self,
            recipes=name_recipes(self.recipes),
            controls=self.controls,
            seeds=tuple(self.seeds),
            max_epochs=self.max_epochs,
        )
        folder = run_folder(self.data, self.out)
        study = Study(make_problem(self), settings, folder, self.accept_differences)
        with study.running():
            write_text(folder / "config.yaml", config)
            study.run()
            print_table(folder)


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
