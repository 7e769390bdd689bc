"""The comparison with plain backward passes agrees where it should, and only there."""

import copy
from collections.abc import Callable

import pytest
import torch
from cases import CASES, NUM_CLASSES, Case
from reference import gradients_by_loop
from torch import Tensor, nn

from gradnet.errors import InvalidInputError
from gradnet.gradients.extractor import GradientExtractor
from gradnet.gradients.gradcheck import compare_engines, default_tolerance
from gradnet.gradients.layout import BlockLayout

Corrupt = Callable[[dict[str, Tensor]], None]


@pytest.fixture
def corrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Corrupt], None]:
    """Lets the extractor be wrong in a way of one's choice."""
    right = GradientExtractor.logits_and_gradients

    def install(corrupt: Corrupt) -> None:
        def wrong(self, x, labels=None):
            logits, gradients = right(self, x, labels)
            corrupt(gradients)
            return logits, gradients

        monkeypatch.setattr(GradientExtractor, "logits_and_gradients", wrong)

    return install


@pytest.mark.parametrize("build", CASES.values(), ids=lambda b: b.__name__)
def test_every_case_agrees(build: Callable[[], Case]) -> None:
    case = build()
    rows = compare_engines(case.model, case.x)
    layout = BlockLayout.of(case.model, biases=True)
    assert [row.block for row in rows] == list(layout.names)
    assert max(row.error for row in rows) < default_tolerance(torch.float64)
    labels = torch.arange(NUM_CLASSES).expand(len(case.x), -1)
    blocks = layout.to_blocks(gradients_by_loop(case.model, case.x, labels))
    for row in rows:
        assert row.norm == pytest.approx(float(blocks[row.block].norm(dim=-1).max()))
        assert row.engine_norm == pytest.approx(row.norm)
        assert row.path.split(" ")[0] in ("factored", "func")


def test_the_paths_are_those_that_the_extractor_tells() -> None:
    rows = compare_engines(CASES["mlp"]().model, CASES["mlp"]().x)
    assert {row.path for row in rows} == {"factored"}
    rows = compare_engines(CASES["own_parameters"]().model, CASES["own_parameters"]().x)
    assert rows[0].path.startswith("func (") and rows[0].path.endswith(")")


def test_layers_labels_and_biases_are_chosen() -> None:
    case = CASES["mlp"]()
    rows = compare_engines(case.model, case.x, layers="linear1", biases=False)
    blocks = gradients_by_loop(case.model, case.x, case.y[:, None])
    assert [row.block for row in rows] == ["linear1"]
    (row,) = compare_engines(case.model, case.x, case.y[:, None], "linear1", False)
    expected = blocks["linear1.weight"].flatten(1).norm(dim=-1).max()
    assert row.norm == pytest.approx(float(expected))


def test_a_wrong_entry_is_measured(corrupted: Callable[[Corrupt], None]) -> None:
    case = CASES["mlp"]()
    labels = torch.arange(NUM_CLASSES).expand(len(case.x), -1)
    right = gradients_by_loop(case.model, case.x, labels)["linear1.weight"][2, 1]

    def corrupt(gradients: dict[str, Tensor]) -> None:
        if "linear1.weight" in gradients and len(gradients["linear1.weight"]) > 2:
            gradients["linear1.weight"][2, 1, 0, 0] += 1e-3

    corrupted(corrupt)
    rows = compare_engines(case.model, case.x, biases=False)
    errors = {row.block: row.error for row in rows}
    assert errors.pop("linear1") == pytest.approx(1e-3 / float(right.norm()), rel=1e-6)
    assert max(errors.values()) < 1e-10


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_disagrees(
    corrupted: Callable[[Corrupt], None], value: float
) -> None:
    case = CASES["mlp"]()
    corrupted(lambda gradients: gradients["linear0.weight"].fill_(value))
    assert compare_engines(case.model, case.x)[0].error == float("inf")


def test_gradients_that_are_zero_agree_and_must_be_zero(
    corrupted: Callable[[Corrupt], None],
) -> None:
    case = CASES["mlp"]()
    nn.init.zeros_(case.model.linear2.weight)
    rows = compare_engines(case.model, case.x)
    assert rows[0].norm == 0 and rows[0].error == 0
    corrupted(lambda gradients: gradients["linear0.weight"].add_(1e-9))
    assert compare_engines(case.model, case.x)[0].error == float("inf")


def test_a_sure_network_agrees_in_float32() -> None:
    case = CASES["mlp"]()
    model = case.model.float()
    with torch.no_grad():
        model.linear2.bias.copy_(torch.tensor([14.0, 0.0, 0.0]))
    errors = [row.error for row in compare_engines(model, case.x.float())]
    assert max(errors) < default_tolerance(torch.float32)


def test_in_groups_of_labels_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["cnn"]()
    whole = compare_engines(case.model, case.x)
    monkeypatch.setattr("gradnet.gradients.gradcheck.GROUP_BYTES", 1)
    for one, other in zip(compare_engines(case.model, case.x), whole, strict=True):
        assert one.norm == other.norm and one.error < 1e-10


def test_the_model_is_left_as_it_is() -> None:
    case = CASES["residual"]()
    case.model.stem.weight.requires_grad_(False)
    case.model.head.weight.grad = torch.ones_like(case.model.head.weight)
    before = copy.deepcopy(case.model.state_dict())
    compare_engines(case.model, case.x, layers="*")
    assert not case.model.stem.weight.requires_grad
    assert case.model.head.weight.requires_grad and case.model.stem.weight.grad is None
    assert torch.equal(case.model.head.weight.grad, torch.ones(NUM_CLASSES, 2))
    for name, value in case.model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_types_agree_within_their_tolerance(dtype: torch.dtype) -> None:
    case = CASES["mlp"]()
    rows = compare_engines(case.model.to(dtype), case.x.to(dtype))
    assert 0 < max(row.error for row in rows) < default_tolerance(dtype)


def test_nothing_to_compare_is_told() -> None:
    case = CASES["mlp"]()
    with pytest.raises(InvalidInputError, match="nothing to compare"):
        compare_engines(case.model, case.x[:0])
    with pytest.raises(InvalidInputError, match="nothing to compare"):
        compare_engines(case.model, case.x, torch.zeros(len(case.x), 0).long())
    with pytest.raises(InvalidInputError, match=r"call model\.eval\(\) first"):
        compare_engines(CASES["residual"]().model.train(), CASES["residual"]().x)
