"""``gradnet table``: the table and the picture of a run folder, anew."""

from dataclasses import dataclass
from pathlib import Path

from gradnet.cli.options import print_table


@dataclass(frozen=True)
class Table:
    """Write table.csv, table.md and table.png of a run folder anew, and print it.

    Attributes:
        folder: the run folder.
    """

    folder: str

    def run(self, config: str) -> None:
        """Write and print."""
        print_table(Path(self.folder))
