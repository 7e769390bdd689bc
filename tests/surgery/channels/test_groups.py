"""Groups are complete; unsupported networks are refused with layer and reason."""

import copy

import pytest
import torch
from channel_cases import CASES, IMAGES, Branches, Residual, build
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from gradnet.core.torchvision import import_torchvision
from gradnet.errors import InvalidInputError
from gradnet.surgery.channels.groups import channel_group
from gradnet.surgery.channels.streams import ChannelSlice


def test_residual_stream_is_one_group():
    group = channel_group(Residual(False), "blocks.0.conv2", torch.randn(*IMAGES))
    assert group.width == 5
    streams = [f"blocks.{i}." for i in range(2)]
    assert set(group.layers("producer")) == {
        "stem",
        "project",
        *(f"{block}conv2" for block in streams),
    }
    assert set(group.layers("carrier")) == {f"{block}bn" for block in streams}
    assert set(group.layers("consumer")) == {
        "project",
        "head",
        *(f"{block}conv1" for block in streams),
    }


def test_concatenated_channels_have_offsets_and_flattened_ones_repeat():
    group = channel_group(Branches(), "right", torch.randn(*IMAGES))
    assert set(group.slices) == {
        ChannelSlice("right", "producer", 0),
        ChannelSlice("bn", "carrier", 0, 7),
        ChannelSlice("mix", "consumer", 1, 7),
        ChannelSlice("head", "consumer", 1, 7 * 9, 9),
    }


@pytest.mark.parametrize("case", CASES)
def test_any_member_finds_the_same_group_and_leaves_the_model(case):
    model, layer, x = build(case)
    state = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    group = channel_group(model, layer, x)
    for member in group.layers("producer"):
        assert set(channel_group(model, member, x).slices) == set(group.slices)
    assert modes == [module.training for module in model.modules()]
    assert all(t.equal(state[n]) for n, t in model.state_dict().items())
    assert not any(hasattr(t, "proxy") for t in model.parameters())


@pytest.mark.parametrize(
    ("name", "layer", "counts"),
    [
        ("resnet18", "layer1.0.conv1", (1, 1, 1)),
        ("resnet18", "conv1", (3, 3, 4)),
        ("resnet18", "layer2.0.downsample.0", (3, 3, 3)),
        ("googlenet", "inception3a.branch1.conv", (1, 1, 4)),
        ("mobilenet_v2", "features.3.conv.0.0", (1, 3, 1)),
        ("densenet121", "features.conv0", (1, 8, 7)),
    ],
)
def test_torchvision(name, layer, counts):
    import_torchvision()
    from torchvision import models

    options = {"aux_logits": False, "init_weights": False}
    options = options if name == "googlenet" else {}
    model = models.get_model(name, num_classes=10, **options)
    group = channel_group(model, layer, torch.randn(1, 3, 64, 64))
    roles = ("producer", "carrier", "consumer")
    assert tuple(len(group.layers(role)) for role in roles) == counts


class Net(nn.Module):
    """A convolution, a step between of ``(N, 4, 6, 6)``, a linear layer."""

    def __init__(self, step=lambda net, x: x) -> None:
        super().__init__()
        self.step = step
        self.conv = nn.Conv2d(2, 4, 3)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.step(self, self.conv(x))
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def net_with(step, **members):
    """The builder of a network with a step, and with what the step calls."""

    def build() -> nn.Module:
        net = Net(step)
        for name, member in members.items():
            setattr(net, name, member())
        return net

    return build


def attention() -> nn.Module:
    return nn.MultiheadAttention(36, 1)


