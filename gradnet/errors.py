"""The one error type for what a user can put right: the thing and the remedy."""


class GradnetError(ValueError):
    """Bad input, a bad file or an impossible request, told in one readable line.

    The command line prints it without a traceback and exits with status 2; in
    Python it is an ordinary :class:`ValueError`.
    """
