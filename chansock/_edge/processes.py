"""Whether a server runs one process, as a channel without a backplane needs it.

Such a channel knows the clients of its own process only. No server is imported: the settings are
read by name from uvicorn's and hypercorn's Config, gunicorn's worker, and Granian's process. The
test tests/packaging/test_private_parts.py lists the parts of servers that this uses and that their
documentation does not promise.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os

from chansock.channel import ChannelSocket
from chansock.workers.report import BACKPLANE

__all__ = ["is_shared", "number_in", "number_of", "refusal", "server_of"]


def server_of(task: object) -> object:
    """Return the Config of the server whose lifespan runs in this task, None where it is not seen.

    uvicorn's and hypercorn's run it by a method of an object that has the Config. What the
    application gets of theirs may be wrapped by any framework.
    """
    coroutine = task.get_coro() if isinstance(task, asyncio.Task) else None
    frame = getattr(coroutine, "cr_frame", None)
    owner = None if frame is None else frame.f_locals.get("self")
    return getattr(owner, "config", None)


def number_of(config: object) -> int:
    """Count the processes of a server with this Config; 1 where it does not say."""
    # Granian passes nothing but the number of its worker, which its first one cannot count by.
    if config is None:
        return _granians_place()
    # Under gunicorn uvicorn knows of one process, and gunicorn's worker of all.
    worker = getattr(getattr(config, "callback_notify", None), "__self__", None)
    own = 1 if getattr(config, "reload", False) else _workers(config)  # uvicorn ignores it then
    return max(own, _workers(getattr(worker, "cfg", None)))


def number_in(task: object) -> int:
    """Count the processes of the gunicorn whose worker runs in this task; 1 where none does.

    aiohttp's worker passes its application nothing about itself.
    """
    coro = getattr(task, "get_coro", lambda: None)()
    worker = getattr(getattr(coro, "cr_frame", None), "f_locals", {}).get("self")
    if any(each.__module__.startswith("gunicorn.") for each in type(worker).__mro__):
        return _workers(getattr(worker, "cfg", None))
    return 1


def is_shared(chsk: ChannelSocket) -> bool:
    """Return whether the channel of this process is joined with those of others."""
    return bool(getattr(chsk, "_is_shared", False) or os.environ.get(BACKPLANE))


def refusal(number: int, chsk: ChannelSocket) -> str | None:
    """Return why a channel cannot run in so many processes, or None."""
    if number <= 1 or is_shared(chsk):
        return None
    return (
        f"expected 1 worker process, got {number}: each would know only the clients that are "
        f"connected to itself, so that a send reaches a part of them; set "
        f'backplane="redis://..." on the ChannelSocket, or workers to 1'
    )


def _granians_place() -> int:
    process = multiprocessing.current_process()
    if process.name != "granian-worker":
        return 1
    place = next(iter(getattr(process, "_args", ())), 1)
    return place if isinstance(place, int) else 1


def _workers(settings: object) -> int:
    number = getattr(settings, "workers", 1)
    return number if isinstance(number, int) else 1
