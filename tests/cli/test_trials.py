"""``gradnet grow METHOD --data parity-3``: a table of many trials, and pictures."""

import json

import pandas
import pytest
import torch
import yaml

from gradnet.cli.main import main
from gradnet.experiments import trials


def run(*arguments: str) -> None:
    main(["grow", *arguments])


def refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "Traceback" not in error
    return error


def test_two_spirals_have_the_defaults_of_fahlmans_file_and_maps(tmp_path, capsys):
    out = tmp_path / "spirals"
    arguments = ["--data", "two-spirals", "--trials", "2", "--max-units", "2"]
    run("cascade-correlation", *arguments, "--out", str(out))
    text = capsys.readouterr().out
    assert "| 2 | 0 | - | - | - |" in text and "all trials together:" in text
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["candidates"]["rate"] == 100 and config["outputs"]["patience"] == 12
    for name in ("hidden-units", "errors", "decisions"):
        assert (out / f"{name}.png").stat().st_size > 1000
    assert pandas.read_csv(out / "trials.csv")["hidden_units"].tolist() == [2, 2]


def test_other_problems_have_the_general_defaults_and_no_map(tmp_path, capsys):
    out = tmp_path / "parity"
    run(
        "cascade-correlation",
        "--data=parity-3",
        "--trials=3",
        "--activations",
        "gaussian",
        *("--seed", "5", "--out", str(out)),
    )
    assert "| 3 | 3 | 1.0 (1 to 1) | 1 |" in capsys.readouterr().out
    record = json.loads((out / "trials.json").read_text())
    assert [row["trial"] for row in record["trials"]] == [5, 6, 7]
    assert record["seconds"] > 0 and record["versions"]["torch"]
    assert not (out / "decisions.png").exists()
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["candidates"]["rate"] == 1
    again = tmp_path / "again"
    run("cascade-correlation", "--config", f"{out}/config.yaml", "--out", str(again))
    assert (again / "trials.csv").read_text() == (out / "trials.csv").read_text()


def test_node_creation_counts_sweeps(tmp_path, capsys):
    arguments = ["--data", "xor", "--trials", "2", "--out", str(tmp_path)]
    run("node-creation", *arguments, "--window", "20", "--max-sweeps", "60")
    assert "| 2 | 0 |" in capsys.readouterr().out
    table = pandas.read_csv(tmp_path / "trials.csv")
    assert (table["epochs"] == 60).all() and not table["solved"].any()


def test_help_of_a_classic_problem_explains_the_settings(capsys):
    with pytest.raises(SystemExit) as stop:
        run("node-creation", "--data", "xor", "--help")
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert "--threshold" in text and "--trials" in text and "--training" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cornet", "--data", "xor"], "cornet does not run on classic problems"),
        (["node-creation", "--data", "parity-99"], "sizes from 2 to 10"),
        (["node-creation", "--data", "xor", "--trials", "0"], "trials is 0"),
        (["node-creation", "--data", "xor", "--window", "0"], "window is 0"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message, capsys):
    assert message in refused(arguments, capsys)


def test_a_config_that_is_no_yaml_is_told_by_the_parser(tmp_path, capsys):
    config = tmp_path / "bad.yaml"
    config.write_text("data: [two-spirals\n")
    assert "config" in refused(["node-creation", "--config", str(config)], capsys)


def test_a_config_that_never_ends_is_refused_at_once(tmp_path, capsys):
    config = tmp_path / "bomb.yaml"
    config.write_text("data: &a [*a]\n")
    told = refused(["node-creation", "--config", str(config)], capsys)
    assert "no YAML aliases" in told
    config.write_bytes(b"data: \xff\n")
    told = refused(["node-creation", "--config", str(config)], capsys)
    assert "is not UTF-8" in told


def test_an_allocation_that_fails_says_how_much_was_asked_for(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)

    def train(*_, **__):
        torch.empty(10**13)

    monkeypatch.setitem(trials.RUNNERS, "node-creation", train)
    told = refused(["node-creation", "--data", "xor"], capsys)
    assert "not enough memory: 40 TB were asked for at once" in told
