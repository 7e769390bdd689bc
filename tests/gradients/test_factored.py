"""The fast engine equals the loop, on every layer, and reads no more than it can."""

import copy

import pytest
import torch
from cases import CASES, NUM_CLASSES, Case
from hypothesis import assume, given
from hypothesis import strategies as st
from layer_cases import FAST, SLOW, layer_case
from reference import assert_same, gradients_by_loop
from torch import Tensor, nn
from torch.nn import functional

from gradnet.errors import InvalidInputError
from gradnet.gradients.extractor import GradientExtractor


def expected(case: Case) -> dict[str, Tensor]:
    labels = torch.arange(NUM_CLASSES).expand(len(case.x), -1)
    return gradients_by_loop(case.model, case.x, labels)


def engines(extractor: GradientExtractor, x: Tensor) -> dict[str, str]:
    return {path.parameter: path.engine for path in extractor.explain(x)}


@pytest.mark.parametrize("name", FAST)
def test_every_layer_equals_the_loop(name: str) -> None:
    found = layer_case(name)
    extractor = GradientExtractor(found.model, biases=True, engine="factored")
    assert_same(extractor.all_labels(found.x), expected(found))
    assert set(engines(extractor, found.x).values()) == {"factored"}


# torch.func does not know that the row of a padding index has no gradient.
@pytest.mark.parametrize("name", [n for n in FAST if n != "embedding with padding"])
def test_every_layer_equals_the_general_engine_in_float32(name: str) -> None:
    found = layer_case(name)
    model, x = found.model.float(), found.x.float()
    fast = GradientExtractor(model, biases=True, engine="factored").all_labels(x)
    general = GradientExtractor(model, biases=True, engine="func").all_labels(x)
    for key, gradient in general.items():
        error = torch.linalg.vector_norm(fast[key] - gradient)
        assert error <= 1e-5 * torch.linalg.vector_norm(gradient)


@pytest.mark.parametrize("name", SLOW)
def test_what_has_no_rule_is_left_to_the_general_engine(name: str) -> None:
    found = layer_case(name)
    extractor = GradientExtractor(found.model, biases=True)
    assert_same(extractor.all_labels(found.x), expected(found))
    paths = engines(extractor, found.x)
    assert paths["3.weight"] == "factored" and "func" in paths.values()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("prelu", "0.weight: no rule for 'weight' of PReLU '0'"),
        ("doubled", "0.weight: no rule for 'weight' of Doubled '0'"),
        ("elsewhere", "0.layer.weight: differs from the gradient of a single sample"),
        ("mixed", "0.layer.weight: differs from the gradient of a single sample"),
    ],
)
def test_what_it_cannot_read_is_refused_by_name(name: str, reason: str) -> None:
    found = layer_case(name)
    extractor = GradientExtractor(found.model, engine="factored")
    with pytest.raises(InvalidInputError, match=reason.replace(".", r"\.")):
        extractor.all_labels(found.x)


def test_samples_in_the_second_dimension_are_noticed() -> None:
    found = layer_case("sequence first")
    paths = GradientExtractor(found.model).explain(found.x)
    assert "not sample by sample" in paths[0].reason


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize(
    "name", ["conv2d, groups", "positions", "mixed", "windows", "embedding"]
)
def test_batches_of_any_size(name: str, count: int) -> None:
    found = layer_case(name, count)
    extractor = GradientExtractor(found.model, biases=True)
    assert_same(extractor.all_labels(found.x), expected(found))


def test_one_sample_does_not_vouch_for_many() -> None:
    one, many = layer_case("mixed", 1), layer_case("mixed", 5)
    extractor = GradientExtractor(many.model, biases=True)
    extractor.all_labels(one.x)
    assert_same(extractor.all_labels(many.x), expected(many))


@pytest.mark.parametrize("case", CASES)
def test_frozen_layers_are_read_when_they_are_named(case: str) -> None:
    found = CASES[case]()
    found.model.requires_grad_(False)
    extractor = GradientExtractor(found.model, layers="*", biases=True)
    assert_same(extractor.all_labels(found.x), expected(found))


