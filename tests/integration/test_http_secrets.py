"""Nothing that a peer keeps secret stands in a log, at any level, whatever becomes of it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import peer
import pytest
from raw import POLL, Run, config, handshake, post
from sente_app import make, serving

import chansock
from chansock import Config, Request, Response

SECRET = "s3cr3t"
FORM = "application/x-www-form-urlencoded"
FIELDS = [
    ("Cookie", f"session={SECRET}"),
    ("X-CSRF-Token", SECRET),
    ("Authorization", f"Bearer {SECRET}"),
    ("Referer", f"http://localhost/?{SECRET}"),
]
BODY = f"client-id=alice%2F1&csrf-token={SECRET}&ppstr=%5B%5B".encode()


def requests(path: str) -> list[bytes]:
    """Requests that are taken, refused by a hook or check, and cannot be read."""
    target = f"{path}?client-id=alice%2F1&csrf-token={SECRET}&handshake%3F=1"
    found = [
        peer.request(method, target, [*FIELDS, *more], body)
        for method, more, body in (
            ("GET", [], b""),
            ("HEAD", [], b""),
            ("PUT", [], b"x"),
            ("POST", [("Content-Type", FORM)], BODY),
            ("GET", [("Origin", "http://evil.example")], b""),
            ("GET", [("Upgrade", "websocket"), ("Connection", "upgrade")], b""),
            ("POST", [("Expect", SECRET)], b""),
            ("POST", [("Transfer-Encoding", SECRET)], b""),
            ("POST", [("Transfer-Encoding", "chunked")], f"{SECRET}\r\n".encode()),
            ("POST", [("Transfer-Encoding", "chunked")], f"0\r\n{SECRET}\r\n".encode()),
            ("POST", [("Content-Length", SECRET)], b""),
            ("POST", [("Content-Length", "99999999")], b""),
            ("POST", [("Content-Length", "5")], b""),  # the rest comes too late
            ("GET", [("A", "b" * 20_000)], b""),
            ("GET", [(SECRET + " ", "b")], b""),
            ("GET", [("A", "\0")], b""),
            ("GET", [("Forwarded", f"for={SECRET}")], b""),
        )
    ]
    whole = found[0]
    return [
        *found,
        whole[:-2],
        whole.replace(b"Host: localhost", b"Host: evil.example"),
        whole.replace(b"HTTP/1.1", b"HTTP/3.0"),
        whole.replace(b"\r\n", b"\n"),
        whole.replace(path.encode(), f"http://user:{SECRET}@localhost{path}".encode()),
        b"\x16\x03\x01" + whole,
    ]


def fails(_: Request) -> Response:
    raise RuntimeError("no")


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/chsk", "/a"])
@pytest.mark.parametrize(
    "hooks",
    [
        {},
        {"csrf_token": lambda _: "another"},
        {"authorize": lambda _: False},
        {"reject": lambda _: Response(429)},
        {"user_id": fails},
    ],
)
def test_no_request_leaves_a_secret_in_the_log(
    hooks: dict[str, object], path: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        asyncio.get_running_loop().set_debug(True)
        settings = Config(handshake_timeout=0.05, body_timeout=0.05)
        async with chansock.serve(make(settings, **hooks), port=0, fallback=fails) as listener:
            for data in requests(path):
                wire = await peer.Peer.connect(listener.port)
                with suppress(ConnectionError):  # on a busy machine its time was over before
                    await wire.send(data)
                    await wire.reader.read(1)
                await wire.close()

    run(main())
    assert caplog.records
    assert SECRET not in logged(caplog)


def test_no_packet_leaves_its_request_s_secrets_in_the_log(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        async with serving(config()) as served:
            async with served.peer() as wire:
                target = f"/chsk?client-id=alice%2F1&csrf-token={SECRET}"
                assert (await wire.upgrade(target, FIELDS)).status == 101
                await wire.say("[[")
                await wire.say('[[:test/throw] "x"]')
                await wire.say('[[:test/nobody] "x"]')
                await wire.send(peer.frame(3))
                await wire.rest()
            async with served.peer() as wire:
                await handshake(wire, f"{POLL}&handshake%3F=1&csrf-token={SECRET}")
                for packet in ("[[", "[[:test/throw] 1]", "[[:test/nobody] 1]"):
                    await post(wire, packet, **{"csrf-token": SECRET})

    run(main())
    assert len(caplog.records) > 5
    assert SECRET not in logged(caplog)


def logged(caplog: pytest.LogCaptureFixture) -> str:
    formatter = logging.Formatter()
    return "\n".join(formatter.format(record) for record in caplog.records)
