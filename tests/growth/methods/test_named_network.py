"""A method begins with a network of ours, one of the user's own, or trained weights."""

import pytest
import torch

from gradnet.core.files import save_tensors
from gradnet.errors import InvalidInputError
from gradnet.growth.method import EditContext
from gradnet.growth.methods.net2net import Net2Wider
from gradnet.growth.methods.optimal_brain_damage import OptimalBrainDamage
from gradnet.models import build_model

SHAPE = (1, 8, 8)
PROBE = torch.randn(8, *SHAPE, generator=torch.manual_seed(0))


def test_a_trained_teacher_comes_from_a_checkpoint(tmp_path):
    trained = build_model("mlp", in_channels=1, image_size=8, num_classes=4)
    path = save_tensors(tmp_path / "teacher.pt", trained.state_dict())
    teacher = Net2Wider(checkpoint=str(path)).initial_model(SHAPE, 4)
    assert torch.equal(teacher.linear0.weight, trained.linear0.weight)


def test_a_users_network_widens(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def net(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Tanh(),"
        " nn.Linear(3, 4))\n"
    )
    monkeypatch.chdir(tmp_path)
    method = Net2Wider(model="mine:net", wider={"1": 5})
    edit = method.edit(method.initial_model(SHAPE, 4), EditContext(1, PROBE, 0))
    assert edit.certificate.preserves(1e-5)
    with pytest.raises(InvalidInputError, match="no layer 'linear0'; it has: 1, 3"):
        Net2Wider(model="mine:net").edit(
            method.initial_model(SHAPE, 4), EditContext(1, PROBE, 0)
        )


@pytest.mark.parametrize("kind", [Net2Wider, OptimalBrainDamage])
def test_our_own_networks_take_their_shape_from_the_images(kind):
    model = kind(model_args={"hidden": [5]}).initial_model((3, 4, 4), 7)
    assert model.linear0.weight.shape == (5, 48) and model.linear1.out_features == 7
