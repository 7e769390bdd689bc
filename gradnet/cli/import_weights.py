"""``gradnet import-weights``: a snapshot of weights that were trained elsewhere."""

import dataclasses
from dataclasses import dataclass

from gradnet.checkpoints.snapshots import save_snapshot
from gradnet.checkpoints.weights import load_weights
from gradnet.core.constraints import PathText
from gradnet.core.text import listed
from gradnet.data.problem import ProblemSettings, make_problem
from gradnet.errors import InvalidInputError
from gradnet.experiments.base_network import ModelSettings, describe_snapshot
from gradnet.models import MODELS, build_model
from gradnet.training.supervised import evaluate


@dataclass(frozen=True, kw_only=True)
class ImportWeights(ModelSettings, ProblemSettings):
    """Make a snapshot of weights that were trained elsewhere, for fit and evaluate.

    Example:
        gradnet import-weights --weights mine.pt --model mlp --out mine.safetensors

    Attributes:
        weights: a .safetensors, .pt or .pth file with a state dict of the model, or the
            .npz of a Chainer model or trainer snapshot.
        out: the snapshot's file; default: imported.safetensors.
    """

    weights: PathText
    out: PathText = "imported.safetensors"

    def run(self, config: str) -> None:
        """Read, validate, and save."""
        if self.model is not None and self.model not in MODELS:
            raise InvalidInputError(
                f"--model is {self.model!r}; a snapshot holds one of {listed(MODELS)}, "
                "since a file does not decide which code runs. Your own network needs "
                "no snapshot: give --checkpoint and --model to gradnet study, fit or "
                "evaluate"
            )
        problem = make_problem(self)
        name, arguments = self.model_name(problem), self.model_arguments(problem)
        model = build_model(name, **arguments)
        load_weights(self.weights, model)
        model.eval().to(problem.data.x_train.device)
        accuracy = evaluate(model, problem.base_half)["accuracy"]
        info = describe_snapshot(problem, name, arguments, seed=0)
        info = dataclasses.replace(info, level=accuracy, validation_accuracy=accuracy)
        save_snapshot(self.out, model, info)
        print(f"validation accuracy {accuracy:.4f}\n{self.out}")
