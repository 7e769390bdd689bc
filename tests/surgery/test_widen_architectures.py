"""Widening the package's own models, random architectures and torchvision's models."""

import pytest
import torch
from channel_cases import IMAGES, disturbed
from edit_checks import check_chain_rule, difference
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gradnet.core.torchvision import import_torchvision
from gradnet.models import build_model
from gradnet.surgery.widen import widen


@pytest.mark.parametrize(
    ("name", "layers"), [("cnn2018", ["conv0", "conv1"]), ("mlp", ["linear0"])]
)
def test_own_models(name, layers):
    model = build_model(name, in_channels=3, image_size=12, num_classes=4).double()
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    for width, layer in enumerate(layers, 70):
        edit = widen(model, layer, width, probe=x)
        assert edit.certificate.largest_difference <= 1e-10
        model = edit.model


SHAPES = st.tuples(st.integers(1, 4), st.sampled_from([1, 2, 3]), st.booleans())
PHIS = [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.LeakyReLU, nn.PReLU, nn.Softplus]


class RandomNetwork(nn.Module):
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
    model = disturbed(RandomNetwork(width, blocks, phi, residual, pooled).double())
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
