"""Streams: sets of tensors that share their channels, by union-find.

The channels of a stream are the units of one layer, or of several layers whose outputs
are added. They can only change in all tensors at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

Role = Literal["producer", "carrier", "consumer"]


@dataclass(frozen=True)
class ChannelSlice:
    """Where the channels of a stream are in the parameters and buffers of a layer.

    Attributes:
        layer: its name.
        role: whether the layer outputs the channels (``producer``), has one entry for
            each of them, such as BatchNorm (``carrier``), or takes them as input
            (``consumer``).
        dimension: of the layer's tensors.
        offset: index of the first channel along the dimension.
        repeat: number of adjacent indices of each channel; more than one after a
            flatten.
    """

    layer: str
    role: Role
    dimension: int
    offset: int = 0
    repeat: int = 1


@dataclass(frozen=True)
class Obstacle:
    """Why the channels of a stream cannot change in number.

    Attributes:
        reason: for the message, with the remedy.
        copies_only: whether it only prevents copies of channels that preserve the
            function.
    """

    reason: str
    copies_only: bool = False


@dataclass(frozen=True)
class Segment:
    """The channels of one stream in a tensor.

    Attributes:
        stream: its number.
        channels: how many.
        repeat: number of adjacent indices of each channel.
    """

    stream: int
    channels: int
    repeat: int = 1


@dataclass(frozen=True)
class Layout:
    """The channels of a tensor.

    Attributes:
        axis: the dimension of the channels.
        segments: their streams, concatenated along the axis.
    """

    axis: int
    segments: tuple[Segment, ...]


class Streams:
    """All streams of a network."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._slices: list[list[ChannelSlice]] = []
        self._obstacles: list[list[Obstacle]] = []

    def start(self, axis: int, channels: int) -> Layout:
        """The layout of a tensor with the channels of a new stream."""
        self._parents.append(len(self._parents))
        self._slices.append([])
        self._obstacles.append([])
        return Layout(axis, (Segment(self._parents[-1], channels),))

    def join(self, one: Layout, other: Layout) -> bool:
        """Join the streams of two tensors; False if their layouts do not match."""
        sizes = [[(s.channels, s.repeat) for s in t.segments] for t in (one, other)]
        if one.axis != other.axis or sizes[0] != sizes[1]:
            return False
        for left, right in zip(one.segments, other.segments, strict=True):
            kept, merged = self._root(left.stream), self._root(right.stream)
            if kept != merged:
                self._parents[merged] = kept
                self._slices[kept] += self._slices[merged]
                self._obstacles[kept] += self._obstacles[merged]
        return True

    def record(self, layout: Layout, layer: str, role: Role, dimension: int) -> None:
        """Record that a dimension of a layer's tensors has the channels of a layout."""
        offset = 0
        for segment in layout.segments:
            channels = ChannelSlice(layer, role, dimension, offset, segment.repeat)
            self._slices[self._root(segment.stream)].append(channels)
            offset += segment.channels * segment.repeat

    def obstruct(self, layout: Layout, obstacle: Obstacle) -> None:
        """Record why the channels of a layout cannot change in number."""
        for segment in layout.segments:
            self._obstacles[self._root(segment.stream)].append(obstacle)

    def of(self, layer: str) -> list[tuple[list[ChannelSlice], list[Obstacle]]]:
        """Slices and obstacles of each stream that a layer produces or carries."""
        return [
            (slices, self._obstacles[stream])
            for stream, slices in enumerate(self._slices)
            if self._root(stream) == stream
            and any(p.layer == layer and p.role != "consumer" for p in slices)
        ]

    def _root(self, stream: int) -> int:
        while self._parents[stream] != stream:
            stream = self._parents[stream]
        return stream


def flattened(
    layout: Layout, shape: tuple[int, ...], start: int, end: int
) -> Layout | None:
    """The layout after a flatten of dimensions ``start`` to ``end``.

    None where the channels are not the outermost of those dimensions.
    """
    start, end = start % len(shape), end % len(shape)
    if layout.axis < start:
        return layout
    if layout.axis > end:
        return Layout(layout.axis - (end - start), layout.segments)
    outer = prod(shape[start : layout.axis])
    if layout.axis > start and (start == 0 or outer > 1):
        return None
    inner = prod(shape[layout.axis + 1 : end + 1])
    segments = tuple(replace(s, repeat=s.repeat * inner) for s in layout.segments)
    return Layout(start, segments)


def concatenated(layouts: Iterable[Layout]) -> Layout:
    """The layout of tensors concatenated along their channels."""
    layouts = list(layouts)
    segments = tuple(segment for layout in layouts for segment in layout.segments)
    return Layout(layouts[0].axis, segments)