UNSUPPORTED = {
    "fixed view": (
        net_with(lambda net, x: x.view(-1, 4, 36).view(-1, 4, 6, 6)),
        r"node 'view' is a fixed reshape, view\(-1, 4, 36\); use flatten",
    ),
    "fixed flatten": (
        net_with(lambda net, x: net.wide(x.reshape(-1, 144)), wide=lambda: Wide()),
        r"'reshape' is a fixed reshape, reshape\(-1, 144\)",
    ),
    "channel shuffle": (
        net_with(lambda net, x: functional.channel_shuffle(x, 2)),
        r"node 'channel_shuffle' \(channel_shuffle\)",
    ),
    "permute": (
        net_with(lambda net, x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2)),
        r"'permute' \(permute",
    ),
    "chunk": (
        net_with(lambda net, x: torch.cat(x.chunk(2, 1), 1)),
        r"node 'chunk' \(chunk\), whose effect on channels is unknown",
    ),
    "slice": (net_with(lambda net, x: x[:, 0:4]), r"node 'getitem' \(getitem\)"),
    "product of matrices": (
        net_with(lambda net, x: torch.matmul(x, x)),
        r"node 'matmul' \(matmul\)",
    ),
    "mean of channels": (
        net_with(lambda net, x: x + x.mean(1, keepdim=True)),
        r"node 'mean' \(mean\)",
    ),
    "grouped convolution": (
        net_with(lambda net, x: net.g(x), g=lambda: nn.Conv2d(4, 4, 1, groups=2)),
        r"layer 'g' \(Conv2d\) is a convolution with 2 groups; only one group",
    ),
    "multiplied depthwise": (
        net_with(
            lambda net, x: net.g(x).mean(1, keepdim=True).expand(-1, 4, -1, -1),
            g=lambda: nn.Conv2d(4, 8, 1, groups=4),
        ),
        r"layer 'g' \(Conv2d\) is a convolution with 4 groups",
    ),
    "transposed convolution": (
        net_with(lambda net, x: net.t(x), t=lambda: nn.ConvTranspose2d(4, 4, 1)),
        r"layer 't' \(ConvTranspose2d\), whose effect",
    ),
    "attention": (
        net_with(lambda net, x: net.a(*3 * [x.flatten(2)])[0][..., None], a=attention),
        r"layer 'a' \(MultiheadAttention\)",
    ),
    "called twice": (
        net_with(lambda net, x: net.c(net.c(x)), c=lambda: nn.Conv2d(4, 4, 1)),
        r"they enter layer 'c' \(Conv2d\): it is called more than once; give",
    ),
    "parameter of no layer": (
        net_with(lambda net, x: x * net.s, s=lambda: nn.Parameter(torch.ones(4, 1, 1))),
        r"node 'mul' \(mul\) combines them with 's', a parameter or buffer outside",
    ),
    "functional layer": (
        net_with(
            lambda net, x: functional.conv2d(x, net.f.weight),
            f=lambda: nn.Conv2d(4, 4, 1),
        ),
        r"node 'conv2d' \(conv2d\)",
    ),
    "parametrized": (
        net_with(
            lambda net, x: net.p(x),
            p=lambda: parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
        ),
        r"layer 'p' .*parametrizations.weight.original0",
    ),
    "rows of a linear layer": (
        net_with(lambda net, x: net.r(x), r=lambda: nn.Linear(6, 6)),
        r"layer 'r' \(Linear\) does not take them as input features; flatten",
    ),
    "norm over other dimensions": (
        net_with(
            lambda net, x: net.n(x.flatten(2).unsqueeze(1)).squeeze(1)[..., None],
            n=lambda: nn.BatchNorm2d(1),
        ),
        r"layer 'n' \(BatchNorm2d\) does not have one entry for each",
    ),
    "different division": (
        net_with(
            lambda net, x: x + torch.cat([net.d(x), net.d2(x)], 1),
            d=lambda: nn.Conv2d(4, 1, 1),
            d2=lambda: nn.Conv2d(4, 3, 1),
        ),
        r"'add' \(add\) combines tensors whose channels do not match",
    ),
    "softmax over the channels": (
        net_with(lambda net, x: functional.softmax(x, 1)),
        r"node 'softmax' \(softmax\) mixes them.*exact=False",
    ),
}


class Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(144, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)[:, :, None, None]


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_networks_are_refused(name):
    build, match = UNSUPPORTED[name]
    with pytest.raises(
        InvalidInputError, match="(?s)layer 'conv' cannot change.*" + match
    ):
        channel_group(build(), "conv", torch.randn(*IMAGES))


class FromInput(Net):
    """The convolution's channels are added to the input's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x + self.conv(x)).mean((2, 3)))


gate = net_with(lambda net, x: x * net.gate(x), gate=lambda: nn.Conv2d(4, 1, 1))


def tied() -> nn.Module:
    names = ("other", "same")
    members = {name: lambda: nn.Conv2d(4, 4, 1) for name in names}
    net = net_with(lambda net, x: net.same(net.other(x)), **members)()
    net.same.weight = net.other.weight
    return net


def test_other_unsupported_layers_are_refused():
    x = torch.randn(*IMAGES)
    for model, layer, match in (
        (
            FromInput(),
            "conv",
            "node 'add' .add. combines them with the network's input",
        ),
        (gate(), "gate", "broadcasts one channel to several"),
        (tied(), "other", "'other' cannot be changed: it shares parameters with same"),
        (tied(), "conv", "'other' .Conv2d.: it shares parameters with same; untie"),
        (
            UNSUPPORTED["functional layer"][0](),
            "f",
            "'f'.*its weight is given to a function",
        ),
        (
            UNSUPPORTED["called twice"][0](),
            "c",
            "'c' cannot be changed: it is called more",
        ),
        (UNSUPPORTED["parametrized"][0](), "p", "'p' cannot be changed.*original1"),
        (UNSUPPORTED["multiplied depthwise"][0](), "g", "a convolution with 4 groups"),
        (Net(), "head", "units of layer 'head' cannot change.*the network's output"),
    ):
        with pytest.raises(InvalidInputError, match=match):
            channel_group(model, layer, x)
    assert channel_group(gate(), "conv", x).layers("consumer") == ("gate", "head")


def test_layer_within_another_is_refused():
    model = nn.Sequential(
        nn.Flatten(2),
        nn.TransformerEncoderLayer(64, 1, 8, batch_first=True),
        nn.Flatten(),
        nn.Linear(128, 3),
    )
    with pytest.raises(InvalidInputError, match="'1.linear1' is not called directly"):
        channel_group(model, "1.linear1", torch.randn(*IMAGES))


def test_depthwise_layer_of_several_streams_is_refused():
    net = net_with(
        lambda net, x: net.both(torch.cat([x, net.c(x)], 1))[:, :4],
        c=lambda: nn.Conv2d(4, 4, 1),
        both=lambda: nn.Conv2d(8, 8, 1, groups=8),
    )()
    with pytest.raises(
        InvalidInputError, match="'both'.*processes the units of several"
    ):
        channel_group(net, "both", torch.randn(*IMAGES))


def test_obstacles_for_copies_only_can_be_allowed():
    net = net_with(lambda net, x: net.n(x), n=lambda: nn.GroupNorm(2, 4))()
    x = torch.randn(*IMAGES)
    with pytest.raises(InvalidInputError, match="layer 'n' .GroupNorm. mixes them"):
        channel_group(net, "conv", x)
    assert channel_group(net, "conv", x, exact=False).layers("carrier") == ("n",)
