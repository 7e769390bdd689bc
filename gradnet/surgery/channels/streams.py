"""Streams: sets of tensors that share one list of channels, found by joining.

A stream must be resized everywhere at once: the units of one layer, or of several whose
outputs are added.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

Role = Literal["producer", "carrier", "consumer"]


@dataclass(frozen=True)
class ChannelSlice:
    """Where the channels of a stream lie in the tensors of a layer.

    Attributes:
        layer: its name.
        role: whether the layer makes the channels, keeps something for each of them,
            or reads them.
        dimension: of the layer's tensors.
        offset: the index of the first channel.
        repeat: the number of adjacent indices of each channel; more than one after a
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
        reason: what is in the way, and the remedy.
        copies_only: an obstacle only to copies of channels that must preserve the
            function.
    """

    reason: str
    copies_only: bool = False


@dataclass(frozen=True)
class Segment:
    """The channels of one stream within a tensor."""

    stream: int
    channels: int
    repeat: int = 1


@dataclass(frozen=True)
class Layout:
    """The channels of a tensor: along ``axis``, one segment after the other."""

    axis: int
    segments: tuple[Segment, ...]


class Streams:
    """All streams of a network."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._slices: list[list[ChannelSlice]] = []
        self._obstacles: list[list[Obstacle]] = []

    def start(self, axis: int, channels: int) -> Layout:
        """A tensor whose channels are those of a new stream."""
        self._parents.append(len(self._parents))
        self._slices.append([])
        self._obstacles.append([])
        return Layout(axis, (Segment(self._parents[-1], channels),))

    def join(self, one: Layout, other: Layout) -> bool:
        """Make the channels of two tensors the same; False where they do not match."""
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
        """Note that a dimension of a layer's tensors has the channels of a tensor."""
        offset = 0
        for segment in layout.segments:
            channels = ChannelSlice(layer, role, dimension, offset, segment.repeat)
            self._slices[self._root(segment.stream)].append(channels)
            offset += segment.channels * segment.repeat

    def obstruct(self, layout: Layout, obstacle: Obstacle) -> None:
        """Note what is in the way of the channels of a tensor."""
        for segment in layout.segments:
            self._obstacles[self._root(segment.stream)].append(obstacle)

    def of(self, layer: str) -> list[tuple[list[ChannelSlice], list[Obstacle]]]:
        """Slices and obstacles of the streams that a layer makes or keeps."""
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
    """The layout of tensors put one after the other along their channels."""
    layouts = list(layouts)
    segments = tuple(segment for layout in layouts for segment in layout.segments)
    return Layout(layouts[0].axis, segments)
