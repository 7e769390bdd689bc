"""New residual blocks go where they belong, start as the identity, and learn."""

import pytest
import torch
from torch.nn import functional

from gradnet.growth.method import EditContext
from gradnet.growth.methods.layerwise_resnet import LayerwiseResNet

SHAPE = (1, 8, 8)
PROBE = torch.randn(8, *SHAPE, dtype=torch.float64, generator=torch.manual_seed(0))
LABELS = torch.arange(8) % 3


def grown(method, edits):
    torch.manual_seed(0)
    model = method.initial_model(SHAPE, 3).double()
    for stage in range(1, edits + 1):
        edit = method.edit(model, EditContext(stage, PROBE, 0))
        yield edit
        model = edit.model


@pytest.mark.parametrize("style", ["preactivation", "normalized"])
def test_zero_blocks_keep_the_function_in_training_mode_too(style):
    method = LayerwiseResNet(width=2, stages=[3, 2, 3], style=style)
    assert method.edits == 5 and method.preserves_function
    for edit in grown(method, method.edits):
        assert edit.certificate.preserves(1e-12)
        before, after = edit.before.train()(PROBE), edit.model.train()(PROBE)
        torch.testing.assert_close(after, before, atol=1e-12, rtol=0)


def test_blocks_come_at_the_end_of_each_stage_in_turn():
    method = LayerwiseResNet(width=2, stages=[2, 1, 3])
    *_, last = grown(method, method.edits)
    names = [name for name, _ in last.model.named_children() if "block" in name]
    assert names == [
        "block0",
        "block_grown1",
        "block1",
        "block2",
        "block_grown2",
        "block_grown3",
    ]


def test_random_blocks_do_not_claim_to_preserve():
    method = LayerwiseResNet(width=2, initialization="random")
    (edit,) = grown(method, 1)
    assert not method.preserves_function
    assert edit.certificate.largest_difference > 1e-3


@pytest.mark.parametrize("style", ["preactivation", "normalized"])
def test_only_the_zero_layer_learns_in_the_first_step_and_all_in_the_second(style):
    method = LayerwiseResNet(width=2, style=style)
    (edit,) = grown(method, 1)
    model = edit.model.train()
    block = model.block_grown1.residual
    last = block.conv1 if style == "preactivation" else block.norm1
    for step in range(2):
        model.zero_grad()
        functional.cross_entropy(model(PROBE), LABELS).backward()
        assert last.weight.grad.abs().max() > 0
        assert bool(block.conv0.weight.grad.abs().max() > 0) == (step == 1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad


def test_small_full_batch_steps_only_lower_the_loss_after_growth():
    method = LayerwiseResNet(width=2)
    (edit,) = grown(method, 1)
    model = edit.model.train()
    losses = [functional.cross_entropy(edit.before.train()(PROBE), LABELS).item()]
    for _ in range(5):
        model.zero_grad()
        loss = functional.cross_entropy(model(PROBE), LABELS)
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 1e-3 * parameter.grad
    assert losses[1] == pytest.approx(losses[0], abs=1e-12)
    assert losses[1:] == sorted(losses[1:], reverse=True)


@pytest.mark.parametrize(
    ("trains", "expected"),
    [
        ("new", {"block_grown2", "head"}),
        ("last", {"block_grown2", "block2", "head"}),
        ("all", {"stem", "block0", "block_grown1", "block1", "block2", "head"}
         | {"block_grown2"}),
    ],
)  # fmt: skip
def test_what_trains_is_what_was_asked_for(trains, expected):
    method = LayerwiseResNet(width=2, stages=[2, 2, 1], trains=trains)
    *_, edit = grown(method, 2)
    model = edit.model
    method.freeze(model, 2)
    trained = {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == expected
    method.freeze(model, 0)
    assert all(p.requires_grad for p in model.parameters())
