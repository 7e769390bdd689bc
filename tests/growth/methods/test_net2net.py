"""Net2Net students compute what their teachers do, and train at a tenth of the rate."""

import pytest
import torch

from gradnet.errors import InvalidInputError
from gradnet.growth.method import EditContext
from gradnet.growth.methods.net2net import Net2Deeper, Net2Wider

SHAPE = (1, 8, 8)


def probe(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, *SHAPE, dtype=torch.float64, generator=generator)


def begin(method):
    torch.manual_seed(0)
    return method.initial_model(SHAPE, 4).double()


def test_both_layers_widen_and_the_function_stays():
    method = Net2Wider(
        model_args={"hidden": [6, 7]}, wider={"linear0": 9, "linear1": 12}
    )
    teacher = begin(method)
    edit = method.edit(teacher, EditContext(1, probe(), 0))
    assert edit.before is teacher and method.preserves_function
    assert edit.model.linear1.weight.shape == (12, 9)
    other = probe(1)
    torch.testing.assert_close(edit.model(other), teacher(other), atol=1e-12, rtol=0)


def test_the_same_seed_makes_the_same_student_and_another_one_another():
    method = Net2Wider(wider={"linear0": 70})
    teacher = begin(method)
    first, again, other = (
        method.edit(teacher, EditContext(1, probe(), seed)).model.linear1.weight
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    "changes", [{"initialization": "random-pad"}, {"noise": 0.1}], ids=str
)
def test_fresh_units_and_noise_do_not_claim_to_preserve(changes):
    method = Net2Wider(wider={"linear0": 70}, **changes)
    edit = method.edit(begin(method), EditContext(1, probe(), 0))
    assert not method.preserves_function
    assert edit.certificate.largest_difference > 1e-3


def test_without_wider_layers_the_teacher_goes_on_at_the_students_rate():
    method = Net2Wider(wider={})
    teacher = begin(method)
    edit = method.edit(teacher, EditContext(1, probe(), 0))
    assert edit.certificate.largest_difference == 0
    assert edit.model.linear0.weight is not teacher.linear0.weight
    rates = [method.training_at(stage).learning_rate for stage in (0, 1)]
    assert rates[1] == pytest.approx(rates[0] / 10)


def test_layers_come_stage_after_stage_in_turn_until_the_depths_are_there():
    method = Net2Deeper(width=2)
    model = begin(method)
    for stage in range(1, method.edits + 1):
        edit = method.edit(model, EditContext(stage, probe(), 0))
        assert edit.certificate.preserves(1e-12)
        model = edit.model
    names = [name for name, _ in model.named_children() if name.startswith("conv")]
    assert names == [
        "conv0_0",
        "conv0_0_deeper",
        "conv1_0",
        "conv1_0_deeper",
        "conv2_0",
        "conv2_0_deeper",
        "conv2_0_deeper2",
    ]


def test_a_random_layer_is_the_control():
    method = Net2Deeper(width=2, initialization="random")
    edit = method.edit(begin(method), EditContext(1, probe(), 0))
    assert not method.preserves_function
    assert edit.certificate.largest_difference > 1e-3


def test_depths_that_do_not_fit_are_refused():
    with pytest.raises(
        InvalidInputError, match="give as many stages, none of them smaller"
    ):
        _ = Net2Deeper(initial_depths=[1, 3], depths=[2, 2]).edits
    with pytest.raises(InvalidInputError, match="give as many stages"):
        _ = Net2Deeper(initial_depths=[1], depths=[2, 2]).edits
