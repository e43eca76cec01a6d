"""One TCP connection of a client, read only when it wants to: a lag is a lag, and a reset is one.

What has not been asked for stays in the kernel. It has `readexactly` and `readuntil`, so that
tests/support/peer.py reads answers and frames from it. Nothing of chansock is known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time

LINGER_0 = struct.pack("ii", 1, 0)


class Wire:
    """A socket with a gate: while that is shut nothing is read."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.loop = asyncio.get_running_loop()
        self.buffer = bytearray()
        self.gate = asyncio.Event()
        self.gate.set()
        self.used = time.monotonic()  # when it was last answered, or made
        self.is_over = False  # nothing more will be read
        self.was_cut = False  # the other side reset it
        self._waiter: asyncio.Future[None] | None = None
        self._lock = asyncio.Lock()

    @classmethod
    async def connect(cls, port: int, receive_buffer: int = 0) -> Wire:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    async def send(self, data: bytes) -> bool:
        """Send; False: it broke."""
        try:
            async with self._lock:
                await self.loop.sock_sendall(self.sock, data)
        except OSError:
            return False
        return True

    # -- reading

    async def readexactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            await self._more(size)
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    async def readuntil(self, separator: bytes) -> bytes:
        while (at := self.buffer.find(separator)) < 0:
            await self._more(None)
        return await self.readexactly(at + len(separator))

    def _wake(self) -> None:
        if self._waiter is not None:
            self.loop.remove_reader(self.fd)
            self._waiter.set_result(None)
            self._waiter = None

    async def _more(self, wanted: int | None) -> None:
        while not self.is_over:
            await self.gate.wait()
            if self.is_over or self._recv():
                return
            if not self.is_over:
                waiter = self._waiter = self.loop.create_future()
                self.loop.add_reader(self.fd, self._wake)
                await waiter
        raise asyncio.IncompleteReadError(bytes(self.buffer), wanted)

    def _recv(self) -> bool:
        """Take what the kernel has. False: nothing, or the end."""
        try:
            piece = self.sock.recv(1 << 16)
        except BlockingIOError:
            return False
        except OSError:
            self.was_cut = True
            piece = b""
        self.buffer += piece
        self.is_over = not piece
        return bool(piece)

    # -- ends

    def reset(self) -> None:
        """Break the connection: the server sees a reset. What the kernel had is in `buffer`."""
        while not self.is_over and self._recv():
            pass
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        self.close()

    def fin(self) -> None:
        """End our half."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._wake()
        self.is_over = True
        self.gate.set()
        self.sock.close()
