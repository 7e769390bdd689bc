"""Controls: what the base itself makes of the images that GradNet is trained on.

``last-layer`` retrains the base's last layer, ``fine-tuned`` trains all of it; both on
the same half, on the same number of samples seen, as the GradNet beside them.
"""

import copy
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from gradnet.checkpoints.network_check import logits_of
from gradnet.core.validation import Validated
from gradnet.data.problem import Samples
from gradnet.errors import InvalidInputError
from gradnet.gradients.layout import BlockLayout
from gradnet.training.loop import Callbacks, History, TrainingSettings, fit
from gradnet.training.supervised import SupervisedTask, set_training_mode

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
    model = _make_control(name, base, samples)
    task = SupervisedTask(model, samples, training.batch_size, seed)
    callbacks = callbacks or Callbacks()
    history = fit(
        task,
        training,
        seed=seed,
        callbacks=replace(callbacks, identity={**callbacks.identity, "control": name}),
    )
    return model, history


def check_controls(base: nn.Module, samples: Samples) -> None:
    """Check, before any work, that controls can be trained.

    In training mode some networks return more than logits, such as auxiliary ones.

    Args:
        base: left as it is.
        samples: see :func:`train_control`.

    Raises:
        InvalidInputError: they cannot.
    """
    for name in CONTROLS:
        model = _make_control(name, base, samples)
        set_training_mode(model)
        try:
            logits_of(model, _two(samples))
        except InvalidInputError as error:
            raise InvalidInputError(
                f"in training mode, {error}; or leave out the controls (--controls "
                "null)"
            ) from None


def _make_control(name: str, base: nn.Module, samples: Samples) -> nn.Module:
    """A copy of the base, of which only what the control trains is trainable."""
    model = copy.deepcopy(base)
    model.requires_grad_(name == "fine-tuned")
    if name == "last-layer":
        last_layer(model, _two(samples)).requires_grad_(True)
    return model


def _two(samples: Samples) -> Tensor:
    images = samples.images[samples.train[:2].to(samples.images.device)]
    return samples.augmentation.evaluate(images)


def last_layer(model: nn.Module, x: Tensor) -> nn.Module:
    """The layer that makes the logits: the last one with a weight that is called.

    The order in which a network names its layers need not be that of its calls. Where
    no layer is called, the last one that is named.

    Args:
        model: inputs to logits.
        x: inputs ``(N, ...)``.
    """
    called: list[nn.Module] = []

    def record(layer: nn.Module, *_: object) -> None:
        called.append(layer)

    handles = [
        layer.register_forward_hook(record)
        for layer in model.modules()
        if _has_weight(layer)
    ]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    if called:
        return called[-1]
    return model.get_submodule(BlockLayout.of(model, layers="*").names[-1])


def _has_weight(layer: nn.Module) -> bool:
    weight = getattr(layer, "weight", None)
    return isinstance(weight, Tensor) and weight.dim() >= 2
