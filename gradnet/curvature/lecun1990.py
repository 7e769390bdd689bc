"""Second derivatives of every weight by one backward pass: LeCun's recursion of 1990.

Y. LeCun, J. S. Denker and S. A. Solla, Optimal Brain Damage, NIPS 2, 1990. Only the
diagonal is propagated from layer to layer, so that the result is exact for one hidden
layer with a squared error, and otherwise ignores cross terms between units of a layer.
"""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from gradnet.core.evaluation_mode import check_evaluation_mode
from gradnet.errors import InvalidInputError

ErrorName = Literal["cross_entropy", "squared_error"]

REMEDY = "gauss_newton_diagonal takes any network"
BATCH_SIZE = 250

# y_i = f(x_i), without parameters.
ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Tanhshrink, nn.Hardtanh),
    *(nn.Hardswish, nn.Softplus, nn.Softsign),
)
# Every output is one of the inputs, or zero.
ROUTING = (
    *(nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.ZeroPad1d, nn.ZeroPad2d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
POOLING = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)

# First and second derivatives of the error with respect to a layer's outputs. The first
# is None when the terms in f'' are left out, which alone need it.
Derivatives = tuple[Tensor | None, Tensor]


def recursive_diagonal(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    error: ErrorName = "cross_entropy",
    *,
    omit_activation_curvature: bool = False,
) -> dict[str, Tensor]:
    """The published estimate of the Hessian's diagonal, averaged over samples.

    With ``f`` a unit's activation, ``a`` its net input and ``E`` the error::

        output:  d2E/da2 of the error itself
        hidden:  d2E/da2 = f'(a)^2 sum_l w_l^2 d2E/da_l^2 + f''(a) dE/df(a)
        weight:  d2E/dw2 = d2E/da2 x^2, summed over the positions where w is used

    (The paper prints a minus before the last term of the second line; by the chain
    rule, and by its own first line, it is a plus.)

    Args:
        model: ``nn.Sequential``, nested or not, of linear and convolutional layers,
            BatchNorm on its statistics, activations and poolings, in evaluation mode.
        x: ``(N, ...)``.
        y: see :func:`as_targets`.
        error: see :func:`error_derivatives`.
        omit_activation_curvature: leave out the terms in ``f''``, as Levenberg and
            Marquardt do; the estimate is then never negative.

    Returns:
        Parameter name -> ``(*shape)``.

    Raises:
        InvalidInputError: the recursion is not defined for a layer, or a layer changes
            from call to call.
    """
    check_evaluation_mode(model)
    layers = list(_layers(model))
    names = {id(p): name for name, p in model.named_parameters()}
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for batch, labels in zip(x.split(BATCH_SIZE), y.split(BATCH_SIZE), strict=True):
        inputs = []
        with torch.no_grad():
            for _, layer in layers:
                inputs.append(batch)
                batch = layer(batch)
        slope, second = error_derivatives(error, batch, as_targets(labels, batch))
        derivatives = (None if omit_activation_curvature else slope), second
        for (name, layer), a in zip(reversed(layers), reversed(inputs), strict=True):
            found, derivatives = _rule(name, layer)(layer, a, *derivatives)
            for leaf, second in found.items():
                sums[names[id(layer.get_parameter(leaf))]] += second
    return {name: total / len(x) for name, total in sums.items()}


def as_targets(y: Tensor, logits: Tensor) -> Tensor:
    """Targets ``(N, K)``: one-hot from labels ``(N,)``, or as given.

    Args:
        y: integer labels ``(N,)`` or targets ``(N, K)``.
        logits: ``(N, K)``, whose shape and dtype the targets get.

    Returns:
        ``(N, K)``.

    Raises:
        InvalidInputError: ``y`` is neither ``N`` labels nor ``(N, K)`` targets.
    """
    if y.dim() == 1 and not y.is_floating_point() and len(y) == len(logits):
        return functional.one_hot(y, logits.shape[1]).to(logits.dtype)
    if y.shape != logits.shape:
        raise InvalidInputError(
            f"targets are {tuple(y.shape)} for outputs {tuple(logits.shape)}; give "
            "integer labels (N,) or targets of the outputs' shape"
        )
    return y.to(logits.dtype)


def error_derivatives(
    error: ErrorName, logits: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """First and second derivatives of each sample's error with respect to its logits.

    Args:
        error: ``cross_entropy`` of the softmax, or ``squared_error``, summed over the
            outputs and without a half, as in the paper.
        logits: ``(N, K)``.
        targets: ``(N, K)``.

    Returns:
        The gradient and the diagonal of the Hessian, both ``(N, K)``.

    Raises:
        InvalidInputError: ``error`` is unknown.
    """
    if error == "squared_error":
        return 2 * (logits - targets), torch.full_like(logits, 2)
    if error == "cross_entropy":
        p = logits.softmax(1)
        return p - targets, p * (1 - p)
    raise InvalidInputError(
        f"no error {error!r}; there are: cross_entropy, squared_error"
    )


def _layers(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers in the order in which they are called, with their names."""
    if not isinstance(model, nn.Sequential):
        yield prefix or "model", model
    elif type(model).forward is not nn.Sequential.forward:
        kind = type(model).__name__
        raise InvalidInputError(
            f"{kind} overrides forward, which the recursion cannot follow; {REMEDY}"
        )
    else:
        for name, layer in model.named_children():
            yield from _layers(layer, f"{prefix}.{name}" if prefix else name)


# Second derivatives by parameter name, and both derivatives at the layer's input.
RuleResult = tuple[dict[str, Tensor], Derivatives]
# Takes the layer, its input, and both derivatives at its output.
Rule = Callable[[nn.Module, Tensor, Tensor | None, Tensor], RuleResult]


def _rule(name: str, layer: nn.Module) -> Rule:
    rules: tuple[tuple[tuple[type, ...], Rule], ...] = (
        ((nn.Linear, _ConvNd), _through_linear),
        ((_BatchNorm,), _through_norm),
        (ELEMENTWISE, _through_elementwise),
        (ROUTING, _through_routing),
        ((*POOLING, *ADAPTIVE), _through_mean),
    )
    rule = next((r for kinds, r in rules if isinstance(layer, kinds)), None)
    if rule is None:
        raise InvalidInputError(
            f"the recursion has no rule for layer {name!r} ({type(layer).__name__}); "
            f"{REMEDY}"
        )
    return rule


def _pulled_back(
    call: Callable[[Tensor], Tensor], a: Tensor, cotangent: Tensor
) -> Tensor:
    with torch.enable_grad():
        a = a.detach().requires_grad_()
        return torch.autograd.grad(call(a), a, cotangent)[0]


def _through_linear(
    layer: nn.Module, a: Tensor, slope: Tensor | None, second: Tensor
) -> RuleResult:
    """The rule of first derivatives, with squared weights and squared inputs."""
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    with torch.enable_grad():
        squares = {name: p.square().requires_grad_() for name, p in parameters.items()}
        of_input = a.square().requires_grad_()
        outputs = functional_call(layer, squares, (of_input,))
        wanted = [*squares.values(), of_input]
        *found, second = torch.autograd.grad(outputs, wanted, second)
    slope = None if slope is None else _pulled_back(layer, a, slope)
    return dict(zip(squares, found, strict=True)), (slope, second)


def _through_norm(
    layer: nn.Module, a: Tensor, slope: Tensor | None, second: Tensor
) -> RuleResult:
    """In evaluation mode, BatchNorm is a scale and a shift of each channel."""
    assert isinstance(layer, _BatchNorm)
    assert layer.running_mean is not None and layer.running_var is not None
    shape = [1, -1] + [1] * (a.dim() - 2)
    others = [d for d in range(a.dim()) if d != 1]
    scale = (layer.running_var + layer.eps).rsqrt().reshape(shape)
    normalized = (a - layer.running_mean.reshape(shape)) * scale
    found = {}
    if layer.affine:
        found["weight"] = (second * normalized.square()).sum(others)
        found["bias"] = second.sum(others)
        scale = scale * layer.weight.detach().reshape(shape)
    slope = None if slope is None else slope * scale
    return found, (slope, second * scale.square())


def _through_elementwise(
    layer: nn.Module, a: Tensor, slope: Tensor | None, second: Tensor
) -> RuleResult:
    layer = copy.copy(layer)
    vars(layer).update(
        inplace=False
    )  # the input is needed again for the second derivative
    with torch.enable_grad():
        a = a.detach().requires_grad_()
        curved = slope is not None
        f1 = torch.autograd.grad(layer(a).sum(), a, create_graph=curved)[0]
        second = f1.detach().square() * second
        if slope is None:
            return {}, (None, second)
        if f1.requires_grad:
            f2 = torch.autograd.grad(f1.sum(), a, materialize_grads=True)[0]
            second = second + f2 * slope
    return {}, (f1.detach() * slope, second)


def _through_routing(
    layer: nn.Module, a: Tensor, slope: Tensor | None, second: Tensor
) -> RuleResult:
    slope = None if slope is None else _pulled_back(layer, a, slope)
    return {}, (slope, _pulled_back(layer, a, second))


def _through_mean(
    layer: nn.Module, a: Tensor, slope: Tensor | None, second: Tensor
) -> RuleResult:
    """Each of ``k`` inputs has weight ``1 / k``; second derivatives take its square."""
    input_size, output_size = a.shape[2:], second.shape[2:]
    size: list[int]
    if isinstance(layer, POOLING):
        kernel = layer.kernel_size
        size = [kernel] * len(input_size) if isinstance(kernel, int) else list(kernel)
        padding = layer.padding if isinstance(layer.padding, tuple) else [layer.padding]
        is_uniform = not any(padding) and not layer.ceil_mode
        is_uniform = is_uniform and not getattr(layer, "divisor_override", None)
    else:
        size = [i // o for i, o in zip(input_size, output_size, strict=True)]
        is_uniform = all(
            i % o == 0 for i, o in zip(input_size, output_size, strict=True)
        )
    if not is_uniform:
        raise InvalidInputError(
            f"the recursion has no rule for {layer} on inputs of size "
            f"{tuple(input_size)}: its means are over different numbers of inputs; "
            f"{REMEDY}"
        )
    _, (slope, second) = _through_routing(layer, a, slope, second)
    return {}, (slope, second / math.prod(size))
