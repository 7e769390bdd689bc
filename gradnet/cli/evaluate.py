"""``gradnet evaluate``: a snapshot, and a GradNet beside it, on the test images."""

from dataclasses import dataclass

from gradnet.checkpoints.snapshots import load_snapshot
from gradnet.classifier.fit import evaluate_predictor
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.cli.options import DataSettings, problem_of
from gradnet.core.constraints import PathText
from gradnet.training.supervised import evaluate


@dataclass(frozen=True)
class Evaluate(DataSettings):
    """Measure the test accuracy of a snapshot, and of a GradNet that was read from it.

    Example:
        gradnet evaluate runs/digits/snapshots/seed-0/level-0.9.safetensors

    Attributes:
        snapshot: the base network's file.
        gradnet: the file of a GradNet that was read from it.
    """

    snapshot: PathText
    gradnet: PathText | None = None

    def run(self, config: str) -> None:
        """Print the test accuracies."""
        snapshot = load_snapshot(self.snapshot)
        problem = problem_of(snapshot, self)
        base = snapshot.model.to(problem.data.x_train.device)
        predictor = self.gradnet and GradNetPredictor.load(self.gradnet, base)
        count = len(problem.data.x_test)
        accuracy = evaluate(base, problem.test)["accuracy"]
        print(f"base network: {accuracy:.4f} of {count} test images")
        if predictor:
            found = evaluate_predictor(predictor, problem.test, "test images")
            print(f"GradNet:      {found['accuracy']:.4f} of {count} test images")
