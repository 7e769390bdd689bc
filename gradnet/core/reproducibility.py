"""Seeds, devices and versions: what makes a run the same run twice."""

import hashlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch

from gradnet.errors import GradnetError


def resolve_device(name: str = "auto") -> torch.device:
    """The device called ``name``; ``auto`` is the GPU where there is one.

    Raises:
        GradnetError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise GradnetError(f"device {name!r} cannot be used: {reason}") from None
    return device


def derive_seed(*keys: object) -> int:
    """A 63-bit seed that is a fixed function of ``keys``.

    Randomness here is a function of what it is for (seed, purpose, step), not of
    what was drawn before: so a resumed run needs no generator state to continue
    with the same numbers.
    """
    digest = hashlib.sha256(repr(keys).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def make_generator(
    *keys: object, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator on ``device`` whose draws are a fixed function of ``keys``."""
    return torch.Generator(device=device).manual_seed(derive_seed(*keys))


@contextmanager
def isolated_randomness() -> Iterator[None]:
    """Leave torch's global generators afterwards as they were before."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        yield


def versions() -> dict[str, str]:
    """Versions of what numbers depend on, to be written beside every result."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }


def hardware(device: torch.device) -> str:
    """A short name of the machine, to be written beside every time."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
