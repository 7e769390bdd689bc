"""Progress: silent in a library, lines in a log file, a bar on a terminal."""

import io
import logging
import re
import sys
import time

import pytest

from gradnet.core import progress as module
from gradnet.core.progress import progress


class Clock:
    """Stands for time.monotonic: moves only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())


@pytest.fixture
def info(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="gradnet")
    return caplog


def test_nothing_is_shown_when_the_logger_is_off(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, logger="gradnet")
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress("working", 3) as advance:
        for _ in range(3):
            advance(1)
    assert caplog.messages == []
    assert sys.stderr.getvalue() == ""


def test_lines_tell_rate_and_time_left(
    info: pytest.LogCaptureFixture, clock: Clock
) -> None:
    with progress("working", 1000, "images") as advance:
        clock.now += 20
        advance(500)
    assert info.messages == ["working: 500 of 1000 images, 25.0/s, at most 20 s left"]


def test_long_times_are_told_in_minutes(
    info: pytest.LogCaptureFixture, clock: Clock
) -> None:
    with progress("working", 10_000) as advance:
        clock.now += 20
        advance(100)
    assert info.messages[0].endswith("100 of 10000 steps, 5.0/s, at most 33 min left")


def test_rate_counts_only_what_this_run_did(
    info: pytest.LogCaptureFixture, clock: Clock
) -> None:
    with progress("working", 1000, done=800) as advance:
        clock.now += 20
        advance(100)
    assert info.messages == ["working: 900 of 1000 steps, 5.0/s, at most 20 s left"]


def test_lines_keep_their_distance(
    info: pytest.LogCaptureFixture, clock: Clock
) -> None:
    with progress("working", 100) as advance:
        for _ in range(40):
            clock.now += 1
            advance(1)
    counts = [int(re.search(r"(\d+) of", line)[1]) for line in info.messages]
    assert counts == [15, 30]


def test_step_of_nothing_breaks_no_line(
    info: pytest.LogCaptureFixture, clock: Clock
) -> None:
    with progress("working", 100) as advance:
        clock.now += 20
        advance(0)
        clock.now += 20
        advance(4)
    assert info.messages[-1] == "working: 4 of 100 steps, 0.1/s, at most 16 min left"


def test_lines_come_with_the_real_clock(
    info: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    with progress("working", 2) as advance:
        time.sleep(0.001)
        advance(1)
    assert re.fullmatch(
        r"working: 1 of 2 steps, [\d.]+/s, at most \d+ s left", info.messages[0]
    )


def test_terminal_shows_a_bar_and_no_lines(
    info: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    module.make_console.cache_clear()
    try:
        with progress("working", 10, "images", done=4) as advance:
            advance(3)
    finally:
        module.make_console.cache_clear()
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.getvalue())
    assert re.search(r"working .*7/10 images, [\d.]+/s", plain)
    assert info.messages == []
