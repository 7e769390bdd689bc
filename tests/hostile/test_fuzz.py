"""Readers given files that hypothesis damages; for longer by ``make fuzz``."""

import faulthandler
import os
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import hostile_foreign
import pytest
from hostile_checks import fault_of
from hostile_files import HostileFile, changed, file_bytes, places, raw, whole_files
from hostile_files import whole_bytes as whole_bytes_of
from hostile_readers import READERS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# In all, shared by the kinds; 0 for the fixed budget of the tests.
FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
SUFFIXES = {"weights": ".pt", "data": ".npz", "exported": ".pt2"}
HEADERS = ("snapshot", "gradnet", "grown")
KINDS = [*HEADERS, "weights", "data", *(["exported"] if FUZZ_SECONDS else [])]
BATCH = 200
MAX_SECONDS = 20

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)


@cache
def whole_bytes(kind: str) -> bytes:
    if kind == "weights":
        return hostile_foreign.torch_bytes(hostile_foreign.state())
    if kind == "data":
        return hostile_foreign.npz_bytes()
    return hostile_foreign.exported() if kind == "exported" else whole_bytes_of(kind)


@st.composite
def damaged(draw: st.DrawFn, kind: str) -> HostileFile:
    """The whole file after a few changes to its bytes."""
    content = bytearray(whole_bytes(kind))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        length = draw(st.sampled_from([1, 2, 4, 8, 100]))
        how = draw(st.sampled_from(["flip", "write", "remove", "insert", "repeat"]))
        if how == "flip" and content:
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif how == "write":
            content[place : place + length] = draw(st.binary(max_size=length))
        elif how == "remove":
            del content[place : place + length]
        elif how == "insert":
            content[place:place] = draw(st.binary(max_size=length))
        elif how == "repeat":
            content[place:place] = content[place : place + length]
    suffix = SUFFIXES.get(kind, ".safetensors")
    return raw(kind, "fuzzed", bytes(content), suffix, may_pass=True)


@st.composite
def misled(draw: st.DrawFn, kind: str) -> HostileFile:
    """The whole file with other values in its header, and the right checksum."""
    header, tensors = whole_files()[kind]
    found: Any = header
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(found))))
        found = changed(found, path, draw(json_values))
        if not isinstance(found, dict) or not found:
            break
    content = file_bytes(found, {k: t.contiguous() for k, t in tensors.items()})
    return raw(kind, f"fuzzed header {found}", content, ".safetensors", may_pass=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_fuzzed_files(kind: str) -> None:
    files = damaged(kind)
    if kind in HEADERS:
        files = files | misled(kind)

    @given(files)
    def check(file: HostileFile) -> None:
        with tempfile.TemporaryDirectory() as folder:
            if FUZZ_SECONDS:
                faulthandler.dump_traceback_later(MAX_SECONDS, exit=True)
            fault = fault_of(file, Path(folder), READERS[kind])
            faulthandler.cancel_dump_traceback_later()
            assert fault is None, f"{file}: {fault}"

    if not FUZZ_SECONDS:
        check()
        return
    slow = [
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ]
    check = settings(
        max_examples=BATCH, deadline=None, derandomize=False, suppress_health_check=slow
    )(check)
    end = time.monotonic() + FUZZ_SECONDS / len(KINDS)
    while time.monotonic() < end:
        check()
