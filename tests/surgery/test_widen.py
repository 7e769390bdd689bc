"""Widened networks compute the same, learn by the chain rule, and share no memory."""

import copy

import pytest
import torch
from channel_cases import CASES, IMAGES, Residual, build, disturbed, linear
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gradnet.core.torchvision import import_torchvision
from gradnet.errors import InvalidInputError
from gradnet.models import build_model
from gradnet.surgery.edit import Edit
from gradnet.surgery.widen import widen


def difference(edit: Edit, x: Tensor, training: bool) -> float:
    """Of the outputs before and after, of copies, which training mode changes."""
    before, after = (
        copy.deepcopy(model).train(training)(x) for model in (edit.before, edit.model)
    )
    return (before - after).abs().max().item()


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    model = copy.deepcopy(model).train()
    model.zero_grad()
    model(x).square().sum().backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in model.named_parameters()
    }


def check_chain_rule(edit: Edit, x: Tensor) -> None:
    """Every new gradient is the source's, times the factor of its origin."""
    old, new = gradients(edit.before, x), gradients(edit.model, x)
    assert new.keys() == old.keys()
    for name, gradient in new.items():
        origin = edit.origins[name]
        gathered = origin.gather(old[origin.source])
        expected = origin.gradient_factor(gradient) * gathered
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_function_is_kept(case, training):
    model, layer, x = build(case)
    for width in (11, 23):
        edit = widen(model, layer, width, probe=x)
        assert difference(edit, x, training) <= 1e-10
        assert edit.certificate.largest_difference <= 1e-10


@pytest.mark.parametrize("case", CASES)
def test_gradients_follow_the_chain_rule(case):
    model, layer, x = build(case)
    check_chain_rule(widen(model, layer, 11, probe=x), x)


def test_gradients_of_layers_that_stay_are_the_same():
    model, layer, x = build("residual, inner")
    old, edit = gradients(model, x), widen(model, layer, 9, probe=x)
    new = gradients(edit.model, x)
    same = [n for n in new if new[n].shape == old[n].shape]
    assert len(same) == len(old) - 4  # the convolution, its norm (2), its reader
    for name in same:
        torch.testing.assert_close(new[name], old[name], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("initialization", ["split", "random-pad"])
@pytest.mark.parametrize("case", CASES)
def test_teacher_is_untouched_and_nothing_is_shared(case, initialization):
    model, layer, x = build(case)
    old = copy.deepcopy(model.state_dict())
    edit = widen(model, layer, 11, probe=x, initialization=initialization)
    assert edit.before is model and edit.model is not model
    assert all(torch.equal(old[n], t) for n, t in model.state_dict().items())
    teacher, student = (
        {t.data_ptr() for t in m.state_dict().values() if t.numel()}
        for m in (model, edit.model)
    )
    assert not teacher & student


@pytest.mark.parametrize("case", CASES)
def test_layers_are_what_they_say(case):
    model, layer, x = build(case)
    edit = widen(model, layer, 11, probe=x)
    assert edit.model.get_submodule(layer).weight.shape[0] == 11
    for old, new in zip(model.modules(), edit.model.modules(), strict=True):
        if type(new).__module__.startswith("torch.nn") and not list(new.children()):
            fresh = eval(f"nn.{new!r}").double()
            fresh.load_state_dict(new.state_dict())
            assert (old.state_dict().keys(), type(old)) == (
                new.state_dict().keys(),
                type(new),
            )


def test_counts():
    x = torch.randn(*IMAGES)
    certificate = widen(linear(nn.ReLU()), "1", 8, probe=x).certificate
    old, new = (128 * h + h + h * 3 + 3 for h in (5, 8))
    assert certificate.parameters == (old, new)
    assert certificate.flops == (2 * 131 * 5, 2 * 131 * 8)
    assert certificate.copied == ("1.weight", "1.bias", "3.bias")
    assert (certificate.split, certificate.created) == (("3.weight",), ())


def test_first_copies_stay_where_they_were_and_shares_sum_to_one():
    model, layer, x = build("relu")
    edit = widen(model, layer, 40, probe=x)
    sources = edit.origins["1.weight"].indices[0]
    shares = edit.origins["3.weight"].scale[1]
    assert sources[:5].tolist() == list(range(5)) and set(sources.tolist()) <= set(
        range(5)
    )
    assert shares.min() > 0 and len(set(shares.tolist())) == 40
    for unit in range(5):
        assert shares[sources == unit].sum().item() == pytest.approx(1, abs=1e-12)
    again = widen(model, layer, 40, probe=x)
    assert torch.equal(again.origins["1.weight"].indices[0], sources)
    generator = torch.Generator().manual_seed(5)
    other = widen(model, layer, 40, probe=x, generator=generator)
    assert not torch.equal(other.origins["1.weight"].indices[0], sources)


def test_widening_twice_and_layer_after_layer():
    model, layer, x = build("residual, preactivated")
    first = widen(model, layer, 7, probe=x)
    second = widen(first.model, "stem", 12, probe=x)
    third = widen(second.model, "blocks.0.conv1", 9, probe=x)
    for training in (False, True):
        assert difference(Edit(model, third.model, {}, None), x, training) <= 1e-10
    for name in ("stem", "project", "blocks.0.conv2", "blocks.1.conv2"):
        assert third.model.get_submodule(name).out_channels == 12


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.ReLU()])
def test_copies_diverge(activation):
    model = linear(activation).double()
    x = torch.randn(*IMAGES, dtype=torch.float64)
    edit = widen(model, "1", 10, probe=x)
    source = edit.origins["1.weight"].indices[0][5].item()
    optimizer = torch.optim.SGD(edit.model.parameters(), lr=0.05)
    weight = edit.model.get_submodule("1").weight
    assert torch.equal(weight[5], weight[source])
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(edit.model(x), torch.tensor([0, 1, 2])).backward()
        optimizer.step()
    assert (weight[5] - weight[source]).abs().max() > 1e-3


