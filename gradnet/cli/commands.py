"""The table of commands: what each is for, and the class or function that runs it.

Nothing is imported before a command runs, so that ``gradnet --help`` does not wait for
torch.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CommandEntry:
    """A command.

    Attributes:
        text: one line for ``gradnet --help``.
        module: in this folder.
        name: of a settings dataclass with a ``run`` method, or of a function that takes
            the arguments.
    """

    text: str
    module: str
    name: str


COMMANDS: Mapping[str, CommandEntry] = {
    "reproduce": CommandEntry(
        "run a whole study: base networks, GradNets, controls, table and figure",
        "reproduce",
        "Reproduce",
    ),
    "study": CommandEntry(
        "compare your own network with its GradNets and with its further training",
        "study",
        "StudyNetwork",
    ),
    "train-base": CommandEntry(
        "train a base network, with a snapshot at each accuracy level",
        "train_base",
        "TrainBase",
    ),
    "fit": CommandEntry("train a GradNet on the gradients of a snapshot", "fit", "Fit"),
    "evaluate": CommandEntry(
        "measure the test accuracy of a snapshot, and of its GradNet",
        "evaluate",
        "Evaluate",
    ),
    "grow": CommandEntry(
        "let a network grow while it trains, by one of several methods",
        "grow",
        "run_grow",
    ),
    "table": CommandEntry(
        "rewrite the table and the figure of a run folder", "table", "Table"
    ),
    "check": CommandEntry(
        "compare the gradients of your own network with plain backward passes",
        "check",
        "Check",
    ),
    "extract": CommandEntry(
        "write the gradients of a network's images into a store", "extract", "Extract"
    ),
    "inspect": CommandEntry(
        "print what a store holds, and draw its norms", "inspect", "Inspect"
    ),
    "import-weights": CommandEntry(
        "make a snapshot of weights that were trained elsewhere",
        "import_weights",
        "ImportWeights",
    ),
    "recipe": CommandEntry(
        "print a recipe as YAML, to edit and to give to --recipe",
        "recipe",
        "PrintRecipe",
    ),
}


def run(name: str, arguments: Sequence[str]) -> None:
    """Parse a command's arguments and run it.

    Args:
        name: a key of :data:`COMMANDS`.
        arguments: what follows it on the command line.

    Raises:
        GradnetError: invalid input, or a file that cannot be used.
    """
    entry = COMMANDS[name]
    command = getattr(
        importlib.import_module(f"gradnet.cli.{entry.module}"), entry.name
    )
    from gradnet.cli.allocation import one_line_per_allocation

    if not isinstance(command, type):
        with one_line_per_allocation():
            command(arguments)
        return
    from gradnet.cli.arguments import parse
    from gradnet.cli.options import Command

    options: Command
    options, config = parse(command, f"gradnet {name}", arguments)
    with one_line_per_allocation():
        options.run(config)
