"""``gradnet grow``: a row a method, a table of all; kills change nothing."""

import dataclasses
from pathlib import Path

import pandas
import pytest
import torch
import yaml
from kills import run_killed

from gradnet.cli.grow import Grow
from gradnet.cli.main import main
from gradnet.experiments.results import read_rows
from gradnet.growth import GROWTH

QUICK = [
    *("--training.steps", "12", "--training.batch_size", "32"),
    *("--training.evaluate_every", "4", "--device", "cpu"),
]
CORNET = ["cornet", "--width", "2", "--stages", "1", "1", *QUICK]
DIRECT = ["cornet", "--width", "2", "--stages", "1", "1", "--initial_blocks", "2"]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["grow", *arguments])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "Traceback" not in error
    return error


def test_without_a_method_all_are_explained(capsys):
    outputs = []
    for arguments in ([], ["--help"], ["-h"]):
        main(["grow", *arguments])
        outputs.append(capsys.readouterr().out)
    assert len(set(outputs)) == 1
    assert outputs[0].startswith("usage: gradnet grow METHOD [options]")
    lines = outputs[0].splitlines()
    for name, kind in GROWTH.items():
        assert f"  {name:20} {kind.__doc__.splitlines()[0]}" in lines


@pytest.mark.parametrize("name", GROWTH)
def test_help_explains_every_option_of_a_method(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["grow", name, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and f"usage: gradnet grow {name} " in text
    fields = [field.name for kind in (Grow, GROWTH[name]) for field in _fields(kind)]
    assert len(fields) == len(set(fields))
    for field in fields:
        assert f"--{field}" in text, field
    for field in _fields(Grow):
        explained = text[text.index(f"  --{field.name} ") :].split("  --")[1]
        if field.name not in ("split", "augmentation"):
            assert len(explained.split()) > 3, explained


def _fields(kind: type) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(kind)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shrink"], "gradnet: error: no growth method 'shrink'; there are: net2wider"),
        (["--seeds", "1"], "gradnet: error: no growth method '--seeds'; there are:"),
        ([*CORNET, "--data", "moon"], "no data set 'moon'"),
        ([*CORNET, "--final_blocks", "7"], "cannot grow from 1 to 7 blocks in stages"),
        ([*CORNET, "--growth.every", "0"], "--growth.every is 0; it must be >= 1"),
        ([*CORNET, "--max_flops", "1e9"], "max_flops is for a network that does not"),
        ([*CORNET, "--wider", "3"], "wider"),
    ],
)
def test_bad_input_is_told_with_its_remedy(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert message in refused(arguments, capsys)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("grow") / "run"
    main(["grow", *CORNET, "--seeds", "0", "1", "--out", str(folder)])
    return folder


def test_a_run_leaves_rows_networks_a_table_and_a_picture(out):
    rows = read_rows(out)
    assert [(row["seed"], row["method"]) for row in rows] == [
        (0, "cornet"),
        (1, "cornet"),
    ]
    for name in ("table.csv", "table.md", "curves.png", "metrics.jsonl"):
        assert (out / name).stat().st_size > 100
    assert len(list(out.glob("networks/seed-*/cornet.safetensors"))) == 2
    assert not list(out.rglob("*.pt"))
    config = yaml.safe_load((out / "configs" / "cornet.yaml").read_text())
    assert config["seeds"] == [0, 1] and config["stages"] == [1, 1]


def test_another_row_joins_the_table_and_what_is_done_is_not_done_again(out, capsys):
    before = {p: p.stat().st_mtime_ns for p in out.glob("results/*/*.json")}
    flops = read_rows(out)[0]["training_flops"]
    arguments = [*DIRECT, "--name", "direct", "--max_flops", str(flops), *QUICK]
    main(["grow", *CORNET, "--seeds", "0", "1", "--out", str(out)])
    assert "done before" in capsys.readouterr().err
    main(["grow", *arguments, "--out", str(out)])
    printed = capsys.readouterr().out
    assert (out / "table.md").read_text() in printed
    assert f"picture: {out / 'curves.png'}" in printed
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in lines] == [
        "method",
        "cornet",
        "direct",
    ]
    assert "± " in lines[1] and "(2)" in lines[1] and "(1)" in lines[2]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    table = pandas.read_csv(out / "table.csv").set_index("method")
    direct = table.loc["direct"]
    steps = direct["steps"]
    assert 0 < direct["training_flops"] <= flops
    assert direct["training_flops"] / steps * (steps + 1) > flops


def test_a_row_of_other_settings_is_refused(out, capsys):
    error = refused([*CORNET, "--width", "3", "--out", str(out)], capsys)
    assert "made with other settings (width was 2, now 3)" in error
    config = yaml.safe_load((out / "configs" / "cornet.yaml").read_text())
    assert config["width"] == 2


def test_options_come_back_from_the_file_that_was_written(out, tmp_path, capsys):
    config = ["--config", str(out / "configs" / "cornet.yaml")]
    main(["grow", "cornet", *config, "--out", str(out)])
    assert capsys.readouterr().err.count("done before") == 2


def test_a_run_begins_with_the_network_of_its_seed(out, tmp_path, capsys):
    file = str(out / "networks" / "seed-{seed}" / "cornet.safetensors")
    prune = ["optimal-brain-damage", *QUICK, "--growth.first", "0"]
    arguments = [*prune, "--growth.every", "4", "--rounds", "2", "--start", file]
    main(["grow", *arguments, "--seeds", "0", "1", "--out", str(tmp_path)])
    starts = {row["settings"]["start"] for row in read_rows(tmp_path)}
    assert len(starts) == 2
    capsys.readouterr()
    missing = [*arguments, "--seeds", "2", "--out", str(tmp_path)]
    assert "seed-2/cornet.safetensors" in refused(missing, capsys)


def test_without_a_folder_the_data_name_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["grow", *CORNET, "--training.steps", "2"])
    assert (tmp_path / "runs/growth-digits/table.md").exists()


@pytest.mark.slow
def test_a_kill_within_a_stage_changes_nothing(tmp_path):
    many = ["--training.steps", "300", "--training.evaluate_every", "20"]
    network = [*CORNET, "--stages", "1", "1", "1", *many]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    main(["grow", *network, "--out", str(whole)])
    file = killed / "checkpoints/seed-0/cornet-stage-1-training.pt"
    run_killed(["grow", *network, "--out", str(killed)], file.exists)
    main(["grow", *network, "--out", str(killed)])
    name = "networks/seed-0/cornet.safetensors"
    assert (killed / name).read_bytes() == (whole / name).read_bytes()
    rows = [read_rows(folder)[0] for folder in (killed, whole)]
    for row in rows:
        for key in [key for key in row if "seconds" in key]:
            del row[key]
    assert rows[0] == rows[1]


def test_the_table_of_growth_can_be_written_anew(out, capsys):
    before = (out / "table.md").read_text()
    (out / "table.md").unlink()
    main(["table", str(out)])
    assert (out / "table.md").read_text() == before
    assert before in capsys.readouterr().out


def test_a_name_that_leaves_the_folder_is_refused(tmp_path, capsys):
    for name in ("../../x", "/tmp/x", ""):
        arguments = [*CORNET, "--out", str(tmp_path / "run"), "--name", name]
        assert "--name is" in refused(arguments, capsys)
    assert not list(tmp_path.glob("**/x*"))
