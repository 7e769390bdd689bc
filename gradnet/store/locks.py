"""Locks on files of a local folder, so that two processes never write the same one."""

from pathlib import Path

import filelock

from gradnet.errors import BusyError


class LockedFile:
    """A lock that is held until its block ends; its lock file exists only meanwhile.

    The operating system releases it when the process dies, so that the lock file of a
    killed process blocks nobody.

    Args:
        path: of the lock file.
        wait: until another process releases it, instead of raising.

    Raises:
        BusyError: another process holds it, and ``wait`` is false.
        OSError: the lock file cannot be created.
    """

    def __init__(self, path: Path, wait: bool) -> None:
        self.path = path
        self._lock = filelock.FileLock(path, thread_local=False)
        while not self._acquire(wait):
            # Unless its holder deleted it between the opening and the locking.
            if path.exists():
                raise BusyError(
                    f"another run is writing this store ({path} is locked); wait for "
                    "it to end, or give each run shards of its own"
                )

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
