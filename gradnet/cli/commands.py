"""What each command of the command line takes and does: one dataclass a command."""

from collections.abc import Mapping, Sequence

from gradnet.cli.arguments import parse
from gradnet.cli.check import Check
from gradnet.cli.evaluate import Evaluate
from gradnet.cli.extract import Extract
from gradnet.cli.fit import Fit
from gradnet.cli.grow import run_grow
from gradnet.cli.import_weights import ImportWeights
from gradnet.cli.inspect import Inspect
from gradnet.cli.options import Command
from gradnet.cli.recipe import PrintRecipe
from gradnet.cli.reproduce import Reproduce
from gradnet.cli.table import Table
from gradnet.cli.train_base import TrainBase


def run(name: str, arguments: Sequence[str]) -> None:
    """Parse a command's arguments and run it.

    Args:
        name: a key of :data:`CLASSES`.
        arguments: what follows it on the command line.

    Raises:
        GradnetError: something is wrong with what the user gave.
    """
    if name == "grow":  # its options depend on the method that is named first
        run_grow(arguments)
        return
    command, config = parse(CLASSES[name], f"gradnet {name}", arguments)
    command.run(config)


CLASSES: Mapping[str, type[Command]] = {
    "reproduce": Reproduce,
    "train-base": TrainBase,
    "fit": Fit,
    "evaluate": Evaluate,
    "table": Table,
    "check": Check,
    "extract": Extract,
    "inspect": Inspect,
    "import-weights": ImportWeights,
    "recipe": PrintRecipe,
}