@pytest.mark.parametrize("training", [False, True])
def test_mode_type_and_frozen_parameters_are_kept(training):
    model = Residual(False).train(training)
    model.blocks.eval()
    model.stem.weight.requires_grad_(False)
    edit = widen(model, "stem", 8, probe=torch.randn(*IMAGES))
    for old, new in zip(model.modules(), edit.model.modules(), strict=True):
        assert old.training == new.training
    trainable = [[p.requires_grad for p in m.parameters()] for m in (model, edit.model)]
    assert trainable[0] == trainable[1]
    assert {t.dtype for t in edit.model.parameters()} == {torch.float32}
    assert edit.certificate.preserves(1e-5)


def test_noise_is_on_the_outgoing_weights_of_copies_only():
    model, layer, x = build("branches, left")
    exact = widen(model, layer, 8, probe=x).model.state_dict()
    noisy = widen(model, layer, 8, probe=x, noise=0.1)
    assert 0 < noisy.certificate.largest_difference < 1
    changed = {n for n, t in noisy.model.state_dict().items() if not t.equal(exact[n])}
    assert changed == {"mix.weight", "head.weight"}
    moved = (noisy.model.mix.weight - exact["mix.weight"]).abs().amax((0, 2, 3))
    assert (moved[:4] == 0).all() and (moved[4:8] > 0).all() and (moved[8:] == 0).all()
    blocks = (noisy.model.head.weight - exact["head.weight"]).unflatten(1, (-1, 9))
    moved = blocks.abs().amax((0, 2))
    assert (moved[:4] == 0).all() and (moved[4:8] > 0).all() and (moved[8:] == 0).all()
    size = blocks[:, 4:8].std() / model.head.weight.std()
    assert 0.05 < size < 0.2


