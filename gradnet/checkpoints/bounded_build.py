"""Building the network that a file describes, no larger than the file is."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.parameter import is_lazy

from gradnet.core.text import reason_of
from gradnet.errors import DamagedFileError, GradnetError

T = TypeVar("T")

# What a factory makes and drops again, or does not save.
SPARE_FACTOR, SPARE_ELEMENTS, SPARE_MODULES = 20, 5_000_000, 5_000


class _TooLargeError(Exception):
    """The network has more numbers or layers than its file explains."""


def build_from_file(
    build: Callable[[], T], tensors: Iterable[Tensor], source: str, what: str
) -> T:
    """What ``build`` makes of the values in a file's header.

    A header may state any width or depth. The layers are counted while they are made,
    and a layer's weights before they are filled, so that a wrong number costs neither
    memory nor time.

    Args:
        build: makes one or more networks.
        tensors: of the file.
        source: the file, for messages.
        what: it should hold, for messages: ``"snapshot"``.

    Raises:
        DamagedFileError: the network would be far larger than the file, or cannot be
            built of these values.
        GradnetError: what ``build`` raises of its own.
    """
    tensors = list(tensors)
    elements = sum(tensor.numel() for tensor in tensors)
    try:
        with _limited(
            SPARE_FACTOR * elements + SPARE_ELEMENTS,
            SPARE_FACTOR * len(tensors) + SPARE_MODULES,
        ):
            return build()
    except GradnetError:
        raise
    except Exception as error:  # whatever a value of the wrong kind leads to
        raise DamagedFileError(
            f"{source} holds no {what}: its header describes a network that cannot be "
            f"built ({type(error).__name__.lstrip('_')}: {reason_of(error)})"
        ) from None


@contextmanager
def _limited(max_elements: int, max_modules: int) -> Iterator[None]:
    """Raise where this thread makes networks with more than so much."""
    thread, elements, modules = threading.get_ident(), 0, 0

    def count_tensor(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal elements
        if threading.get_ident() != thread or tensor is None or is_lazy(tensor):
            return
        elements += tensor.numel()
        if elements > max_elements:
            raise _TooLargeError(f"it has more than {max_elements:,} numbers")

    def count_module(module: nn.Module, name: str, child: nn.Module | None) -> None:
        nonlocal modules
        modules += threading.get_ident() == thread
        if modules > max_modules:
            raise _TooLargeError(f"it has more than {max_modules:,} layers")

    hooks = (
        register_module_parameter_registration_hook(count_tensor),
        register_module_buffer_registration_hook(count_tensor),
        register_module_module_registration_hook(count_module),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
