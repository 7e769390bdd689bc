"""Streams join tensors that share channels, and layouts follow the tensor."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradnet.surgery.channels.streams import (
    ChannelSlice,
    Layout,
    Obstacle,
    Segment,
    Streams,
    concatenated,
    flattened,
)


@given(st.integers(2, 8), st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7))))
def test_joined_streams_are_the_connected_ones(count, pairs):
    streams = Streams()
    layouts = [streams.start(1, 3) for _ in range(count)]
    pairs = [(a % count, b % count) for a, b in pairs]
    for index, layout in enumerate(layouts):
        streams.record(layout, f"layer{index}", "producer", 0)
    classes = [{index} for index in range(count)]
    for a, b in pairs:
        assert streams.join(layouts[a], layouts[b])
        merged = classes[a] | classes[b]
        for index in merged:
            classes[index] = merged
    for index in range(count):
        ((slices, _),) = streams.of(f"layer{index}")
        assert {p.layer for p in slices} == {f"layer{i}" for i in classes[index]}


def test_obstacles_are_joined_with_streams():
    streams = Streams()
    one, other = streams.start(1, 3), streams.start(1, 3)
    streams.record(one, "one", "producer", 0)
    streams.obstruct(other, Obstacle("before"))
    assert streams.join(one, other)
    streams.obstruct(other, Obstacle("after", copies_only=True))
    assert streams.of("one") == [
        (
            [ChannelSlice("one", "producer", 0)],
            [Obstacle("before"), Obstacle("after", copies_only=True)],
        )
    ]


def test_slices_of_several_segments():
    streams = Streams()
    left, right = streams.start(1, 3), streams.start(1, 2)
    streams.record(left, "left", "producer", 0)
    both = flattened(concatenated([right, left]), (4, 5, 3, 2), 1, -1)
    assert [segment.repeat for segment in both.segments] == [6, 6]
    streams.record(both, "reader", "consumer", 1)
    assert streams.of("left")[0][0][1] == ChannelSlice("reader", "consumer", 1, 12, 6)
    assert streams.of("reader") == []


@pytest.mark.parametrize(
    "other",
    [
        Layout(2, (Segment(1, 4),)),
        Layout(1, (Segment(1, 2), Segment(1, 2))),
        Layout(1, (Segment(1, 2, 2),)),
    ],
)
def test_different_layouts_do_not_join(other):
    streams = Streams()
    layout = streams.start(1, 4)
    streams.start(1, 4)
    assert not streams.join(layout, other)


@pytest.mark.parametrize("axis", range(4))
def test_flattened_like_the_tensor(axis):
    shape = (2, 3, 4, 5)
    labels = torch.arange(shape[axis]).reshape(
        [-1 if i == axis else 1 for i in range(4)]
    )
    labels = labels.expand(shape)
    for start, end in itertools.combinations_with_replacement(range(4), 2):
        layout = flattened(Layout(axis, (Segment(0, shape[axis]),)), shape, start, end)
        flat = labels.flatten(start, end)
        if layout is None:
            assert start < axis <= end
            continue
        repeated = torch.arange(shape[axis]).repeat_interleave(
            layout.segments[0].repeat
        )
        ones = [-1 if i == layout.axis else 1 for i in range(flat.ndim)]
        assert flat.equal(repeated.reshape(ones).expand(flat.shape))
