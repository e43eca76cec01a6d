"""One connection of a client, whatever it is made of: what `ws` and `ajax` share.

It has a reading task that nobody cancels; that ends when its wire does. What comes goes to the
client, whose account judges it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from soak.wire import Wire

if TYPE_CHECKING:
    from soak.client import Client

PATIENCE = 30.0  # seconds until something that must come counts as missing


class Link:
    """One connection: what Ws and Ajax share."""

    def __init__(self, client: Client, wire: Wire) -> None:
        self.client = client
        self.wire = wire
        self.random = client.random
        self.is_open = False
        self.is_ending = False  # by our own will
        self.saw_close = False  # a close frame
        self.has_lagged = False
        self.is_unread = False  # what comes now is not taken notice of
        self.reading: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.is_open = True
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            await self.read()
        except (asyncio.IncompleteReadError, OSError):
            pass
        except Exception as error:
            self.client.fault(f"reading: {error!r}")
        finally:
            self.is_open = False

    async def finish(self) -> None:
        """Read to the end, whoever made it."""
        assert self.reading is not None
        done, _ = await asyncio.wait([self.reading], timeout=PATIENCE)
        if not done:
            self.client.late(f"{type(self).__name__}: no end within {PATIENCE} s")
            self.close()
            await self.reading

    async def is_closed_within(self, seconds: float) -> None:
        assert self.reading is not None
        await asyncio.wait([self.reading], timeout=seconds)

    async def open(self, old: Link | None = None) -> None:
        raise NotImplementedError

    async def read(self) -> None:
        raise NotImplementedError

    async def tell(self, event: str) -> None:
        raise NotImplementedError

    async def ask(self, count: int) -> None:
        raise NotImplementedError

    async def leave(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def shut(self, is_shut: bool) -> None:
        """Read nothing, or read on."""
        raise NotImplementedError

    def stop_reading(self) -> None:
        self.has_lagged = self.client.account.has_lagged = True
        self.shut(True)

    async def flood(self) -> None:
        """Have much sent to us."""
        await self.tell(f":t/flood [{self.random.choice((120, 250, 450))} 800]")
        self.client.count("floods")

    async def read_out(self) -> None:
        """Read to the end, now that another connection displaced this one."""
        self.shut(False)
        await self.fin()

    async def lag(self, is_long: bool = False) -> None:
        """Read nothing for a while, with much to read; then read on, or reset."""
        random = self.random
        self.stop_reading()
        if is_long or random.random() < 0.15:
            await self.flood()
        await asyncio.sleep(random.uniform(2.5, 5) if is_long else random.uniform(0.3, 1.2))
        if random.random() < 0.3:
            await self.reset()
            return
        self.shut(False)
        await self.is_closed_within(1.0)
        await (self.leave() if self.is_open else self.finish())

    async def lag_long(self) -> None:
        await self.lag(is_long=True)

    async def reset(self) -> None:
        raise NotImplementedError

    async def fin(self) -> None:
        raise NotImplementedError

    async def kick(self) -> None:
        """Have the server close it."""
        await self.tell(f":t/kick [{self.client.next()}]")
        await self.finish()

    def asked(self) -> tuple[str, str, int, int]:
        """Choose a question: its text, kind, k and answer."""
        kind = self.random.choice(("plain", "plain", "wait", "parallel"))
        x = self.random.randrange(1000)
        k = self.random.randrange(1 << 30) if kind == "parallel" else self.client.next()
        self.client.count(f"asked {kind}")
        return f":t/{kind} [{k} {x}]", kind, k, x + 1

    def replied(self, kind: str, k: int) -> None:
        if kind != "parallel":
            self.client.sure = max(self.client.sure, k)
