"""``gradnet check``: a network's gradients against plain backward passes."""

from dataclasses import asdict, dataclass
from typing import Annotated

import pandas as pd
import torch

from gradnet.checkpoints.inputs import to_network
from gradnet.cli.options import NetworkSettings, load_network
from gradnet.core.constraints import Range
from gradnet.core.text import one_line
from gradnet.core.validation import NonNegative
from gradnet.errors import GradnetError
from gradnet.gradients.gradcheck import compare_engines, default_tolerance

# A backward pass a sample and label: of many classes, so many are enough.
MAX_LABELS = 10


@dataclass(frozen=True, kw_only=True)
class Check(NetworkSettings):
    """Compare the gradients of your own network with plain backward passes.

    Prints the largest relative difference of each layer. Run it once before you extract
    gradients of a network that gradnet does not know.

    Example:
        gradnet check --model torchvision:resnet18 --data images.npz

    Attributes:
        samples: number of images to compare on, from the first.
        layers: name patterns of the layers to compare; default: all trainable ones.
        biases: compare the biases too.
        tolerance: largest relative error that passes; the default depends on the type
            of the numbers: 1e-4 in float32.
    """

    samples: Annotated[int, Range(1, 100_000)] = 4
    layers: list[str] | None = None
    biases: bool = True
    tolerance: NonNegative | None = None

    def run(self, config: str) -> None:
        """Print a table of the layers; the first that disagrees is an error."""
        network, inputs = load_network(self)
        x = to_network(network, inputs, slice(0, self.samples))
        with torch.no_grad():
            num_logits = network(x[:1]).shape[-1]
        count = min(num_logits, MAX_LABELS)
        spread = torch.linspace(0, num_logits - 1, count).round().long()
        labels = spread.expand(len(x), -1).to(x.device)
        rows = compare_engines(network, x, labels, self.layers, self.biases)
        table = pd.DataFrame([asdict(row) for row in rows])
        table["block"] = table["block"].map(one_line)
        print(table.to_string(index=False, float_format="{:.3g}".format))
        tolerance = self.tolerance
        if tolerance is None:
            tolerance = default_tolerance(x.dtype)
        wrong = [row for row in rows if row.error > tolerance]
        if wrong:
            raise GradnetError(
                f"layer {wrong[0].block!r} disagrees with plain backward passes: "
                f"relative error {wrong[0].error:.2g}, tolerance {tolerance:g} "
                f"({len(wrong)} of {len(rows)} layers disagree)"
            )
        print(
            f"all {len(rows)} layers agree with plain backward passes on {len(x)} "
            f"samples and {count} labels each, to {tolerance:g}"
        )
