"""Checks of the fields of settings dataclasses."""

from gradnet.errors import InvalidInputError


def check_minimum(settings: object, **minimums: float) -> None:
    """Check that fields are not below their least allowed values.

    Args:
        settings: what has the fields; a field that is None is not checked.
        **minimums: field name -> its least allowed value.

    Raises:
        InvalidInputError: names the first field that is too small, or NaN.

    Example:
        >>> from types import SimpleNamespace
        >>> check_minimum(SimpleNamespace(rounds=0), rounds=1)
        Traceback (most recent call last):
        gradnet.errors.InvalidInputError: rounds is 0; it must be >= 1
    """
    for name, minimum in minimums.items():
        value = getattr(settings, name)
        if value is not None and not value >= minimum:
            raise InvalidInputError(f"{name} is {value}; it must be >= {minimum}")
