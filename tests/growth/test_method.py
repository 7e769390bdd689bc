"""Schedules say when a network grows: in steps, evenly, or when nothing improves."""

from dataclasses import dataclass, fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gradnet.errors import InvalidInputError
from gradnet.growth import GROWTH
from gradnet.growth.method import (
    EditContext,
    GrowthHistory,
    GrowthMethod,
    Schedule,
    insertion_order,
)
from gradnet.training.loop import TrainingSettings


def edit_steps(schedule, edits, steps):
    """The steps of all edits that the budget allows, none before its time."""
    found, start = [], 0
    for stage in range(edits):
        start = schedule.latest_step(stage, start, edits, steps)
        if start >= steps:
            break
        found.append(start)
    return found


def test_the_published_schedule_is_replayed():
    """A counter that is set to 0 after an edit, and edits when it has passed 500."""
    expected, counter, blocks = [], 0, 1
    for step in range(1, 7821):
        counter += 1
        if counter > 500 - (not expected) and blocks < 13:
            expected.append(step)
            counter, blocks = 0, blocks + 1
    found = edit_steps(Schedule(every=501, first=500), edits=12, steps=7820)
    assert found == expected
    assert (len(found), found[0], found[1], found[-1]) == (12, 500, 1001, 6011)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule(), [25, 50, 75]),
        (Schedule(until=0.3), [10, 20, 30]),
        (Schedule(first=0), [0, 38, 75]),
        (Schedule(first=40), [40, 58, 75]),
        (Schedule(every=20), [20, 40, 60]),
        (Schedule(every=40), [40, 80]),
        (Schedule(every=20, first=5), [5, 25, 45]),
        (Schedule(patience=2), []),
        (Schedule(patience=2, every=30), [30, 60, 90]),
        (Schedule(patience=2, first=30), [30]),
    ],
    ids=str,
)
def test_edits_come_at_these_steps_of_a_hundred(schedule, expected):
    found = edit_steps(schedule, edits=3, steps=100)
    assert found == pytest.approx(expected, abs=1)


@given(st.integers(1, 20), st.integers(1, 500), st.floats(0.01, 1))
def test_even_edits_are_at_least_a_step_apart_and_in_their_part(edits, steps, until):
    found = edit_steps(Schedule(until=until), edits, steps)
    gaps = [b - a for a, b in zip([0, *found], found, strict=False)]
    assert all(gap >= 1 for gap in gaps)
    if round(until * steps) >= edits and found:
        assert max(gaps) - min(gaps) <= 1
        assert found[-1] <= round(until * steps)


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([], False),
        ([0.5], False),
        ([0.5, 0.5], False),
        ([0.5, 0.5, 0.5], True),
        ([0.5, 0.4, 0.51], False),
        ([0.5, 0.51, 0.5], False),
        ([0.5, 0.509, 0.4], True),
        ([0.1, 0.5, 0.509, 0.505], True),
        ([0.9, 0.1, 0.2, 0.3], True),
    ],
)
def test_a_stage_stalls_when_its_last_evaluations_gain_too_little(accuracies, expected):
    schedule = Schedule(patience=2, gain=0.01)
    assert schedule.is_stalled(accuracies) is expected


def test_without_patience_nothing_stalls():
    assert not Schedule(every=5).is_stalled([0.5] * 50)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every": 0}, "every is 0; it must be >= 1"),
        ({"first": -1}, "first is -1; it must be >= 0"),
        ({"patience": 0}, "patience is 0; it must be >= 1"),
        ({"until": 0.0}, "until is 0.0; it must be > 0 and < 1"),
        ({"until": 1.0}, "until is 1.0; it must be > 0 and < 1"),
    ],
)
def test_invalid_schedules_are_refused(changes, message):
    with pytest.raises(InvalidInputError, match=message):
        Schedule(**changes)


@dataclass(frozen=True, kw_only=True)
class Twice(GrowthMethod):
    """Two edits that do nothing."""

    keeps: bool = True

    @property
    def preserves_function(self):
        return self.keeps

    @property
    def edits(self):
        return 2

    def initial_model(self, input_shape, num_classes):
        return nn.Linear(input_shape[1], num_classes)

    def edit(self, model, context):
        raise NotImplementedError


def history(accuracies, stage=0, start=0, steps=100):
    records = [{"stage": stage, "accuracy": accuracy} for accuracy in accuracies]
    earlier = [{"stage": stage - 1, "accuracy": 0.9}]
    return GrowthHistory(steps, stage, start, earlier + records)


def test_growth_is_due_when_the_present_stage_stalls_and_edits_are_left():
    method = Twice(growth=Schedule(patience=2))
    stalled = [0.5, 0.5, 0.5]
    assert method.is_due(history(stalled))
    assert method.is_due(history(stalled, stage=1))
    assert not method.is_due(history(stalled[:2], stage=1))
    assert not method.is_due(history(stalled, stage=2))
    assert not Twice(growth=Schedule(every=3)).is_due(history(stalled))


def test_a_stage_ends_with_its_schedule_the_last_one_with_the_run():
    method = Twice(growth=Schedule(every=40))
    assert method.latest_step(history([])) == 40
    assert method.latest_step(history([], stage=1, start=70)) == 100
    assert method.latest_step(history([], stage=2, start=80)) == 100


def test_by_default_all_trains_alike_and_state_is_carried_where_the_function_is():
    training = TrainingSettings(steps=3)
    method = Twice(training=training)
    model = nn.Linear(2, 2).requires_grad_(False)
    method.freeze(model, 1)
    assert all(p.requires_grad for p in model.parameters())
    assert method.training_at(2) is training
    assert method.carries_optimizer and not Twice(keeps=False).carries_optimizer


def test_draws_of_an_edit_depend_on_seed_and_stage_alone():
    probe = torch.zeros(1, 1, 2, 2)
    draws = [
        torch.rand(3, generator=EditContext(stage, probe, seed).generator()).tolist()
        for stage, seed in ((1, 0), (1, 0), (2, 0), (1, 1))
    ]
    assert draws[0] == draws[1]
    assert len({tuple(draw) for draw in draws}) == 3


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([1, 1, 1], [1, 1, 1], []),
        ([1, 1, 1], [2, 2, 3], [0, 1, 2, 2]),
        ([2, 1], [2, 4], [1, 1, 1]),
        ([1, 1], [3, 2], [0, 1, 0]),
    ],
)
def test_places_come_stage_after_stage_in_turn(before, after, expected):
    assert insertion_order(before, after) == expected


@pytest.mark.parametrize(("before", "after"), [([1], [1, 2]), ([1, 3], [2, 2])])
def test_stages_that_do_not_fit_are_refused(before, after):
    with pytest.raises(
        InvalidInputError, match="give as many stages, none of them smaller"
    ):
        insertion_order(before, after)


@pytest.mark.parametrize("name", GROWTH)
def test_every_default_is_that_of_the_class_that_says_it_first(name):
    # With several bases a dataclass takes all fields of the first base, those that it
    # only inherits, too: they hide what the second base says.
    kind = GROWTH[name]
    for field in fields(kind):
        said = [
            c for c in kind.__mro__ if field.name in vars(c).get("__annotations__", {})
        ]
        (expected,) = [f for f in fields(said[0]) if f.name == field.name]
        assert field.default == expected.default, field.name
        assert field.default_factory is expected.default_factory, field.name


def test_a_teacher_is_trained_as_the_method_says():
    training = GROWTH["net2wider"]().training
    assert (training.learning_rate, training.weight_decay) == (0.05, 0.0)