@pytest.mark.parametrize("case", CASES)
def test_random_pad_keeps_old_units_whole(case):
    model, layer, x = build(case)
    edit = widen(model, layer, 11, probe=x, initialization="random-pad")
    for name, new in edit.model.state_dict().items():
        origin, old = edit.origins[name], model.state_dict()[name]
        kept = origin.gather(torch.ones_like(old)) != 0
        assert new[kept].equal(old.flatten() if old.ndim else old[None])
        created = new[~kept]
        assert (name in edit.certificate.created) == bool(created.numel())
        if old.ndim > 1 and created.numel() > 1:
            assert created.std() > 0
    assert edit.certificate.split == ()
    assert edit.certificate.largest_difference > 1e-6


def test_random_pad_draws_as_a_fresh_layer_does():
    model = nn.Sequential(
        nn.Linear(400, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 300)
    )
    model = disturbed(model)
    x = torch.randn(3, 400)
    state = torch.get_rng_state()
    new = widen(model, "0", 100, probe=x, initialization="random-pad").model
    assert torch.equal(torch.get_rng_state(), state)
    assert new[0].weight[2:].abs().max().item() == pytest.approx(1 / 20, rel=0.01)
    assert new[3].weight[:, 2:].abs().max().item() == pytest.approx(1 / 10, rel=0.01)
    assert (new[1].weight[2:] == 1).all() and (new[1].bias[2:] == 0).all()
    assert (new[1].running_mean[2:] == 0).all() and (new[1].running_var[2:] == 1).all()


def normalized_network(norm: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )


@pytest.mark.parametrize(
    "norm",
    [
        nn.LayerNorm((4, 6, 6)),
        nn.GroupNorm(2, 4),
        nn.LocalResponseNorm(3, alpha=1),
        nn.Softmax(dim=1),
        nn.Softmax2d(),
    ],
    ids=lambda norm: type(norm).__name__,
)
def test_what_mixes_channels_is_refused_unless_inexact_is_allowed(norm):
    model = disturbed(normalized_network(norm))
    x = torch.randn(*IMAGES)
    with pytest.raises(
        InvalidInputError, match=rf"'1' \({type(norm).__name__}\).*exact=F"
    ):
        widen(model, "0", 8, probe=x)
    edit = widen(model, "0", 8, probe=x, exact=False)
    assert edit.certificate.largest_difference > 1e-3
    for name, _ in norm.named_parameters():
        assert edit.model[1].get_parameter(name).shape[0] == 8
    assert widen(model, "0", 8, probe=x, initialization="random-pad")


def test_normalization_over_other_dimensions_is_no_obstacle():
    model = disturbed(normalized_network(nn.LayerNorm((6, 6)))).double()
    x = torch.randn(*IMAGES, dtype=torch.float64)
    assert widen(model, "0", 8, probe=x).certificate.largest_difference <= 1e-10


class Averaging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head(x.mean((2, 3)) / x.size(1))


def test_what_depends_on_the_number_of_units_is_noticed():
    x = torch.randn(*IMAGES)
    with pytest.raises(
        InvalidInputError, match="'conv' moves a logit by .*exact=False"
    ):
        widen(Averaging(), "conv", 8, probe=x)
    edit = widen(Averaging(), "conv", 8, probe=x, exact=False)
    assert edit.certificate.largest_difference > 1e-3


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"width": 5}, "layer '1' has 5 units, and 5 are no more"),
        ({"width": 2}, "remove_units"),
        ({"layer": "7"}, "no layer '7'"),
        ({"layer": "2"}, "layer '2' is a ReLU"),
        ({"layer": "3"}, "layer '3'.*the network's output"),
        ({"initialization": "zero"}, "no initialization 'zero'; there are: split, r"),
        ({"noise": -1.0}, "noise -1.0"),
        ({"noise": 0.1, "initialization": "random-pad"}, "noise 0.1"),
    ],
)
def test_bad_input_is_told(arguments, match):
    arguments = {"layer": "1", "width": 8, "probe": torch.randn(*IMAGES), **arguments}
    with pytest.raises(InvalidInputError, match=match):
        widen(linear(nn.ReLU()), **arguments)


