"""The command line: finds the command, and imports only what that one needs."""

import argparse
import logging
import sys
from collections.abc import Sequence

from gradnet import __version__
from gradnet.cli import commands
from gradnet.cli.commands import COMMANDS
from gradnet.cli.process import one_line_per_failure
from gradnet.core.text import one_line

EPILOG = """\
gradnet COMMAND --help explains a command and its options. Options can be written in a
YAML file, given with --config; --print_config prints such a file.

  gradnet reproduce                       digits, embedded: no download, two minutes
  gradnet reproduce --data cifar10.npz --levels 0.4 0.5 0.6 --seeds 0 1 2
  gradnet study --checkpoint my.pt --model package.module:factory --data my-images/

A stopped command continues when it is run again; finished work is not repeated."""


def run(arguments: Sequence[str]) -> None:
    """Run a command; invalid input is reported in one line, with exit status 2.

    Args:
        arguments: those of the process.
    """
    with one_line_per_failure(arguments):
        parser = _make_parser()
        known = parser.parse_args(arguments[:1])
        if known.command is None:
            parser.print_help()
            return
        _start_logging()
        commands.run(known.command, list(arguments[1:]))


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gradnet",
        description="Classify by the loss gradients of a trained network.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, entry in COMMANDS.items():
        subparsers.add_parser(name, help=entry.text, add_help=False)
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
    handler.setFormatter(_OneLine())
    logger = logging.getLogger("gradnet")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)


class _OneLine(logging.Formatter):
    """A message on one line, without escape codes from the names in it."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(record.getMessage())
