"""Locks: one holder at a time, none left behind, a dead holder blocks nobody."""

import subprocess
import sys
import threading

import pytest

from gradnet.core.locks import LockedFile
from gradnet.errors import BusyError

HOLD = """
import sys, time
from pathlib import Path
from gradnet.core.locks import LockedFile
lock = LockedFile(Path(sys.argv[1]), wait=False)
print("held", flush=True)
time.sleep(60)
"""


def test_the_file_exists_only_while_the_lock_is_held(tmp_path):
    path = tmp_path / "a.lock"
    with LockedFile(path, wait=False):
        assert path.exists()
    assert not path.exists()


def test_another_process_is_refused_until_the_holder_dies(tmp_path):
    path = tmp_path / "a.lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match="another run is writing"):
            LockedFile(path, wait=False)
        holder.kill()
    with LockedFile(path, wait=False):
        assert path.exists()


def test_who_waits_gets_the_lock_afterwards(tmp_path):
    path, order = tmp_path / "a.lock", []
    first = LockedFile(path, wait=False)

    def wait():
        with LockedFile(path, wait=True):
            order.append("second")

    waiting = threading.Thread(target=wait)
    waiting.start()
    waiting.join(0.2)
    order.append("first")
    first.release()
    waiting.join(10)
    assert order == ["first", "second"] and not path.exists()
