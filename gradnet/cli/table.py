"""``gradnet table``: the table and the figure of a run folder, written again."""

from dataclasses import dataclass
from pathlib import Path

from gradnet.cli.options import print_table
from gradnet.core.constraints import PathText
from gradnet.core.validation import Validated


@dataclass(frozen=True)
class Table(Validated):
    """Rewrite the tables and figures of a run folder, and print the table.

    It serves the folders of reproduce, of study and of grow. A result that is damaged
    is named and left out.

    Example:
        gradnet table runs/digits

    Attributes:
        folder: the run folder.
    """

    folder: PathText

    def run(self, config: str) -> None:
        """Write and print.

        Raises:
            InvalidInputError: the folder holds trials, which have no rows.
        """
        print_table(Path(self.folder))
