"""Commands that are killed, as a machine that goes down would."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable


def run_killed(arguments: list[str], when: Callable[[], bool]) -> None:
    """Start a command and kill -9 it as soon as ``when()`` holds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "gradnet", *arguments]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        for _ in range(3000):
            if when() or process.poll() is not None:
                break
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it could be killed"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
