"""``gradnet table``: the table and the figure of a run folder, written again."""

from dataclasses import dataclass
from pathlib import Path

from gradnet.cli.options import print_table
from gradnet.core.constraints import PathText
from gradnet.core.validation import Validated


@dataclass(frozen=True)
class Table(Validated):
    """Rewrite table.csv, table.md and table.png of a run folder, and print the table.

    Example:
        gradnet table runs/digits

    Attributes:
        folder: the run folder.
    """

    folder: PathText

    def run(self, config: str) -> None:
        """Write and print."""
        print_table(Path(self.folder))
