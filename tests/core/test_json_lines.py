"""A log of whole lines: what is damaged is told, what is half written is dropped."""

import errno
import logging
import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradnet.core import json_lines
from gradnet.core.json_lines import JsonLines


def test_log_keeps_records_in_order(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "deep" / "log.jsonl")
    assert log.read() == []
    assert not log.path.exists()
    for step in range(3):
        log.append({"step": step})
    assert JsonLines(log.path).read() == [{"step": step} for step in range(3)]


@given(data=st.data(), texts=st.lists(st.text(), min_size=1, max_size=4))
def test_half_line_is_dropped_by_the_next_that_writes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, texts: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.jsonl"
    path.unlink(missing_ok=True)
    log = JsonLines(path)
    records = [{"text": text} for text in texts]
    for record in records:
        log.append(record)
    whole = path.read_bytes()
    kept = whole[: data.draw(st.integers(0, len(whole)))]
    path.write_bytes(kept)
    log = JsonLines(path)
    assert log.read() == records[: kept.count(b"\n")]
    log.append({"text": "next"})
    assert log.read() == [*records[: kept.count(b"\n")], {"text": "next"}]


def test_replace_changes_the_records_of_its_key_alone(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "log.jsonl")
    for run in ("a", "b"):
        for step in range(2):
            log.append({"run": run, "seed": 0, "step": step})
    log.append({"run": "a", "seed": 1, "step": 0})
    log.append({"other": True})
    log.replace({"run": "a", "seed": 0}, [{"step": 7}])
    assert log.read() == [
        {"run": "b", "seed": 0, "step": 0},
        {"run": "b", "seed": 0, "step": 1},
        {"run": "a", "seed": 1, "step": 0},
        {"other": True},
        {"run": "a", "seed": 0, "step": 7},
    ]


def test_replace_with_nothing_removes_the_records(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "log.jsonl")
    log.append({"run": "a"})
    log.replace({"run": "a"}, [])
    assert log.read() == []


def test_replace_by_nothing_makes_no_file(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "log.jsonl")
    log.replace({"run": "a"}, [])
    assert not log.path.exists()


DAMAGE = [b"{", b"[1]", b"3", b"\xff\xfe", b"null", b"", b"[" * 100_000]


@pytest.mark.parametrize("line", DAMAGE)
def test_a_damaged_line_is_told_once_and_kept(
    tmp_path: Path, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"run": "a"}\n' + line + b'\n{"run": "b"}\n')
    log = JsonLines(path)
    with caplog.at_level(logging.WARNING, logger="gradnet"):
        assert log.read() == log.read() == [{"run": "a"}, {"run": "b"}]
    (record,) = caplog.records
    assert f"{path}, line 2 is damaged" in record.getMessage()
    log.replace({"run": "a"}, [{"new": True}])
    assert log.read() == [{"run": "b"}, {"run": "a", "new": True}]
    assert line + b"\n" in path.read_bytes()


def test_a_killed_writer_leaves_nothing_after_the_next(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"run": "a"}\n{"ru')
    (tmp_path / "log.jsonl.99999.part").touch()
    (tmp_path / "log.jsonl.lock").touch()
    JsonLines(path).clean()
    assert path.read_bytes() == b'{"run": "a"}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.jsonl"
    log = JsonLines(path)
    log.append({"step": 0})

    def fill(path: Path, data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data[:4])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(json_lines, "append_bytes", fill)
        with pytest.raises(OSError, match=r"Errno 28.*log\.jsonl"):
            log.append({"step": 1})
    assert log.read() == [{"step": 0}]
    log.append({"step": 2})
    assert log.read() == [{"step": 0}, {"step": 2}]


def append_many(path: Path, run: str) -> None:
    log = JsonLines(path)
    for step in range(40):
        log.append({"run": run, "step": step})
        if step % 10 == 9:
            log.replace({"run": run, "kind": "sum"}, [{"of": step}])


def test_processes_that_write_at_once_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    context = multiprocessing.get_context("fork")
    running = [context.Process(target=append_many, args=(path, run)) for run in "ab"]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0, 0]
    records = JsonLines(path).read()
    for run in "ab":
        own = [r for r in records if r["run"] == run and "kind" not in r]
        assert [r["step"] for r in own] == list(range(40))
        sums = [r for r in records if r["run"] == run and "kind" in r]
        assert [r["of"] for r in sums] == [39]
    assert list(tmp_path.iterdir()) == [path]
