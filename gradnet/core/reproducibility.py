"""Seeds, devices and versions: what makes a run reproducible."""

import hashlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy
import torch

from gradnet.core.text import one_line, reason_of
from gradnet.errors import InvalidInputError

# By its name at run time: for import-linter, the root stands on all levels above this.
GRADNET_VERSION: str = import_module("gradnet").__version__


def resolve_device(name: str = "auto") -> torch.device:
    """The device ``name``; ``auto`` is the GPU if there is one, else the CPU.

    Raises:
        InvalidInputError: there is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        raise InvalidInputError(
            f"device {name!r} cannot be used: {reason_of(error)}"
        ) from None
    return device


def derive_seed(*keys: object) -> int:
    """A 63-bit seed that is a fixed function of ``keys``.

    Random numbers depend on their purpose (seed, what for, step), not on how many were
    drawn before. So a resumed run continues with the same numbers without a saved
    generator state.

    Args:
        keys: plain values with an unambiguous ``repr``: numbers, strings, tuples.

    Example:
        >>> derive_seed("order", 0, 3) == derive_seed("order", 0, 3)
        True
        >>> derive_seed("order", 0, 3) == derive_seed("order", 0, 4)
        False
    """
    digest = hashlib.sha256(repr(keys).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def make_generator(
    *keys: object, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator on ``device``, seeded with :func:`derive_seed` of ``keys``."""
    return torch.Generator(device=device).manual_seed(derive_seed(*keys))


@contextmanager
def isolated_randomness() -> Iterator[None]:
    """Restore the state of torch's global generators at the end of the block."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        yield


def versions() -> dict[str, str]:
    """Versions of gradnet, Python, torch and numpy, for the record."""
    return {
        "gradnet": GRADNET_VERSION,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }


def hardware(device: torch.device) -> str:
    """A short name of the hardware, to be recorded with timings."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def environment(device: torch.device | str) -> dict[str, Any]:
    """What the last bits of a result depend on, beside its settings and its seed.

    Another version of torch, another number of threads or another processor adds up
    the same numbers in another order; another version of gradnet may do other work.

    Args:
        device: that the work is done on.
    """
    device = torch.device(device)
    found: dict[str, Any] = {
        "gradnet": GRADNET_VERSION,
        "torch": str(torch.__version__),
    }
    if device.type == "cuda":
        return {**found, "device": torch.cuda.get_device_name(device)}
    capability = torch.backends.cpu.get_cpu_capability()
    found["device"] = f"{platform.machine()} {device.type}, {capability}"
    return {**found, "threads": torch.get_num_threads()}


def environment_difference(before: object, now: dict[str, Any]) -> str | None:
    """What differs between two environments, in words; None where nothing does.

    Fields that the earlier one lacks, because a file is older than they are, count as
    the same.

    Args:
        before: as :func:`environment` gave it when a file was written.
        now: as it is now.

    Example:
        >>> environment_difference({"threads": 1}, {"threads": 2, "torch": "2.13"})
        'threads 1, now 2'
    """
    if not isinstance(before, dict):
        return None
    found = [
        f"{name} {one_line(before[name])}, now {value}"
        for name, value in now.items()
        if before.get(name) not in (None, value)
    ]
    return "; ".join(found) or None
