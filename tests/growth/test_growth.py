"""One contract for all growth methods: what each preserves, freezes and counts."""

import copy
from functools import cache

import pytest
import torch
from growth_cases import (
    BATCH,
    TINY,
    TRAINING,
    Watched,
    digits,
    frozen_first,
    layer_costs,
    tiny,
    watched_run,
    without_seconds,
)
from torch import nn

from gradnet.growth import GROWTH
from gradnet.growth.method import GrowthMethod
from gradnet.growth.run import grow
from gradnet.training.loop import Callbacks

CASES = [
    pytest.param((name, number), id=f"{name}-{number}")
    for name in GROWTH
    for number in range(max(len(TINY.get(name, [])), 1))
]


@pytest.fixture(params=CASES)
def case(request):
    """A method's name and the number of its tiny settings."""
    name, _ = request.param
    assert name in TINY, f"give tiny settings for {name!r} in growth_cases.TINY"
    return request.param


@cache
def run_of(name: str, number: int) -> Watched:
    return watched_run(tiny(name, number))


def assert_equal_states(one: nn.Module, other: nn.Module) -> None:
    states = one.state_dict(), other.state_dict()
    assert list(states[0]) == list(states[1])
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_methods_are_growth_methods():
    assert all(issubclass(kind, GrowthMethod) for kind in GROWTH.values())
    assert set(TINY) <= set(GROWTH)


def storage_addresses(model: nn.Module) -> set[int]:
    return {tensor.data_ptr() for tensor in model.state_dict().values()}


def test_all_edits_are_made_and_do_not_touch_what_they_edit(case):
    seen = run_of(*case)
    assert len(seen.stages) == tiny(*case).edits + 1 >= 2
    for stage in seen.stages[:-1]:
        assert_equal_states(stage.ended, stage.edit.before)
        assert not storage_addresses(stage.edit.before) & storage_addresses(
            stage.edit.model
        )


def test_the_function_is_preserved_where_that_is_declared(case):
    method, seen = tiny(*case), run_of(*case)
    certificates = [stage.edit.certificate for stage in seen.stages[:-1]]
    if method.preserves_function:
        assert all(certificate.preserves(1e-5) for certificate in certificates)
    else:
        assert not all(certificate.preserves(1e-3) for certificate in certificates)
    probe = digits().augmentation.evaluate(digits().images[digits().train[:64]])
    pairs = zip(seen.stages, seen.stages[1:], strict=False)
    for certificate, (old, new) in zip(certificates, pairs, strict=True):
        with torch.no_grad():
            before, after = old.ended.eval()(probe), new.begun.eval()(probe)
        difference = (after - before).abs().max().item()
        assert certificate.largest_difference == pytest.approx(difference, abs=1e-5)
        assert certificate.largest_logit == pytest.approx(before.abs().max().item())


def test_exactly_what_requires_gradients_changes_and_the_rest_keeps_every_bit(case):
    for number, stage in enumerate(run_of(*case).stages):
        before, after = stage.begun.state_dict(), stage.ended.state_dict()
        trained = {n for n, p in stage.ended.named_parameters() if p.requires_grad}
        assert trained == {
            n for n, p in stage.begun.named_parameters() if p.requires_grad
        }
        for name, _ in stage.begun.named_parameters():
            changed = not torch.equal(before[name], after[name])
            assert changed == (name in trained), (number, name)
        for name, layer in stage.begun.named_modules():
            parameters = list(layer.parameters())
            if not parameters or any(p.requires_grad for p in parameters):
                continue
            for buffer, value in layer.named_buffers(prefix=name):
                assert torch.equal(after[buffer], value), (number, buffer)


def test_what_trains_is_what_the_method_says(case):
    method = tiny(*case)
    for number, stage in enumerate(run_of(*case).stages):
        model = copy.deepcopy(stage.begun).requires_grad_(False)
        method.freeze(model, number)
        for one, other in zip(
            model.parameters(), stage.begun.parameters(), strict=True
        ):
            assert one.requires_grad == other.requires_grad


def test_there_is_a_record_before_and_after_each_edit_and_one_each_evaluation(case):
    history = run_of(*case).growth.history
    ends = [edit["step"] for edit in history.edits] + [TRAINING.steps]
    expected, start = [], 0
    for stage, end in enumerate(ends):
        inner = range(start + 1, end)
        due = [step for step in inner if step % TRAINING.evaluate_every == 0]
        expected += [(stage, step) for step in (start, *due, end)]
        start = end
    assert [(r["stage"], r["step"]) for r in history.records] == expected
    assert [edit["stage"] for edit in history.edits] == list(range(1, len(ends)))
    assert ends == sorted(set(ends))


