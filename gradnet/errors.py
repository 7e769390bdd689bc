"""The errors of this package: one base class, and one subclass for each cause."""


class GradnetError(ValueError):
    """Base class of all errors of this package: one readable line with the remedy.

    The command line prints it without a traceback and exits with status 2; in
    Python it is an ordinary :class:`ValueError`.
    """


class InvalidInputError(GradnetError):
    """An argument, option, module or array that the function does not take."""


class DamagedFileError(GradnetError):
    """A file that is missing, cut short, altered, or of another kind than expected."""


class NewerFormatError(DamagedFileError):
    """A file of a newer version of this package: not damaged, but not readable here."""


class NotFittedError(GradnetError, AttributeError):
    """Something is used before it was fitted or trained."""


class BusyError(GradnetError):
    """Another process is writing to the same place; try again when it has ended."""
