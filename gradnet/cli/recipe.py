"""``gradnet recipe``: a recipe as YAML."""

from dataclasses import dataclass

from gradnet.cli.arguments import load_recipe, to_yaml
from gradnet.core.constraints import PathText
from gradnet.core.validation import Validated


@dataclass(frozen=True)
class PrintRecipe(Validated):
    """Print a recipe as YAML; edit it, and give the file to --recipe or --recipes.

    Example:
        gradnet recipe default > mine.yaml

    Attributes:
        name: default or gradnet2018, or a file to be checked and completed.
    """

    name: PathText

    def run(self, config: str) -> None:
        """Print it."""
        print(to_yaml(load_recipe(self.name)), end="")
