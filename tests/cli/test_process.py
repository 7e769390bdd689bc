"""However a command ends: one line, its exit status, and never a traceback."""

import io
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gradnet.cli import command_line, process
from gradnet.cli.commands import COMMANDS
from gradnet.cli.main import main
from gradnet.cli.process import one_line_per_failure
from gradnet.core.progress import progress
from gradnet.errors import InvalidInputError


def status_of(error, capsys):
    with pytest.raises(SystemExit) as stop, one_line_per_failure(["fit", "x"]):
        raise error
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return stop.value.code, text.strip()


def test_invalid_input_is_one_line(capsys):
    found = status_of(InvalidInputError("give two"), capsys)
    assert found == (2, "gradnet: error: give two")


def test_failures_of_the_system_are_one_line(capsys):
    found = status_of(FileNotFoundError(2, "No such file", "a"), capsys)
    assert found == (2, "gradnet: error: [Errno 2] No such file: 'a'")
    status, text = status_of(MemoryError("Unable to allocate 8 TiB"), capsys)
    assert status == 2 and "Unable to allocate 8 TiB" in text


def test_an_unforeseen_error_leaves_a_report(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(process.tempfile, "tempdir", str(tmp_path))
    status, text = status_of(RuntimeError("boom"), capsys)
    (report,) = tmp_path.iterdir()
    assert status == 1 and len(text.splitlines()) == 2 and str(report) in text
    written = report.read_text()
    assert "Traceback" in written and "RuntimeError: boom" in written
    assert written.startswith("command: gradnet fit x\n")


def test_a_report_that_cannot_be_written_is_no_second_failure(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(process.tempfile, "tempdir", str(tmp_path / "none"))
    status, text = status_of(RuntimeError("boom"), capsys)
    assert status == 1 and "no file" in text


@pytest.fixture(autouse=True)
def usual_signals():
    """Where the tests run in the background, some are ignored from the start."""
    usual = {signal.SIGINT: signal.default_int_handler}
    usual |= {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, how) for number, how in usual.items()}
    yield
    for number, how in before.items():
        signal.signal(number, how)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_end_like_ctrl_c(name, capsys):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stop, one_line_per_failure([]):
        signal.raise_signal(number)
    assert stop.value.code == 128 + number
    assert "the same command continues" in capsys.readouterr().err
    assert signal.getsignal(number) is before


def test_a_hangup_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with one_line_per_failure([]):
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_control_characters_are_escaped(capsys):
    _, text = status_of(InvalidInputError("layer '\x1b]0;x\x07'"), capsys)
    assert "\x1b" not in text and "\\x1b" in text


def test_very_long_messages_are_cut(capsys):
    _, text = status_of(InvalidInputError("x" * 100_000), capsys)
    assert len(text) < 3000


def run(arguments, **options):
    command = [sys.executable, "-m", "gradnet", *arguments]
    return subprocess.run(command, capture_output=True, **options)


def test_a_reader_that_has_gone_is_no_error():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "gradnet", "recipe", "default"]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert ended.returncode == 0 and ended.stderr == b""


def test_a_closed_standard_error_changes_no_exit_status(tmp_path):
    command = f"{sys.executable} -m gradnet table {tmp_path / 'none'} 2>&-"
    assert subprocess.run(command, shell=True, check=False).returncode == 2


def test_an_ascii_terminal_is_enough(tmp_path):
    code = "from gradnet.cli.process import one_line_per_failure as f\n"
    code += "with f([]): print('1 \\u00b1 2')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=environment, check=True
    )
    assert ended.stdout == b"1 \\xb1 2\n"


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != "grow"])
def test_an_unknown_option_takes_one_line(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--no-such-option", "3"])
    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and len(lines) <= 3
    assert f"gradnet {command} --help" in lines[-1]


@pytest.mark.parametrize("value", ["x", "1e", "[1]", "{}", ""])
def test_a_value_of_a_wrong_type_names_option_and_value(value, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "--max_epochs", value])
    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and len(lines) <= 3
    assert "max_epochs" in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_real_run_ends_by_a_signal_and_continues(name, tmp_path):
    arguments = ["train-base", "--model", "mlp", "--levels", "0.9", "--out"]
    command = [sys.executable, "-m", "gradnet", *arguments, str(tmp_path)]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    checkpoint = Path(tmp_path) / "snapshots/seed-0/checkpoint.pt"
    while not checkpoint.exists() and started.poll() is None:
        time.sleep(0.05)
    started.send_signal(getattr(signal, name))
    _, errors = started.communicate(timeout=60)
    if started.returncode != 0:  # else it was done before the signal came
        assert started.returncode == 128 + getattr(signal, name)
        assert "the same command continues" in errors and "Traceback" not in errors
    assert run([*arguments, str(tmp_path)]).returncode == 0


def test_ctrl_c_while_the_command_is_imported_is_one_line(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "run", interrupted)
    with pytest.raises(SystemExit) as stop:
        main(["recipe"])
    error = capsys.readouterr().err.strip()
    assert stop.value.code == 130 and error == "stopped; nothing was done yet"


def test_hardly_anything_is_imported_before_ctrl_c_is_caught():
    code = "import sys; import gradnet.cli.main; print(*sys.modules)"
    code = f"import sys\nsys.path[:] = {sys.path!r}\n{code}"
    command = [sys.executable, "-I", "-S", "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = set(found.split())
    assert not names & {"typing", "re", "argparse", "logging", "torch", "numpy"}


def test_an_error_that_a_signal_became_in_a_library_is_no_defect(capsys):
    with pytest.raises(SystemExit) as stop, one_line_per_failure([]):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ImportError("numpy was interrupted") from error
    assert stop.value.code == 130
    assert "defect" not in capsys.readouterr().err


class Broken(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


def test_work_goes_on_when_the_reader_has_gone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken())
    monkeypatch.setattr(sys, "stderr", Broken())
    done = []
    with one_line_per_failure([]):
        print("first")
        print("second", file=sys.stderr)
        done.append(True)
    assert done


def test_another_broken_pipe_is_an_error(capsys):
    assert status_of(BrokenPipeError(32, "Broken pipe"), capsys)[0] == 2


class Full(io.StringIO):
    """Standard output on a disk that is full."""

    def flush(self):
        raise OSError(28, "No space left on device")


def test_a_full_disk_under_standard_output_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(SystemExit) as stop, one_line_per_failure([]):
        print("table")
    assert stop.value.code == 2
    assert "No space left on device: '<stdout>'" in capsys.readouterr().err


def test_no_output_carries_escape_codes_or_forged_lines(capsys):
    hostile = "layer\x1b[31m\n| forged"
    with pytest.raises(SystemExit), one_line_per_failure([]):
        command_line._start_logging()
        print(f"printed {hostile}")
        logging.getLogger("gradnet").warning("logged %s", hostile)
        with progress(hostile, 1):
            pass
        raise InvalidInputError(f"refused {hostile}")
    found = capsys.readouterr()
    assert "\x1b" not in found.out + found.err
    assert len(found.err.splitlines()) == 2


@pytest.mark.parametrize(
    "advice",
    [
        "Weights only load failed. Use `weights_only=False` if you trust the file.",
        "It contains pickled data. You can load it unsafely using `pickle.load()`.",
    ],
)
def test_no_message_repeats_the_advice_to_unpickle(advice, capsys):
    status, text = status_of(RuntimeError(advice), capsys)
    assert status == 1 and "weights_only" not in text and "pickle.load" not in text
    Path(re.search(r"report is in (\S+)", text)[1]).unlink()
