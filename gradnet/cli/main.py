"""The entry point: Ctrl-C ends it in one line from the first moment.

Nothing is imported here before :func:`main` can catch the signal.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: "Sequence[str] | None" = None) -> None:
    """Run a command; invalid input is reported in one line, with exit status 2.

    Args:
        argv: the arguments; default: those of the process.
    """
    try:
        from gradnet.cli.command_line import run

        run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:  # before the command had begun
        print("\nstopped; nothing was done yet", file=sys.stderr)
        sys.exit(130)
