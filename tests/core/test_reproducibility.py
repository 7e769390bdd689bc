"""Seeds are functions of their purpose, devices are checked, versions are told."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradnet.core.reproducibility import (
    derive_seed,
    hardware,
    isolated_randomness,
    make_generator,
    resolve_device,
    versions,
)
from gradnet.errors import GradnetError

keys = st.lists(st.integers(-5, 5) | st.text(max_size=3), max_size=3).map(tuple)


def test_derived_seed_never_changes() -> None:
    """Results on disk depend on it; a new value makes them another run's."""
    assert derive_seed("splits", 0) == 3904064523077269208


def test_derived_seed_does_not_depend_on_the_process() -> None:
    code = (
        "from gradnet.core.reproducibility import derive_seed\n"
        "print(derive_seed('a', 1, 'b'))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) == derive_seed("a", 1, "b")


@given(one=keys, other=keys)
def test_seeds_are_equal_only_for_equal_keys(one: tuple, other: tuple) -> None:
    assert (derive_seed(*one) == derive_seed(*other)) == (one == other)
    assert 0 <= derive_seed(*one) < 2**63


def test_keys_are_not_run_together() -> None:
    assert derive_seed("a", "bc") != derive_seed("ab", "c")
    assert derive_seed("1") != derive_seed(1)


def test_generator_draws_are_fixed_by_its_keys() -> None:
    first, second, other = (
        torch.rand(4, generator=make_generator("x", seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert make_generator(0, device="cpu").device.type == "cpu"


def test_generator_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    torch.rand(4, generator=make_generator("x"))
    assert torch.equal(torch.get_rng_state(), before)


def test_isolated_randomness_restores_the_global_generator() -> None:
    before = torch.get_rng_state()
    with isolated_randomness():
        torch.manual_seed(99)
        torch.rand(10)
        assert not torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.get_rng_state(), before)


def test_isolated_randomness_restores_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(KeyError), isolated_randomness():
        torch.rand(10)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["abacus", "cuda:99", "", "cpu:x"])
def test_unknown_device_is_refused_by_name(name: str) -> None:
    with pytest.raises(GradnetError, match=f"^device {name!r} cannot be used: ."):
        resolve_device(name)


def test_device_without_memory_is_refused() -> None:
    with pytest.raises(GradnetError, match="device 'meta' cannot be used"):
        resolve_device("meta")


@pytest.mark.parametrize("available", [True, False])
def test_auto_takes_the_gpu_where_there_is_one(
    available: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert resolve_device("auto").type == ("cuda" if available else "cpu")
    assert resolve_device("cpu") == torch.device("cpu")


def test_versions_are_those_installed() -> None:
    found = versions()
    assert found["torch"] == torch.__version__
    assert found["numpy"] == np.__version__
    assert found["python"] == ".".join(str(part) for part in sys.version_info[:3])


def test_hardware_counts_the_threads() -> None:
    assert hardware(torch.device("cpu")).endswith("CPU, 1 threads")
