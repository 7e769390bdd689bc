"""Every method begins with weights of the user's own, where they fit its network."""

import pytest
import torch
from growth_cases import tiny

from gradnet.core.files import save_tensors
from gradnet.errors import DamagedFileError, GradnetError, InvalidInputError
from gradnet.growth import GROWTH
from gradnet.growth.grown_network import save_grown
from gradnet.growth.method import GrowthHistory
from gradnet.growth.methods.net2net import Net2Wider
from gradnet.growth.replay import replay
from gradnet.growth.run import Growth
from gradnet.growth.start import read_start

SHAPE = (1, 8, 8)
PROBE = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", GROWTH)
def test_a_run_begins_with_the_weights_and_its_file_comes_back(name, tmp_path):
    method = tiny(name)
    trained = replay(method, 7, 0, PROBE, 4).eval()
    path = save_tensors(tmp_path / "mine.pt", {"state_dict": trained.state_dict()})
    start = read_start(path, method, PROBE, 4, seed=1)
    start.check_compatible(SHAPE, 4)
    assert torch.equal(start.model(PROBE), trained(PROBE))
    begun = replay(method, 1, 0, PROBE, 4, start=start.model).eval()
    assert torch.equal(begun(PROBE), trained(PROBE))
    grown = tmp_path / "grown.safetensors"
    growth = Growth(begun, GrowthHistory(9, 0))
    save_grown(grown, growth, method, 1, SHAPE, 4, start)
    path.unlink()
    again = read_start(grown, method, PROBE, 4)
    assert torch.equal(again.model(PROBE), trained(PROBE))
    assert again.header["start"] == start.header


def test_what_the_weights_have_seen_is_not_known_and_that_is_told(tmp_path, caplog):
    method = tiny("net2wider")
    weights = replay(method, 7, 0, PROBE, 4).state_dict()
    read_start(save_tensors(tmp_path / "a.pt", weights), method, PROBE, 4)
    assert "does not say what it was trained on" in caplog.text


def test_weights_that_do_not_fit_are_refused(tmp_path):
    method = tiny("net2wider")
    path = save_tensors(tmp_path / "a.pt", {"head.weight": torch.zeros(2, 2)})
    with pytest.raises(GradnetError, match="a.pt"):
        read_start(path, method, PROBE, 4)
    with pytest.raises(DamagedFileError, match="none.pt"):
        read_start(tmp_path / "none.pt", method, PROBE, 4)


def test_a_network_of_other_classes_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    method = Net2Wider(
        model="torch.nn:Linear",
        model_args={"in_features": 8, "out_features": 3},
    )
    save_tensors(path, {"weight": torch.zeros(3, 8), "bias": torch.zeros(3)})
    with pytest.raises(InvalidInputError, match="returns torch.float32 of shape"):
        read_start(path, method, PROBE, 3)
    with pytest.raises(InvalidInputError, match="has 3 logits, the data have 4"):
        read_start(path, method, PROBE.flatten(1)[:, :8], 4)
