"""Controls: what the base itself makes of the images that GradNet is trained on.

``last-layer`` retrains the base's last layer, ``fine-tuned`` trains all of it; both on
the same half, on the same number of samples seen, as the GradNet beside them.
"""

import copy
from dataclasses import dataclass, field, replace

from torch import nn

from gradnet.core.validation import Validated
from gradnet.data.problem import Samples
from gradnet.gradients.layout import BlockLayout
from gradnet.training.loop import Callbacks, History, TrainingSettings, fit
from gradnet.training.supervised import SupervisedTask

CONTROLS = ("last-layer", "fine-tuned")


@dataclass(frozen=True)
class ControlSettings(Validated):
    """How the controls are trained; their number of steps follows from GradNet's.

    Attributes:
        training: optimizer and rate; ``steps`` is set to see as many samples as the
            GradNet that they stand beside.
    """

    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            optimizer="adamw", learning_rate=1e-3, schedule="cosine"
        )
    )


def train_control(
    name: str,
    base: nn.Module,
    samples: Samples,
    training: TrainingSettings,
    *,
    seed: int = 0,
    callbacks: Callbacks | None = None,
) -> tuple[nn.Module, History]:
    """Train a copy of the base network, or of its last layer, further.

    Args:
        name: one of :data:`CONTROLS`.
        base: left as it is.
        samples: those that GradNet is trained on.
        training: see :class:`~gradnet.training.loop.TrainingSettings`.
        seed: of order and augmentation.
        callbacks: see :class:`~gradnet.training.loop.Callbacks`.

    Returns:
        The copy, with its best weights on the validation part, and what was done.
    """
    model = copy.deepcopy(base)
    last = BlockLayout.of(model, layers="*").names[-1]
    for parameter_name, parameter in model.named_parameters():
        layer = parameter_name.rpartition(".")[0]
        parameter.requires_grad_(name == "fine-tuned" or layer == last)
    task = SupervisedTask(model, samples, training.batch_size, seed)
    callbacks = callbacks or Callbacks()
    history = fit(
        task,
        training,
        seed=seed,
        callbacks=replace(callbacks, identity={**callbacks.identity, "control": name}),
    )
    return model, history
