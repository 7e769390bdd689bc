"""Option files hold plain data: nothing is built or run, nothing goes on for ever."""

import json
import os
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gradnet.cli.arguments import load_recipe
from gradnet.cli.main import main
from gradnet.cli.option_files import (
    MAX_BYTES,
    MAX_VALUES,
    check_import_path,
    check_option_file,
    load_plain_yaml,
)
from gradnet.errors import DamagedFileError, GradnetError, InvalidInputError

COMMANDS = [
    ["reproduce"],
    ["train-base"],
    ["extract", "--out", "store"],
    ["check"],
    ["import-weights", "--weights", "w.pt"],
    ["fit", "snapshot.safetensors"],
    ["evaluate", "snapshot.safetensors"],
    ["inspect", "store"],
    ["table", "folder"],
    ["grow", "net2wider"],
    ["grow", "optimal-brain-damage"],
    ["grow", "cascade-correlation", "--data", "parity-3"],
]
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.from_regex("[a-z]{1,5}", fullmatch=True), inner, max_size=3
        )
    ),
    max_leaves=8,
)


def attack(trace):
    return {"class_path": "os.system", "init_args": {"command": f"touch {trace}"}}


def one_line(capsys):
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines and "Traceback" not in "".join(lines)
    return lines[-1]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("field", ["model_args", "training", "augmentation", "data"])
def test_no_file_of_options_builds_an_object(
    command, field, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    values = {"model": "mlp", field: {"x": attack(tmp_path / "trace")}}
    if field != "model_args":
        values[field] = attack(tmp_path / "trace")
    (tmp_path / "evil.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit) as stop:
        main([*command, "--config", "evil.yaml"])
    assert stop.value.code == 2
    assert "build no objects" in one_line(capsys)
    assert not (tmp_path / "trace").exists()


def test_a_file_that_another_file_names_builds_nothing_either(tmp_path, capsys):
    (tmp_path / "inner.yaml").write_text(yaml.safe_dump(attack(tmp_path / "trace")))
    (tmp_path / "outer.yaml").write_text(f"training: {tmp_path / 'inner.yaml'}\n")
    with pytest.raises(SystemExit):
        main(["reproduce", "--config", str(tmp_path / "outer.yaml")])
    assert "build no objects" in one_line(capsys)
    assert not (tmp_path / "trace").exists()


def test_json_on_the_command_line_builds_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = json.dumps({"x": attack(tmp_path / "trace")})
    with pytest.raises(SystemExit):
        main(["extract", "--model", "mlp", "--model-args", arguments, "--out", "o"])
    assert "build no objects" in capsys.readouterr().err
    assert not (tmp_path / "trace").exists()


def test_a_recipe_builds_nothing(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"training": attack(tmp_path / "trace")}))
    with pytest.raises(GradnetError, match="build no objects"):
        load_recipe(str(path))
    assert not (tmp_path / "trace").exists()


BOMB = "a: &a [1]\n" + "\n".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{f'*{chr(97 + i)},' * 9}]" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "no YAML aliases"),
        ("&a {b: *a}", "no YAML aliases"),
        (BOMB, "no YAML aliases"),
        ("[" * 5000, "nested more than"),
        ("{a: " * 5000, "nested more than"),
        ("x" * (MAX_BYTES + 1), "are the most"),
        ("[" + "1," * (MAX_VALUES + 1) + "]", "more than 5,000 values"),
        ("a: " + "1" * 5000, "cannot be read: Exceeds the limit"),
        ("a: 0x" + "f" * 50_000, "more than 64 bits"),
        ("a: 1\nb: 2\na: 3", "name 'a' twice, again in line 3"),
        ("a: [{b: 1, b: 2}]", "name 'b' twice"),
        ("a: !!set {x}", "holds a set"),
        ("a: !!binary aGk=", "holds a bytes"),
    ],
    ids=range(13),
)
def test_what_never_ends_or_is_not_plain_is_refused(text, message):
    start = time.monotonic()
    with pytest.raises(InvalidInputError, match=message) as caught:
        load_plain_yaml(text)
    assert time.monotonic() - start < 2 and "\n" not in str(caught.value)


@given(plain)
def test_plain_values_are_read_as_before(value):
    if isinstance(value, dict) and value and all(v is None for v in value.values()):
        return  # read as text by jsonargparse
    assert load_plain_yaml(yaml.safe_dump(value, allow_unicode=True)) == value


@pytest.mark.parametrize("option", ["--config", "--training", "--augmentation"])
def test_a_pipe_is_refused_at_once(option, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", option, str(tmp_path / "pipe")])
    assert stop.value.code == 2
    assert "no regular file" in one_line(capsys)


def test_a_pipe_that_a_file_names_is_refused_at_once(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "options.yaml").write_text(f"training: {tmp_path / 'pipe'}\n")
    with pytest.raises(SystemExit):
        main(["reproduce", "--config", str(tmp_path / "options.yaml")])
    assert "no regular file" in one_line(capsys)


def test_files_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "options.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DamagedFileError, match="not UTF-8"):
        check_option_file(str(path))
    path.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(DamagedFileError, match="at most"):
        check_option_file(str(path))
    with pytest.raises(DamagedFileError, match="no such file"):
        check_option_file(str(tmp_path / "none.yaml"))


def test_an_import_path_in_a_file_must_be_confirmed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil_module.py").write_text("open('trace', 'w')\nfactory = None\n")
    (tmp_path / "o.yaml").write_text("model: evil_module:factory\n")
    for command in (["check"], ["extract", "--out", "o"], ["grow", "net2wider"]):
        with pytest.raises(SystemExit) as stop:
            main([*command, "--config", "o.yaml"])
        assert stop.value.code == 2
        assert "--model evil_module:factory" in one_line(capsys)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("model", [None, "mlp", "torchvision:resnet18"])
def test_registered_models_need_no_confirmation(model):
    check_import_path(model, [])


def test_an_import_path_on_the_command_line_is_confirmed():
    check_import_path("a.b:c", ["check", "--model", "a.b:c"])
    check_import_path("a.b:c", ["check", "--model=a.b:c"])
    with pytest.raises(InvalidInputError, match="confirm"):
        check_import_path("a.b:c", ["check", "--config", "o.yaml"])
