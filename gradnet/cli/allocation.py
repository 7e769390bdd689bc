"""Failed allocations in one line, which says how much was asked for."""

from collections.abc import Iterator
from contextlib import contextmanager

from gradnet.core.memory import asked_bytes
from gradnet.errors import InvalidInputError
from gradnet.store.manifest import readable_bytes


@contextmanager
def one_line_per_allocation() -> Iterator[None]:
    """Tell a failed allocation of torch or numpy as an error of the input.

    Raises:
        InvalidInputError: an allocation failed.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        size = asked_bytes(error)
        if size is None:
            raise
        asked = f"{readable_bytes(size)} were asked for at once" if size else str(error)
        raise InvalidInputError(
            f"not enough memory: {asked}; choose smaller networks, batches or sizes"
        ) from error
