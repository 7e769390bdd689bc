"""Optimal Brain Damage (LeCun, Denker and Solla 1990) for cascade networks.

A unit's weights are trained only while it is a candidate, so that some of them are
redundant in the final network. Unlike in the paper, saliencies use the exact
Gauss-Newton diagonal, and held-out errors decide when to stop.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gradnet.constructive.cascade.candidates import PlainUnits
from gradnet.constructive.cascade.network import CascadeNetwork
from gradnet.core.reproducibility import isolated_randomness
from gradnet.curvature.diagonal import gauss_newton_diagonal
from gradnet.errors import InvalidInputError
from gradnet.growth.saliency import prune_lowest, weight_saliencies
from gradnet.models.activations import activation
from gradnet.surgery.masks import masks_of, with_masks, without_masks

# With 10 or 30 steps, close to the minimum, networks overfitted: fewer weights could be
# deleted, and there were more errors on test samples.
RETRAINING_STEPS = 3


class CascadeModule(nn.Module):
    """One trial's network as a module of linear layers: ``(N, D)`` to ``(N, K)``.

    Args:
        inputs: ``D``.
        outputs: ``K``.
        activations: names of the hidden units' activation functions, in order.
        output: name of the outputs' activation function.
    """

    def __init__(
        self, inputs: int, outputs: int, activations: Sequence[str], output: str
    ) -> None:
        super().__init__()
        self.activations, self.output = tuple(activations), output
        self.units = nn.ModuleList(
            nn.Linear(inputs + before, 1) for before in range(len(activations))
        )
        self.head = nn.Linear(inputs + len(activations), outputs)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs."""
        for name, unit in zip(self.activations, self.units, strict=True):
            x = torch.cat([x, activation(name).value(unit(x))], 1)
        return activation(self.output).value(self.head(x))


@torch.no_grad()
def to_module(network: CascadeNetwork, trial: int = 0) -> CascadeModule:
    """One trial's network as a module, with copied weights.

    Args:
        network: with hidden units of the kind ``PlainUnits`` only.
        trial: index of the trial.

    Returns:
        The module, in evaluation mode.

    Raises:
        InvalidInputError: a group has units other than
            :class:`~gradnet.constructive.cascade.candidates.PlainUnits`.
    """
    kinds, names, rows = [], [], []
    for kind in network.groups:
        if type(kind) is not PlainUnits:  # not a subclass, as recurrent units are
            raise InvalidInputError(
                f"the network has {type(kind).__name__}; only networks of PlainUnits "
                "can be converted to a module"
            )
        kinds.append(kind)
    for unit in network.units[: int(network.hidden[trial])]:
        group = int(unit.group[trial])
        kind = kinds[group]
        names.append(kind.activations[int(unit.member[trial]) % len(kind.activations)])
        rows.append(unit.weights[group][trial])
    outputs = network.output_weights()[trial]
    features = outputs.shape[1] - 1 - len(network.units)
    outputs = outputs[:, : 1 + features + len(names)]
    with isolated_randomness():
        module = CascadeModule(features, len(outputs), names, network.output)
    module.to(outputs)
    for layer, row in zip(module.units, rows, strict=True):
        _load(layer, row[None])
    _load(module.head, outputs)
    return module.eval()


def _load(layer: nn.Module, weights: Tensor) -> None:
    """Set a linear layer to weights ``(H, 1 + I)``, the biases first."""
    layer.load_state_dict({"bias": weights[:, 0], "weight": weights[:, 1:]})


def prune(
    module: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    fraction: float,
    is_acceptable: Callable[[nn.Module], bool],
    patience: int = 5,
) -> nn.Module:
    """Delete the weights of lowest saliency and retrain the others, round by round.

    The saliency of weight ``u`` is ``h u^2 / 2``, with ``h`` from the exact
    Gauss-Newton diagonal of the squared error. All remaining weights are
    retrained, including those of hidden units.

    Args:
        module: in evaluation mode; not modified.
        inputs: ``(N, D)``.
        targets: ``(N, K)``.
        fraction: of the remaining weights, deleted in each round; at least one weight.
        is_acceptable: called with the network after each round; whether to accept it.
        patience: stop after this many consecutive rounds that were not accepted. A
            round whose retraining diverges also stops.

    Returns:
        The network of the last accepted round, with deleted weights at zero; the given
        one if no round was accepted.

    Raises:
        InvalidInputError: the fraction is not between 0 and 1, or targets are missing.
    """
    if not 0 < fraction < 1:
        raise InvalidInputError(f"the fraction to prune is {fraction}; give 0 < it < 1")
    if targets.isnan().any():
        raise InvalidInputError(
            "targets are NaN; prune on samples without missing targets"
        )
    # Connections that never existed (limited fan-in) count as deleted.
    kept = {n: module.get_parameter(n) != 0 for n in masks_of(module)}
    accepted, waited = module, 0
    while waited < patience and (remaining := sum(int(m.sum()) for m in kept.values())):
        scores = weight_saliencies(
            module, gauss_newton_diagonal(module, inputs, "squared_error")
        )
        kept = prune_lowest(scores, kept, max(fraction, 1 / remaining))
        masked = with_masks(module, kept)
        _retrain(masked, inputs, targets)
        module = without_masks(masked)
        if not all(weight.isfinite().all() for weight in module.parameters()):
            break
        if is_acceptable(module):
            accepted, waited = module, 0
        else:
            waited += 1
    return accepted


def _retrain(module: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """A few steps of L-BFGS on the squared error of all samples."""
    optimizer = torch.optim.LBFGS(
        module.parameters(), max_iter=RETRAINING_STEPS, line_search_fn="strong_wolfe"
    )

    def error() -> Tensor:
        optimizer.zero_grad()
        loss = (module(inputs) - targets).square().sum(1).mean()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(error)