def test_an_overwritten_input_is_noticed() -> None:
    class Overwritten(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, NUM_CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.first(x)
            result = self.last(hidden)
            hidden.zero_()
            return result

    # Only frozen: with a weight that is trained, torch itself refuses such a model.
    model = Overwritten().requires_grad_(False)
    extractor = GradientExtractor(model, layers="last", engine="factored")
    with pytest.raises(InvalidInputError, match="input of layer 'last' is overwritten"):
        extractor.all_labels(torch.randn(3, 4))


def test_another_length_is_verified_anew() -> None:
    """Merged token by token, one token looks like one that is read sample by sample."""
    case = layer_case("mixed")
    inner = case.model[0]
    model = nn.Sequential(inner, nn.Tanh(), Mean(), nn.Linear(3, NUM_CLASSES).double())
    extractor = GradientExtractor(model, biases=True)
    for length in (1, 7):
        x = torch.randn(4, length, 4, dtype=torch.float64)
        found = Case(model, x, torch.zeros(4).long())
        assert_same(extractor.all_labels(x), expected(found))


class Mean(nn.Module):
    """The mean over the tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def test_weights_that_changed_are_verified_anew() -> None:
    """A gate that is shut hides a second use of the weight."""
    found = layer_case("elsewhere")
    gated = Gated().double()
    model = nn.Sequential(gated, nn.Linear(4, NUM_CLASSES).double())
    extractor = GradientExtractor(model, biases=True)
    case = Case(model, found.x, found.y)
    assert_same(extractor.all_labels(found.x), expected(case))
    with torch.no_grad():
        gated.gate.fill_(1.0)
    assert_same(extractor.all_labels(found.x), expected(case))


class Gated(nn.Module):
    """A weight whose second use counts as much as a gate lets through."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layer(x).tanh()
        return hidden + self.gate * functional.linear(hidden, self.layer.weight)


def test_a_layer_that_was_replaced_is_told() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, NUM_CLASSES))
    extractor = GradientExtractor(model)
    extractor.all_labels(torch.randn(2, 4))
    model[1] = nn.Linear(4, NUM_CLASSES)
    with pytest.raises(InvalidInputError, match="layer '1' was replaced"):
        extractor.all_labels(torch.randn(2, 4))


def test_random_numbers_are_noticed_at_every_call() -> None:
    class Dropping(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return functional.dropout(super().forward(x), 1e-9, self.training)

    model = nn.Sequential(Dropping(4, 4), nn.Linear(4, NUM_CLASSES)).eval()
    extractor = GradientExtractor(model, layers="1")
    extractor.all_labels(torch.randn(3, 4))
    model.train()
    with pytest.raises(InvalidInputError, match="random numbers"):
        extractor.all_labels(torch.randn(3, 4))


def test_inputs_given_by_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, NUM_CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(input=x)

    model, x = Named().double(), torch.randn(3, 4, dtype=torch.float64)
    extractor = GradientExtractor(model, biases=True, engine="factored")
    assert_same(extractor.all_labels(x), expected(Case(model, x, x)))


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_a_layer_called_once_a_sample(count: int) -> None:
    class OneByOne(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.layer(sample) for sample in x])

    model = nn.Sequential(OneByOne(), nn.Linear(6, NUM_CLASSES)).double()
    x = torch.randn(count, 6, dtype=torch.float64)
    gradients = GradientExtractor(model, biases=True).all_labels(x)
    assert_same(gradients, expected(Case(model, x, x)))


def test_the_users_input_is_left_as_it_was() -> None:
    class Overwriting(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(1.5))

    x = torch.randn(3, 4)
    before = x.clone()
    GradientExtractor(Overwriting(4, NUM_CLASSES), engine="auto").explain(x)
    assert torch.equal(x, before)


def test_frozen_layers_may_be_followed_by_operations_in_place() -> None:
    found = layer_case("overwriting")
    found.model.requires_grad_(False)
    extractor = GradientExtractor(found.model, layers="*", biases=True)
    assert_same(extractor.all_labels(found.x), expected(found))
    assert set(engines(extractor, found.x).values()) == {"factored"}


def test_some_layers_frozen() -> None:
    found = layer_case("branches")
    found.model[0].stem.requires_grad_(False)
    gradients = GradientExtractor(found.model, engine="factored").all_labels(found.x)
    assert "0.stem.weight" not in gradients
    loop = expected(found)
    assert_same(gradients, {name: loop[name] for name in gradients})


