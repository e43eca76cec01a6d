"""A channel on a real port, served by a thread: for clients with sockets in the same test.

The server is the real one, on a loop of its own. No virtual time here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from chansock._edge.sockets import Fallback
from chansock.channel import ChannelSocket
from chansock.clock import loop_factory
from chansock.server import Listener, serve

__all__ = ["Served", "serve_in_thread"]

T = TypeVar("T")

START_LIMIT = 10.0  # seconds; a server that does not listen by then never will


class Served:
    """A channel that a thread serves. `url` is `http://127.0.0.1:<port>/chsk`."""

    def __init__(self, chsk: ChannelSocket, listener: Listener) -> None:
        self.chsk = chsk
        self.url: str = listener.url
        self.port: int = listener.port
        self._loop = asyncio.get_running_loop()

    def run(self, coro: Coroutine[Any, Any, T], timeout: float = 10.0) -> T:
        """Run a coroutine on the server's loop, and wait for its result.

        Raises TimeoutError after `timeout` seconds, and what the coroutine raises.
        """
        return asyncio.run_coroutine_threadsafe(coro, self._loop).result(timeout)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function on the server's thread, and give what it returns."""

        async def call() -> T:
            return function()

        return self.run(call())


@contextmanager
def serve_in_thread(
    chsk: ChannelSocket,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    path: str = "/chsk",
    fallback: Fallback | None = None,
) -> Iterator[Served]:
    """Serve a channel on a free port while the `with` runs, in a thread of its own.

    `chsk.send` and `chsk.disconnect` may be called from the test, as from any thread; what
    else belongs to the loop goes by `Served.call` and `Served.run`. At the end the channel is
    stopped in order. Raises what the server's start raises.
    """
    started: Future[Served] = Future()
    failed: list[BaseException] = []
    stop = asyncio.Event()

    async def main() -> None:
        async with serve(chsk, host, port, path=path, fallback=fallback) as listener:
            started.set_result(Served(chsk, listener))
            await stop.wait()

    def live() -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(main())
        except BaseException as error:
            if started.done():
                failed.append(error)
            else:
                started.set_exception(error)

    thread = threading.Thread(target=live, name="chansock.testing", daemon=True)
    thread.start()
    served = started.result(START_LIMIT)
    try:
        yield served
    finally:
        if thread.is_alive():
            served.call(stop.set)
        # Handlers and connections have stop_timeout each, and then are cut off.
        thread.join(START_LIMIT + 2 * chsk.config.stop_timeout)
    if failed:
        raise failed[0]