@pytest.mark.parametrize(
    ("name", "layers"), [("cnn2018", ["conv0", "conv1"]), ("mlp", ["linear0"])]
)
def test_house_models(name, layers):
    model = build_model(name, in_channels=3, image_size=12, num_classes=4).double()
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    for width, layer in enumerate(layers, 70):
        edit = widen(model, layer, width, probe=x)
        assert edit.certificate.largest_difference <= 1e-10
        model = edit.model


SHAPES = st.tuples(st.integers(1, 4), st.sampled_from([1, 2, 3]), st.booleans())
PHIS = [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.LeakyReLU, nn.PReLU, nn.Softplus]


class Random(nn.Module):
    """A stem, blocks that may be residual or depthwise, a flat or a pooled head."""

    def __init__(self, width, blocks, phi, residual, pooled) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, width, 3)
        self.blocks = nn.ModuleList()
        for inner, kernel, plain in blocks:
            first = nn.Conv2d(width, inner, kernel, padding="same")
            depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
            norm = nn.Identity() if plain else nn.BatchNorm2d(inner)
            last = nn.Conv2d(inner, width, 1)
            self.blocks.append(nn.Sequential(first, norm, phi(), depthwise, last))
        self.residual, self.phi = residual, phi()
        self.pool = nn.AdaptiveAvgPool2d(1) if pooled else nn.MaxPool2d(3)
        self.head = nn.Linear(width * (1 if pooled else 4), 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = self.phi(x + block(x) if self.residual else block(x))
        return self.head(torch.flatten(self.pool(x), 1))


@given(
    st.integers(1, 4),
    st.lists(SHAPES, max_size=3),
    st.sampled_from(PHIS),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_any_architecture(width, blocks, phi, residual, pooled, data):
    torch.manual_seed(data.draw(st.integers(0, 99)))
    model = disturbed(Random(width, blocks, phi, residual, pooled).double())
    x = torch.randn(*IMAGES, dtype=torch.float64)
    names = ["stem"] + [f"blocks.{i}.{j}" for i in range(len(blocks)) for j in (0, 4)]
    layer = data.draw(st.sampled_from(names))
    more = data.draw(st.integers(1, 6))
    units = model.get_submodule(layer).out_channels
    edit = widen(model, layer, units + more, probe=x)
    assert max(difference(edit, x, training) for training in (False, True)) <= 1e-10
    check_chain_rule(edit, x)
    single = widen(model.float(), layer, units + more, probe=x.float())
    assert single.certificate.preserves(1e-5)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer1.0.conv2"),
        ("resnet18", "layer3.1.conv1"),
        ("vgg11_bn", "features.25"),
        ("googlenet", "inception4a.branch2.0.conv"),
        ("googlenet", "inception3a.branch3.1.conv"),
    ],
)
def test_torchvision(name, layer):
    import_torchvision()
    from torchvision import models

    options = {
        "googlenet": {"aux_logits": False, "init_weights": False},
        "vgg11_bn": {"init_weights": False},
    }
    with torch.device("meta"):
        model = models.get_model(name, num_classes=10, **options.get(name, {}))
    if name == "vgg11_bn":  # its classifier holds 120 million weights
        model.classifier = nn.Linear(512 * 49, 10)
    model.to_empty(device="cpu")
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    model = disturbed(model)
    x = torch.randn(2, 3, 64, 64)
    width = model.get_submodule(layer).out_channels + 9
    certificate = widen(model, layer, width, probe=x).certificate
    assert certificate.preserves(1e-5) and certificate.largest_logit > 0.1
    assert certificate.parameters[1] > certificate.parameters[0]
    assert certificate.flops[1] > certificate.flops[0]
