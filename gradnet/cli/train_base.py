"""``gradnet train-base``: a base network and its snapshots."""

from dataclasses import dataclass

from gradnet.classifier.recipes import RECIPES
from gradnet.cli.options import run_folder
from gradnet.core.constraints import PathText
from gradnet.core.files import write_text
from gradnet.core.validation import Seed
from gradnet.data.problem import ProblemSettings, make_problem
from gradnet.experiments.base_network import BaseSettings
from gradnet.experiments.gradnet_study import Study, StudySettings


@dataclass(frozen=True)
class TrainBase(BaseSettings, ProblemSettings):
    """Train a base network, and save a snapshot when it first passes each level.

    Prints a level and the path of its snapshot on each line; give one to gradnet fit.

    Example:
        gradnet train-base --data digits --levels 0.7 0.9

    Attributes:
        seed: of weights, order and augmentation.
        accept_differences: continue a stopped run also where torch, gradnet, the number
            of threads or the device are others than when it began.
        out: the run folder; default: runs/ and the name of the data.
    """

    seed: Seed = 0
    accept_differences: bool = False
    out: PathText | None = None

    def run(self, config: str) -> None:
        """Train, and print where the snapshots are."""
        settings = StudySettings(self, RECIPES, seeds=(self.seed,))
        folder = run_folder(self.data, self.out)
        study = Study(make_problem(self), settings, folder, self.accept_differences)
        with study.running():
            write_text(folder / "config.yaml", config)
            reached = study.train_base(self.seed)
        for level, path in reached.items():
            print(f"{level:g}\t{path}")
