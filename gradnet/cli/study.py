"""``gradnet study``: a network of the user's own, from its checkpoint to the table."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from gradnet.cli.options import print_table, run_folder
from gradnet.cli.own_network import OwnNetworkSettings, load_own_network
from gradnet.cli.reproduce import name_recipes
from gradnet.core.constraints import Length, PathText
from gradnet.core.files import write_text
from gradnet.core.validation import Positive, Seeds
from gradnet.experiments.controls import ControlSettings
from gradnet.experiments.network_study import (
    RATES,
    NetworkStudy,
    NetworkStudySettings,
)


@dataclass(frozen=True, kw_only=True)
class StudyNetwork(OwnNetworkSettings):
    r"""Compare your own network with its GradNets, and with its own further training.

    A GradNet for each recipe, the last layer retrained, the whole network fine-tuned:
    all on images that the network has not seen, tested once. Writes table.md, table.csv
    and table.png. Images are prepared by --crop, --mean, --std and --whiten as your
    network was trained; nothing is random unless --flip or --shift say so.

    Stop it whenever you like: the same command continues. Seeds and recipes can be
    added to a run folder later.

    Example:
        gradnet study --checkpoint my.pt --model package.module:factory \
            --data my-images/ --seen none --mean 0.5 0.5 0.5 --std 0.2 0.2 0.2

    Attributes:
        recipes: names (default, gradnet2018) or YAML files of recipes; the controls
            see as many samples as the first.
        controls: further training of the last layer alone and of the whole network;
            null leaves them out.
        rates: learning rates that each control is tried at, to take the one that is
            best on the validation images; in place of controls.training.learning_rate.
        seeds: everything is repeated for each, on the same network.
        max_epochs: cuts the recipes' steps to so many passes over the training images;
            default: as many as make 12,000 images, but 3 at least and 30 at most.
        accept_differences: continue a stopped run also where torch, gradnet, the number
            of threads or the device are others than when it began.
        out: the run folder; default: runs/study- and the name of the data.
    """

    recipes: Annotated[list[PathText], Length(1, 1000)] = field(
        default_factory=lambda: ["default"]
    )
    controls: ControlSettings | None = field(default_factory=ControlSettings)
    rates: Annotated[list[Positive], Length(1, 100)] = field(
        default_factory=lambda: list(RATES)
    )
    seeds: Seeds = field(default_factory=lambda: [0])
    max_epochs: Positive | None = None
    accept_differences: bool = False
    out: PathText | None = None

    def run(self, config: str) -> None:
        """Do every run that is not finished yet, and print the table."""
        settings = NetworkStudySettings(
            recipes=name_recipes(self.recipes),
            controls=self.controls,
            rates=tuple(self.rates),
            seeds=tuple(self.seeds),
            max_epochs=self.max_epochs,
        )
        own = load_own_network(self)
        name = run_folder(self.data or str(self.checkpoint), None).name
        folder = Path(self.out or f"runs/study-{name}")
        study = NetworkStudy(
            own.network,
            own.data,
            settings,
            folder,
            seen=own.seen,
            accept_differences=self.accept_differences,
        )
        with study.running():
            write_text(folder / "config.yaml", config)
            study.run()
            print_table(folder)
