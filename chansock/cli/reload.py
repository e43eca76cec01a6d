"""`--reload`: runs the server as a process of its own, and restarts it when a .py file changes.

Knows no channel. Looks at the files again and again, which needs no library and works on every
file system. watchfiles would replace `_stamps` alone, and needs a thread beside the wait for
signals. Folders that hold no source of one's own are left out.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Final, TypeAlias

__all__ = ["IS_AVAILABLE", "is_folder", "watch"]

log = logging.getLogger("chansock.cli.reload")

INTERVAL: Final = 0.25  # as uvicorn's: soon enough after a save, and little work between
LEFT_OUT: Final = frozenset({"__pycache__", "node_modules", "site-packages"})
IS_AVAILABLE: Final = hasattr(signal, "sigtimedwait")
ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM})
PR_SET_PDEATHSIG: Final = 1  # prctl(2)

Stamps: TypeAlias = dict[str, tuple[int, int]]

is_folder = os.path.isdir


def watch(command: Sequence[str], folders: Sequence[str], *, fd: int | None = None) -> int:
    """Run the command until SIGINT or SIGTERM; return its last exit status.

    The process inherits `fd`. It is ended in order (SIGTERM) before the next one starts, and if
    this one is killed. One that ended by itself is started again by the next change.
    """
    signals = {*ENDING, signal.SIGCHLD}
    # Taken from the queue, where it stands who sent them; a child begins with them unblocked.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    prctl = getattr(ctypes.CDLL(None), "prctl", None)

    def prepare() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            pass_fds=() if fd is None else (fd,),
            preexec_fn=prepare,  # noqa: PLW1509
        )

    log.info("reload_watching folders=%s", list(folders))
    # Looked at before the process reads them: what changes while it does is a change.
    stamps = _stamps(folders)
    process = start()
    is_ending = is_restarting = is_told = False
    while True:
        info = signal.sigtimedwait(signals, INTERVAL)
        if info is not None and info.si_signo in ENDING:
            is_ending = True
            if process.poll() is None and info.si_code <= 0:  # else from the terminal,
                process.send_signal(info.si_signo)  # whose Ctrl+C reached both
        exited = process.poll()
        if exited is not None and is_ending:
            return _status(exited)
        if exited is not None and not is_restarting and not is_told:
            is_told = True
            log.warning("reload_waiting exit_status=%d: for a change of a file", exited)
        if not is_restarting and not is_ending and info is None:
            found = _stamps(folders)
            if found != stamps:
                log.info("reload_restarting changed=%r", _first_difference(stamps, found))
                stamps = found
                is_restarting = True
                if exited is None:
                    process.terminate()
        if exited is not None and is_restarting:
            stamps = _stamps(folders)
            process = start()
            is_restarting = is_told = False


def _stamps(folders: Sequence[str]) -> Stamps:
    """Return when each .py file below the folders was written, and its size."""
    found: Stamps = {}
    for folder in folders:
        for root, names, files in os.walk(folder):
            names[:] = [name for name in names if name not in LEFT_OUT and name[0] != "."]
            for name in files:
                if name.endswith(".py"):
                    path = os.path.join(root, name)
                    try:
                        about = os.stat(path)
                    except OSError:  # gone meanwhile, as editors do while they save
                        continue
                    found[path] = about.st_mtime_ns, about.st_size
    return found


def _first_difference(old: Stamps, new: Stamps) -> str:
    return next(path for path in {**old, **new} if old.get(path) != new.get(path))


def _status(exited: int) -> int:
    """Return a process's exit status as a shell does; ended by the signal of the end is 0."""
    return exited if exited >= 0 else 0 if -exited in ENDING else 128 - exited