def test_hooks_of_the_user_stay_and_see_what_they_saw() -> None:
    found = layer_case("conv2d")
    seen: list[int] = []
    found.model[0].register_forward_hook(lambda *_: seen.append(1))
    extractor = GradientExtractor(found.model, engine="factored")
    extractor.all_labels(found.x)
    assert seen and len(found.model[0]._forward_hooks) == 1


def test_nothing_is_left_after_an_exception() -> None:
    class Failing(nn.Module):
        calls = 0

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            Failing.calls += 1
            result = self.layer(x)
            if len(x) > 3:
                raise RuntimeError("too many")
            return result

    model = Failing().eval()
    before = copy.deepcopy(model.state_dict())
    extractor = GradientExtractor(model, engine="factored", chunk_size=8)
    with pytest.raises(RuntimeError, match="too many"):
        extractor.all_labels(torch.randn(5, 4))
    assert not model.layer._forward_hooks and not model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    layers = extractor._engines._factored.layers.values()
    assert not any(layer.calls for layer in layers)
    assert_same(model.state_dict(), before)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_switched_off(mode: type) -> None:
    found = layer_case("conv2d")
    with mode():
        x = found.x.clone()
        gradients = GradientExtractor(found.model, biases=True).all_labels(x)
    assert_same({k: g.clone() for k, g in gradients.items()}, expected(found))


def test_own_loss() -> None:
    def loss(logits: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(logits / 2, label) + logits.square().sum()

    found = layer_case("conv2d, groups")
    fast = GradientExtractor(found.model, loss=loss, engine="factored")
    general = GradientExtractor(found.model, loss=loss, engine="func")
    assert_same(fast.all_labels(found.x), general.all_labels(found.x))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 0.01), (torch.float16, 0.001)]
)
@pytest.mark.parametrize("engine", ["factored", "func"])
def test_other_types(dtype: torch.dtype, tolerance: float, engine: str) -> None:
    found = layer_case("conv2d")
    model, x = found.model.float(), found.x.float()
    exact = GradientExtractor(model, biases=True).all_labels(x)
    extractor = GradientExtractor(model, biases=True, engine=engine, dtype=dtype)
    for name, gradient in extractor.all_labels(x).items():
        assert gradient.dtype == dtype
        error = torch.linalg.vector_norm(gradient.float() - exact[name])
        assert error <= tolerance * torch.linalg.vector_norm(exact[name])


convolutions = st.fixed_dictionaries(
    {
        "kernel_size": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "padding": st.tuples(st.integers(0, 3), st.integers(0, 3)),
        "dilation": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "groups": st.sampled_from([1, 2, 4]),
        "bias": st.booleans(),
    }
)


@given(options=convolutions, count=st.integers(0, 3), transposed=st.booleans())
def test_convolutions_of_any_shape(
    options: dict[str, object], count: int, transposed: bool
) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(4, 4, **options).double().eval()
    x = torch.randn(count, 4, 6, 5, dtype=torch.float64)
    try:
        size = layer(x.new_zeros(1, 4, 6, 5)).numel()
    except RuntimeError:  # the kernel does not fit
        size = 0
    assume(size > 0)
    head = nn.Linear(size, NUM_CLASSES).double()
    model = nn.Sequential(layer, nn.Flatten(), head)
    extractor = GradientExtractor(model, biases=True, engine="factored")
    assert_same(extractor.all_labels(x), expected(Case(model, x, x)))


@given(
    leading=st.lists(st.integers(1, 3), max_size=3),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    count=st.integers(0, 3),
)
def test_linear_layers_of_any_shape(
    leading: list[int], sizes: tuple[int, int], count: int
) -> None:
    layer = nn.Linear(*sizes).double()
    x = torch.randn(count, *leading, sizes[0], dtype=torch.float64)
    flat = layer(x.new_zeros(1, *x.shape[1:])).numel()
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(flat, NUM_CLASSES).double())
    extractor = GradientExtractor(model, biases=True, engine="factored")
    assert_same(extractor.all_labels(x), expected(Case(model, x, x)))
