"""A run that is killed anywhere ends as one that was never killed, without litter."""

from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from growth_cases import TINY, tiny
from kills import outcome, run_with_kills, run_with_sigkills

from gradnet.classifier.recipes import DEFAULT
from gradnet.cli.arguments import to_yaml
from gradnet.cli.extract import Extract
from gradnet.cli.fit import Fit
from gradnet.data.problem import Problem, ProblemSettings, make_problem
from gradnet.experiments.base_network import BaseSettings
from gradnet.experiments.gradnet_study import Study, StudySettings
from gradnet.experiments.growth_study import GrowthStudy
from gradnet.experiments.reports import write_growth_report, write_report
from gradnet.growth.method import GrowthMethod, Schedule
from gradnet.growth.methods.net2net import Net2Wider
from gradnet.training.loop import TrainingSettings

QUICK = replace(DEFAULT, training=replace(DEFAULT.training, steps=4, evaluate_every=2))
BASE = BaseSettings(
    "mlp",
    hidden=[4],
    levels=[0.15, 0.2],
    training=TrainingSettings(
        steps=40, batch_size=16, optimizer="adamw", learning_rate=1e-2
    ),
    evaluations_per_epoch=16,
)
SETTINGS = StudySettings(BASE, {"default": QUICK})
WIDER = Net2Wider(
    training=TrainingSettings(steps=4, batch_size=16, evaluate_every=2),
    growth=Schedule(first=2),
    model_args={"hidden": [3]},
    wider={"linear0": 4},
)
slow = pytest.mark.slow


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)  # as sums depend on it in their last bits


@cache
def problem() -> Problem:
    return make_problem(ProblemSettings(device="cpu"))


def train_base(folder: Path) -> None:
    Study(problem(), SETTINGS, folder).train_base(0)


def reproduce(folder: Path) -> None:
    write_report(Study(problem(), SETTINGS, folder).run(), folder)


def one_level(folder: Path) -> None:
    """The least that has each kind of run, and without figures, for its time."""
    settings = replace(SETTINGS, controls=None, base=replace(BASE, levels=[0.15]))
    Study(problem(), settings, folder).run()


def wider(folder: Path) -> None:
    """The same for growth."""
    GrowthStudy(problem(), folder).run("wider", WIDER, 0)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("base")
    train_base(folder)
    (folder / "quick.yaml").write_text(to_yaml(QUICK))
    return folder / "snapshots/seed-0/level-0.2.safetensors"


def fit(folder: Path, snapshot: Path) -> None:
    recipe, out = snapshot.parents[2] / "quick.yaml", folder / "g.safetensors"
    Fit(snapshot=str(snapshot), recipe=str(recipe), out=str(out), device="cpu").run("")


def extract(folder: Path, snapshot: Path) -> None:
    Extract(
        checkpoint=str(snapshot),
        out=str(folder),
        limit=30,
        shard_size="30kB",
        device="cpu",
    ).run("")


def grow(folder: Path, name: str, method: GrowthMethod) -> None:
    GrowthStudy(problem(), folder).run(name, method, 0)
    write_growth_report(folder)


def check_injected(run, tmp_path, least):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(whole)
    places = run_with_kills(lambda: run(killed))
    assert outcome(killed) == outcome(whole)
    assert len(places) >= least, places


@pytest.mark.parametrize(
    ("run", "least"),
    [
        (one_level, 50),
        (wider, 40),
        pytest.param(train_base, 40, marks=slow),
        pytest.param(reproduce, 200, marks=slow),
    ],
)
def test_a_kill_at_any_rename_append_or_removal_changes_nothing(run, least, tmp_path):
    check_injected(run, tmp_path, least)


@pytest.mark.parametrize(("run", "least"), [(fit, 7), (extract, 6)])
def test_a_kill_at_any_rename_of_one_output_changes_nothing(
    run, least, snapshot, tmp_path
):
    check_injected(partial(run, snapshot=snapshot), tmp_path, least)


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_a_kill_at_any_rename_of_a_growth_method_changes_nothing(name, tmp_path):
    check_injected(partial(grow, name=name, method=tiny(name)), tmp_path, 50)


def check_random(run, tmp_path, *arguments):
    run(tmp_path / "whole", *arguments)
    folders = run_with_sigkills(run, tmp_path / "killed", 40, *arguments)
    for folder in folders:
        assert outcome(folder) == outcome(tmp_path / "whole")
    print(f"{len(folders)} runs of which 40 were killed")


@pytest.mark.slow
@pytest.mark.parametrize("run", [train_base, reproduce])
def test_forty_kills_at_random_change_nothing(run, tmp_path):
    check_random(run, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("run", [fit, extract])
def test_forty_kills_at_random_change_no_output(run, snapshot, tmp_path):
    check_random(run, tmp_path, snapshot)


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_forty_kills_at_random_change_no_growth(name, tmp_path):
    check_random(grow, tmp_path, name, tiny(name))
