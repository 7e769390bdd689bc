"""A run folder is claimed for one study; what studies got later counts as the same."""

import pytest

from gradnet.core.files import read_json
from gradnet.errors import GradnetError
from gradnet.experiments.run_folder import RunFolder
from gradnet.experiments.study_file import claim

IDENTITY = {"problem": {"data_fingerprint": "abc"}, "model": "mlp"}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run", IDENTITY, "a CPU")


def test_a_field_that_identities_got_later_leaves_a_folder_its_study(tmp_path):
    RunFolder(tmp_path, IDENTITY, "a CPU")
    later = {**IDENTITY, "evaluations_per_epoch": 4}
    RunFolder(tmp_path, later, "a CPU")
    with pytest.raises(GradnetError, match="evaluations_per_epoch was 4, now 8"):
        RunFolder(tmp_path, {**later, "evaluations_per_epoch": 8}, "a CPU")


def test_a_folder_of_another_study_is_refused(folder):
    RunFolder(folder.path, IDENTITY, "another CPU")
    other = {**IDENTITY, "problem": {"data_fingerprint": "xyz"}}
    with pytest.raises(GradnetError, match="data_fingerprint was 'abc', now 'xyz'"):
        RunFolder(folder.path, other, "a CPU")


def test_a_refused_claim_changes_nothing(tmp_path):
    claim(tmp_path, IDENTITY)
    before = (tmp_path / "study.json").read_bytes()
    with pytest.raises(GradnetError, match="model was 'mlp', now 'cnn2018'"):
        claim(tmp_path, {**IDENTITY, "model": "cnn2018"})
    assert (tmp_path / "study.json").read_bytes() == before
    assert read_json(tmp_path / "study.json")["model"] == "mlp"
