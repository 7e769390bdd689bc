"""The corpus in a process that may take one gigabyte more, and end in time."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import itertools, logging, pathlib, resource, sys, warnings
warnings.simplefilter("ignore")
logging.disable()
import hostile_files, hostile_foreign
from hostile_checks import faults_of
from hostile_readers import READERS

folder = pathlib.Path(sys.argv[1])
(folder / "a.pt2").write_bytes(hostile_foreign.exported())
READERS["exported"](folder / "a.pt2")  # imports what it needs
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 10**9
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
files = itertools.chain(
    hostile_files.all_files(hostile_files.FEW),
    hostile_foreign.all_foreign_files(),
    hostile_foreign.exported_files(1500),
)
faults = faults_of(list(files), folder, READERS)
print("\\n".join(faults))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
sys.exit(bool(faults))
"""


@pytest.mark.slow
def test_no_file_takes_more_than_a_gigabyte(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={
            "PYTHONPATH": f"{root}:{root / 'tests' / 'cases'}",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
