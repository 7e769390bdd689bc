"""``gradnet table``: the table and the figure of a run folder, written again."""

from dataclasses import dataclass
from pathlib import Path

from gradnet.cli.options import print_growth_table, print_table
from gradnet.core.constraints import PathText
from gradnet.core.validation import Validated
from gradnet.errors import InvalidInputError
from gradnet.experiments.results import read_rows


@dataclass(frozen=True)
class Table(Validated):
    """Rewrite the tables and figures of a run folder, and print the table.

    It serves the folders of reproduce and of grow. A result that is damaged is named
    and left out.

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
        folder = Path(self.folder)
        rows = read_rows(folder)
        if any("level" in row for row in rows):
            print_table(folder)
        elif any("training_flops" in row for row in rows):
            print_growth_table(folder)
        else:
            raise InvalidInputError(
                f"{folder} holds trials on a classic problem; the same gradnet grow "
                "writes their table again, without doing them again"
            )
