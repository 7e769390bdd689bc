"""``gradnet evaluate``: a network, and a GradNet beside it, on the test images."""

from dataclasses import dataclass

from gradnet.classifier.fit import evaluate_predictor
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.cli.unseen_source import SourceSettings, load_source
from gradnet.core.constraints import PathText
from gradnet.training.supervised import evaluate


@dataclass(frozen=True, kw_only=True)
class Evaluate(SourceSettings):
    r"""Measure the test accuracy of a network, and of a GradNet that was read from it.

    Example:
        gradnet evaluate runs/digits/snapshots/seed-0/level-0.9.safetensors

        gradnet evaluate --checkpoint my.pt --model package.module:factory \
            --data my-images/ --seen none --gradnet my-gradnet.safetensors

    Attributes:
        gradnet: the file of a GradNet that was read from it.
    """

    gradnet: PathText | None = None

    def run(self, config: str) -> None:
        """Print the test accuracies."""
        source = load_source(self)
        base, test = source.base, source.test
        predictor = self.gradnet and GradNetPredictor.load(self.gradnet, base)
        count = len(test.evaluation)
        accuracy = evaluate(base, test)["accuracy"]
        print(f"base network: {accuracy:.4f} of {count} test images")
        if predictor:
            found = evaluate_predictor(predictor, test, "test images")
            print(f"GradNet:      {found['accuracy']:.4f} of {count} test images")
