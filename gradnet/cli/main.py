"""The command line: finds the command, and loads nothing but what that one needs."""

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from gradnet import __version__
from gradnet.cli.process import one_line_per_failure

COMMANDS = {
    "reproduce": "the whole: base networks, GradNets, controls, table and picture",
    "train-base": "train a base network, with a snapshot at each accuracy level",
    "fit": "train a GradNet on the gradients of a snapshot",
    "evaluate": "test a snapshot, and a GradNet beside it",
    "grow": "let a network grow while it trains, by one of several methods",
    "table": "write the table and the picture of a run folder anew",
    "check": "compare the gradients of your own network with plain backward passes",
    "extract": "write the gradients of a network's images into a store",
    "inspect": "print what a store holds, and draw its norms",
    "import-weights": "make a snapshot of weights that were trained elsewhere",
    "recipe": "print a recipe as YAML, to change and to give to --recipe",
}

EPILOG = """\
gradnet COMMAND --help explains a command's options; every option can stand in a YAML
file given with --config, and --print_config writes such a file.

  gradnet reproduce                       digits, embedded: no download, two minutes
  gradnet reproduce --data cifar10.npz --levels 0.4 0.5 0.6 --seeds 0 1 2

A command that was stopped continues when it is given again; what is done is not done
again."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; exits with 2 on bad input, told in one line.

    Args:
        argv: the arguments; default: those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _make_parser()
    known = parser.parse_args(arguments[:1])
    if known.command is None:
        parser.print_help()
        return
    with one_line_per_failure(arguments):
        _start_logging()
        commands = importlib.import_module("gradnet.cli.commands")
        commands.run(known.command, arguments[1:])


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gradnet",
        description="Classify by the loss gradients of a trained network.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


def _start_logging() -> None:
    """INFO of this package to standard error; above a progress bar on a terminal."""
    handler: logging.Handler = logging.StreamHandler()
    if sys.stderr.isatty():
        from rich.logging import RichHandler

        from gradnet.core.progress import make_console

        handler = RichHandler(
            console=make_console(), show_level=False, show_time=False, show_path=False
        )
    logger = logging.getLogger("gradnet")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
