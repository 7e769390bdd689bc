"""Rules for the channels of functions' and methods' results, by name."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import fx

from gradnet.surgery.channels.calls import (
    Call,
    FixedChannels,
    normalize_dimensions,
    shape_of,
)
from gradnet.surgery.channels.streams import Layout, Obstacle, concatenated, flattened

Rule = Callable[[Call], Layout]

# Functions of one tensor, or of several that broadcast.
ELEMENTWISE = frozenset(
    "abs add alpha_dropout bfloat16 celu clamp clip clone contiguous cos detach div "
    "double dropout dropout1d dropout2d dropout3d elu erf exp expm1 "
    "feature_alpha_dropout float ge gelu gt half hardshrink hardsigmoid hardswish "
    "hardtanh iadd imul isub itruediv le leaky_relu log log1p logsigmoid lt maximum "
    "minimum mish mul multiply neg negative positive pow relu relu6 rrelu rsqrt rsub "
    "selu sigmoid silu sin softplus softshrink softsign sqrt square stochastic_depth "
    "sub subtract tanh tanhshrink threshold to true_divide truediv where".split()
)
SPATIAL = re.compile(r"(adaptive_)?(avg|max|lp)_pool[123]d|interpolate|upsample")


def function_channels(call: Call) -> Layout:
    """The layout of a function's result.

    Raises:
        FixedChannels: no rule covers the function, or it fixes the channels.
    """
    if call.name in ELEMENTWISE:
        return elementwise(call)
    if SPATIAL.fullmatch(call.name):
        return spatial(call, call.name)
    if call.name not in RULES:
        raise call.unsupported()
    return RULES[call.name](call)


def elementwise(call: Call) -> Layout:
    """Elementwise functions: all inputs and the result have the same channels."""
    rank = len(call.shape)
    result = None
    for tensor in call.tensors:
        layout, shape = call.layouts[tensor], shape_of(tensor)
        if layout is None:
            continue
        aligned = replace(layout, axis=layout.axis + rank - len(shape))
        if shape[layout.axis] != call.shape[aligned.axis]:
            reason = f"{call} broadcasts one channel to several"
            call.streams.obstruct(layout, Obstacle(reason))
        elif result is None:
            result = aligned
        elif not call.streams.join(result, aligned):
            raise FixedChannels(f"{call} combines tensors whose channels do not match")
    if result is None:
        raise call.unsupported()
    for tensor in call.tensors:
        shape = shape_of(tensor)
        axis = result.axis - rank + len(shape)
        if call.layouts[tensor] is None and axis >= 0 and shape[axis] != 1:
            raise FixedChannels(f"{call} combines them with {_described(tensor)}")
    return result


def spatial(call: Call, name: str) -> Layout:
    """Pooling and the like over the last 1, 2 or 3 dimensions, or all but two."""
    digits = re.search(r"([123])d", name)
    dimensions = int(digits[1]) if digits else len(call.shape) - 2
    if call.layout.axis >= len(call.shape) - dimensions:
        raise call.unsupported()
    return call.layout


def flatten(call: Call, start: int, end: int) -> Layout:
    """Flatten: each channel becomes a block of adjacent entries."""
    layout = flattened(call.layout, shape_of(call.tensor), start, end)
    if layout is None:
        raise call.unsupported()
    return layout


def softmax(call: Call, dimension: int | None) -> Layout:
    """Softmax and other functions that normalize over one dimension."""
    axis = (1 if dimension is None else dimension) % len(call.shape)
    return call.mixed() if call.layout.axis == axis else call.layout


def _described(node: fx.Node) -> str:
    if node.op == "placeholder":
        return f"the network's input {node.target!r}, whose channels are fixed"
    if node.op == "get_attr":
        return f"{node.target!r}, a parameter or buffer outside of a supported layer"
    return f"node {node.name!r}, whose channels are fixed"


def _padding(call: Call) -> Layout:
    sizes = call.argument(1, "pad")
    if call.layout.axis >= len(call.shape) - len(sizes) // 2:
        raise call.unsupported()
    return call.layout


def _reduction(call: Call) -> Layout:
    layout, dimensions = call.layout, call.argument(1, "dim")
    if dimensions is None:
        raise call.unsupported()
    reduced = normalize_dimensions(dimensions, len(shape_of(call.tensor)))
    if layout.axis in reduced:
        raise call.unsupported()
    if call.argument(2, "keepdim"):
        return layout
    return replace(layout, axis=layout.axis - sum(d < layout.axis for d in reduced))


def _squeeze(call: Call) -> Layout:
    layout, shape = call.layout, shape_of(call.tensor)
    dimensions = call.argument(1, "dim", range(len(shape)))
    squeezed = [
        d for d in normalize_dimensions(dimensions, len(shape)) if shape[d] == 1
    ]
    if layout.axis in squeezed:
        raise call.unsupported()
    return replace(layout, axis=layout.axis - sum(d < layout.axis for d in squeezed))


def _unsqueeze(call: Call) -> Layout:
    (new,) = normalize_dimensions(call.argument(1, "dim"), len(call.shape))
    return replace(call.layout, axis=call.layout.axis + (new <= call.layout.axis))


def _concatenation(call: Call) -> Layout:
    dimension = call.argument(1, "dim", 0) % len(call.shape)
    layouts = []
    for tensor in call.argument(0, "tensors"):
        layout = call.layouts[tensor]
        if layout is None:
            layout = call.streams.start(dimension, shape_of(tensor)[dimension])
            reason = f"{call} combines them with {_described(tensor)}"
            call.streams.obstruct(layout, Obstacle(reason))
        layouts.append(layout)
    if all(layout.axis == dimension for layout in layouts):
        return concatenated(layouts)
    if not all(call.streams.join(layouts[0], layout) for layout in layouts[1:]):
        raise call.unsupported()
    return layouts[0]


def _reshape(call: Call) -> Layout:
    """A flatten, or a change of trailing dimensions, without a fixed channel number."""
    layout, old, new = call.layout, shape_of(call.tensor), call.shape
    sizes = call.node.args[1:] or (call.argument(1, "shape"),)
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = tuple(sizes[0])
    free = len(sizes) > 1 and (sizes[1] == -1 or isinstance(sizes[1], fx.Node))
    if layout.axis == 1 and free and old[0] == new[0]:
        if old[1] == new[1]:
            return layout
        if len(new) == 2:
            return flatten(call, 1, -1)
    written = ", ".join(str(size) for size in sizes)
    raise FixedChannels(
        f"node {call.node.name!r} is a fixed reshape, {call.name}({written}); use "
        "flatten(1) instead"
    )


RULES: Mapping[str, Rule] = {
    "amax": _reduction,
    "amin": _reduction,
    "cat": _concatenation,
    "concat": _concatenation,
    "flatten": lambda call: flatten(
        call, call.argument(1, "start_dim", 0), call.argument(2, "end_dim", -1)
    ),
    "local_response_norm": Call.mixed,
    "log_softmax": lambda call: softmax(call, call.argument(1, "dim")),
    "mean": _reduction,
    "normalize": lambda call: softmax(call, call.argument(2, "dim", 1)),
    "pad": _padding,
    "reshape": _reshape,
    "softmax": lambda call: softmax(call, call.argument(1, "dim")),
    "squeeze": _squeeze,
    "sum": _reduction,
    "unsqueeze": _unsqueeze,
    "view": _reshape,
}
