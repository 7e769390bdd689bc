"""Locks on local files, so that two processes never do or write the same thing."""

from pathlib import Path

import filelock

from gradnet.errors import BusyError


class LockedFile:
    """A lock that is held until its block ends; its lock file exists only meanwhile.

    The operating system releases it when the process dies, so that the lock file of a
    killed process blocks nobody.

    Args:
        path: of the lock file; its folder exists.
        wait: until another process releases it, instead of raising.
        busy: what the other process does, and what to do about it, for the message.

    Raises:
        BusyError: another process holds it, and ``wait`` is false.
        OSError: the lock file cannot be created.
    """

    def __init__(
        self, path: Path, wait: bool, busy: str = "another run is writing the same"
    ) -> None:
        self.path = path
        self._lock = filelock.FileLock(path, thread_local=False)
        while not self._acquire(wait):
            # Unless its holder deleted it between the opening and the locking.
            if path.exists():
                raise BusyError(f"{busy} ({path} is locked)")

    def _acquire(self, wait: bool) -> bool:
        try:
            self._lock.acquire(blocking=wait)
        except filelock.Timeout:
            return False
        return True

    def __enter__(self) -> "LockedFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def release(self) -> None:
        """Delete the lock file and let others lock it."""
        # Deleted while it is still locked: a process that has opened it already finds,
        # once it has the lock, that the file has no name any more, and tries again.
        self.path.unlink(missing_ok=True)
        self._lock.release()
