"""What time does to a server on a real port, in virtual time: nothing is slept for."""

from __future__ import annotations

import asyncio

import pytest
from sente_app import serving
from timed_replay import SocketLoop

from chansock._fast.io.epoll import IS_AVAILABLE


@pytest.mark.parametrize("uses_epoll", [False, IS_AVAILABLE])
def test_client_silent_since_its_handshake_is_pinged_after_one_window(
    uses_epoll: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chansock.server.USES_EPOLL", uses_epoll)

    async def main() -> None:
        now = asyncio.get_running_loop().time
        async with serving() as served, served.socket("alice/1") as alice:
            start = now()
            assert await alice.text() == "[:chsk/ws-ping nil]"
            assert now() - start == pytest.approx(12.5, abs=0.01)
            closed = await alice.frame()
            assert (closed.code, closed.reason) == (1011, "ping timeout")
            assert now() - start == pytest.approx(22.5, abs=0.01)

    loop = SocketLoop()
    try:
        loop.run(main())
    finally:
        loop.close()
