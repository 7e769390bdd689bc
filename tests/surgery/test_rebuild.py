"""Origins and rebuilt layers, compared with values by hand."""

import torch
from channel_cases import IMAGES, build
from torch import nn

from gradnet.surgery.channels.groups import channel_group
from gradnet.surgery.channels.streams import ChannelSlice
from gradnet.surgery.edit import certify
from gradnet.surgery.rebuild import expand_values, group_origins, rebuild


def test_channels_lie_at_offsets_and_repeat():
    slices = [
        ChannelSlice("a", "consumer", 1, 1, 2),
        ChannelSlice("a", "consumer", 1, 6, 1),
    ]
    values = torch.tensor([5.0, 6.0, 7.0])
    expanded = expand_values(slices, 2, values, 9)
    assert expanded.tolist() == [1, 5, 5, 6, 6, 7, 7, 1, 5, 6, 7, 1]
    assert expand_values(slices, 2, values, 9, rest=0).tolist()[:2] == [0, 5]


def test_origins_by_hand():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3)
    )
    group = channel_group(model, "0", torch.randn(2, 1, 2, 2))
    sources, shares = torch.tensor([0, 1, 1]), torch.tensor([1.0, 0.3, 0.7])
    origins = group_origins(model, group, sources, shares)
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        assert origins[name].indices[0].tolist() == [0, 1, 1]
        assert origins[name].gradient_scale[0].equal(shares)
        assert not origins[name].scale
    for name in ("1.running_mean", "1.running_var"):
        assert origins[name].indices[0].tolist() == [0, 1, 1]
        assert not origins[name].scale and not origins[name].gradient_scale
    assert not origins["1.num_batches_tracked"].indices
    reader = origins["3.weight"]
    assert reader.indices[1].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7]
    assert reader.scale[1].equal(shares.repeat_interleave(4))
    assert not reader.gradient_scale and not origins["3.bias"].indices


def test_layer_that_makes_and_reads_a_stream_changes_in_both_dimensions():
    model, _, x = build("residual")
    group = channel_group(model, "stem", x)
    sources, shares = torch.tensor([0, 1, 2, 3, 4, 0]), torch.rand(6)
    origin = group_origins(model, group, sources, shares)["project.weight"]
    assert set(origin.indices) == {0, 1}
    assert (set(origin.scale), set(origin.gradient_scale)) == ({1}, {0})


def test_layer_normalization_of_units_that_are_all_doubled():
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(128, 5), nn.LayerNorm(5, eps=0), nn.Linear(5, 3)
    ).double()
    nn.init.normal_(model[2].weight)
    x = torch.randn(*IMAGES, dtype=torch.float64)
    group = channel_group(model, "1", x, exact=False)
    sources = torch.arange(5).repeat(2)
    origins = group_origins(model, group, sources, torch.full((10,), 0.5))
    doubled = rebuild(model, group, 10, origins)
    assert certify(model, doubled, origins, x).certificate.largest_difference <= 1e-10


def test_entries_without_a_source_are_a_fresh_layers():
    model = nn.Sequential(nn.Linear(4, 2), nn.PReLU(2), nn.Linear(2, 3))
    nn.init.constant_(model[1].weight, 0.7)
    group = channel_group(model, "0", torch.randn(2, 4))
    origins = group_origins(model, group, torch.tensor([1, -1, 0]))
    new = [rebuild(model, group, 3, origins, seed) for seed in (1, 1, 2)]
    assert new[0][0].weight.equal(new[1][0].weight)
    assert not new[0][0].weight.equal(new[2][0].weight)
    assert new[2][0].weight[[2, 0]].equal(model[0].weight)
    assert new[2][2].weight[:, [2, 0]].equal(model[2].weight)
    torch.testing.assert_close(new[2][1].weight, torch.tensor([0.7, 0.25, 0.7]))
    assert (new[2][2].weight[:, 1] != 0).all() and new[2][0].bias[1] != 0