def sizes_left(model):
    """Parameter name -> entries that are not deleted."""
    masks = dict(model.named_buffers())
    sizes = {}
    for name, parameter in model.named_parameters():
        mask = masks.get(name.replace(".original", ".0.kept"))
        sizes[name] = parameter.numel() if mask is None else int(mask.sum())
    return sizes


def test_costs_are_those_of_a_count_by_hand(case):
    method, seen = tiny(*case), run_of(*case)
    history = seen.growth.history
    starts = [0, *(edit["step"] for edit in history.edits)]
    spent, kept = 0.0, []
    for number, stage in enumerate(seen.stages):
        costs = layer_costs(stage.begun)
        trunk = []
        if method.cache_trunk and isinstance(stage.begun, nn.Sequential):
            trunk = frozen_first(stage.begun)
        same = kept if trunk[: len(kept)] == kept else []
        fresh = [n for n in trunk if n not in same]
        ahead = sum(f for name, (f, _) in costs.items() if name.split(".")[0] in fresh)
        spent += len(digits().train) * ahead
        kept = trunk
        each = BATCH * sum(
            step for name, (_, step) in costs.items() if name.split(".")[0] not in trunk
        )
        records = [r for r in history.records if r["stage"] == number]
        for record in records:
            steps = record["step"] - starts[number]
            assert record["flops"] == pytest.approx(spent + steps * each, rel=1e-12)
            sizes = sizes_left(stage.begun)
            assert record["parameters"] == sum(sizes.values())
            trains = {n for n, p in stage.begun.named_parameters() if p.requires_grad}
            assert record["trainable"] == sum(sizes[name] for name in trains)
        spent += each * (records[-1]["step"] - starts[number])
        spent += stage.edit.flops if stage.edit else 0
    assert seen.growth.flops.total == pytest.approx(spent, rel=1e-12)


@pytest.mark.parametrize("name", GROWTH)
def test_another_seed_gives_other_weights(name):
    case = name, 0
    growth = grow(tiny(*case), digits(), seed=1)
    states = growth.model.state_dict(), run_of(*case).growth.model.state_dict()
    weights = [name for name in states[0] if name.endswith("weight")]
    assert not any(torch.equal(states[0][n], states[1][n]) for n in weights)


class Interrupted:
    """Stops a run, as a kill would, at some of its events."""

    def __init__(self, stops):
        self.stops, self.met, self.resumed = list(stops), [], []

    def meet(self, *event):
        self.met.append(event)
        if event in self.stops:
            self.stops.remove(event)
            raise KeyboardInterrupt

    def callbacks(self, path):
        return Callbacks(
            checkpoint=path,
            on_evaluation=lambda r: self.meet("record", r["stage"], r["step"]),
            on_resume=lambda records: self.resumed.append(len(records)),
        )


# Each method, and one whose kept outputs begin anew when an earlier block is inserted.
@pytest.mark.parametrize(
    "case", [*((name, 0) for name in GROWTH), ("layerwise-resnet", 3)], ids=str
)
def test_a_run_that_is_stopped_within_and_between_stages_ends_as_one_that_is_not(
    case, tmp_path
):
    expected = run_of(*case).growth
    edits, last = expected.history.edits, TRAINING.steps
    first = edits[0]["step"]
    stops = [
        ("record", 0, 4),  # inside the first stage
        ("record", 0, first),  # at its end, before that is written
        ("edit", 1),  # after the first edit, before that is written
        ("record", 1, first),  # just after it is
        ("record", len(edits), last),  # inside the last stage
    ]
    watcher = Interrupted(stops)
    growth, attempts = None, 0
    while growth is None:
        attempts += 1
        received: list[dict] = []

        def on_edit(record, received=received):
            received.append(record)
            watcher.meet("edit", record["stage"])

        try:
            growth = grow(
                tiny(*case),
                digits(),
                callbacks=watcher.callbacks(tmp_path / "r.pt"),
                on_edit=on_edit,
            )
        except KeyboardInterrupt:
            assert attempts <= len(stops)
    assert not watcher.stops and attempts == len(stops) + 1
    again = [event for event in watcher.met if event[0] == "record"]
    # Four stops are at evaluations that are done again, and four runs resume at an
    # evaluation, whose call is repeated; the fifth begins the stage after the edit.
    assert len(again) == len(expected.history.records) + 4 + 4
    assert_equal_states(growth.model, expected.model)
    found = without_seconds(growth.history.records)
    assert found == without_seconds(expected.history.records)
    assert received == growth.history.edits == edits
    assert growth.flops == expected.flops
