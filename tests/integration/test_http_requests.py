"""HTTP/1.1 as a client may speak it, at the channel's path and at every other one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import peer
import pytest
from peer import Peer
from raw import DUMMY, POLL, SHAKE, Run, config, handshake, post, round_trip
from sente_app import Served, make

import chansock
from chansock import Config, Request, Response

FORM = ("Content-Type", "application/x-www-form-urlencoded")
REQ = peer.urlencoded([("client-id", "alice/1"), ("ppstr", "[[:test/req 1] :ajax]")])
ANSWER = "[1 nil]"


def other(request: Request) -> Response:
    """What the fallback says: the method, path, query, host and form that it was given."""
    told = [request.method, request.path, request.query, request.host, *request.params.values()]
    return Response(200, "|".join(told))


@asynccontextmanager
async def serving(settings: Config | None = None) -> AsyncIterator[Served]:
    chsk = make(settings or config())
    async with chansock.serve(chsk, port=0, fallback=other) as listener:
        yield Served(chsk, listener.port)


def head(start: str, *lines: str, host: str = "localhost") -> bytes:
    return "\r\n".join([start, f"Host: {host}", *lines, "", ""]).encode()


async def answers(served: Served, data: bytes, count: int = 1) -> list[peer.Answer]:
    async with served.peer() as wire:
        await wire.send(data)
        return [await wire.answer(head_only=data.startswith(b"HEAD")) for _ in range(count)]


async def text(served: Served, data: bytes) -> str:
    (answer,) = await answers(served, data)
    assert answer.status == 200, answer
    return answer.text


# -- one connection, many requests


def test_connection_is_kept_until_either_side_says_close(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as wire:
            for _ in range(3):
                assert (await wire.ask("GET", "/a")).header("connection") is None
                await handshake(wire)
                assert (await post(wire, "[[:test/req 1] :ajax]")).text == ANSWER
            answer = await wire.ask("GET", SHAKE, [("Connection", "foo, Close")])
            assert (answer.status, answer.header("connection")) == (200, "close")
            assert await wire.rest() == b""

    run(main())


@pytest.mark.parametrize("target", ["/a", SHAKE])
def test_http_1_0_is_answered_and_closed_with_and_without_a_host(target: str, run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            for field in (
                "",
                "Host: localhost\r\n",
                "Connection: keep-alive\r\nHost: localhost\r\n",
            ):
                async with served.peer() as wire:
                    await wire.send(f"GET {target} HTTP/1.0\r\n{field}\r\n".encode())
                    answer = await wire.answer()
                    # without a Host the channel cannot tell whose page asks
                    refused = target == SHAKE and "Host" not in field
                    assert answer.status == (403 if refused else 200)
                    assert answer.header("connection") == "close"
                    assert await wire.rest() == b""

    run(main())


def test_pipelined_requests_of_every_kind_are_answered_in_order(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as wire:
            await wire.send(
                head(f"GET {SHAKE} HTTP/1.1")
                + head("POST /chsk HTTP/1.1", ": ".join(FORM), f"Content-Length: {len(REQ)}")
                + REQ.encode()
                + head("HEAD /a HTTP/1.1")
                + b"\r\n"
                + head("POST /b HTTP/1.1", "Transfer-Encoding: chunked")
                + b"1\r\nx\r\n0\r\n\r\n"
                + head("GET /c HTTP/1.1")
            )
            assert (await wire.answer()).text.startswith("[[:chsk/handshake")
            assert (await wire.answer()).text == ANSWER
            assert (await wire.answer(head_only=True)).status == 200
            assert (await wire.answer()).text.startswith("POST|/b")
            assert (await wire.answer()).text.startswith("GET|/c")

    run(main())


def test_requests_behind_a_parked_poll_wait_for_its_answer(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as wire:
            await handshake(wire)
            await wire.send(
                head(f"GET {POLL} HTTP/1.1")
                + head("POST /chsk HTTP/1.1", ": ".join(FORM), f"Content-Length: {len(REQ)}")
                + REQ.encode()
                + head("GET /a HTTP/1.1")
            )
            await round_trip(served)
            served.chsk.send("alice", "test/note", 1)
            assert (await wire.answer()).text == "[[[:test/note 1]] nil]"
            assert (await wire.answer()).text == ANSWER
            assert (await wire.answer()).text.startswith("GET|/a")

    run(main())


def test_peer_that_leaves_behind_a_poll_with_pipelined_requests_is_noticed(run: Run) -> None:
    async def main() -> None:
        async with serving(config(grace_ajax=0.1)) as served, served.peer() as wire:
            gone: asyncio.Queue[object] = asyncio.Queue()
            served.chsk.on("chsk/uidport-close", lambda msg: gone.put_nowait(msg.uid))
            await handshake(wire)
            await wire.send(head(f"GET {POLL} HTTP/1.1") + head("GET /a HTTP/1.1") * 10)
            wire.fin()
            assert await gone.get() == "alice"
            assert await wire.rest() == b""

    run(main())


# -- methods


def test_head_has_the_head_of_get_and_no_body(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as wire:
            answer = await wire.ask("HEAD", "/a")
            assert (answer.status, answer.header("content-length")) == (200, "24")
            await handshake(wire)
            for target in (SHAKE, POLL):
                answer = await wire.ask("HEAD", target)
                assert (answer.status, answer.header("allow")) == (405, "GET, POST")
            assert (await wire.ask("GET", "/a")).status == 200

    run(main())


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
def test_other_methods_are_the_fallbacks_business_and_405_at_the_channel(
    method: str, run: Run
) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as wire:
            assert (await wire.ask(method, "/a")).text.startswith(f"{method}|/a|")
            answer = await wire.ask(method, POLL)
            assert (answer.status, answer.text) == (405, "expected GET or POST")
            assert answer.header("allow") == "GET, POST"

    run(main())


def test_options_of_the_whole_server_is_the_fallbacks(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            assert await text(served, head("OPTIONS * HTTP/1.1")) == "OPTIONS|*||localhost"

    run(main())


# -- bodies


@pytest.mark.parametrize(
    "body",
    [
        f"{len(REQ):x}\r\n{REQ}\r\n0\r\n\r\n",
        f'{len(REQ):X};name=value;q="a;b"\r\n{REQ}\r\n000\r\nTrailer: x\r\nX-Y:\r\n\r\n',
        "".join(f"1\r\n{char}\r\n" for char in REQ) + "0;last\r\n\r\n",
        # RFC 9110 section 6.5.1: nothing that frames or routes counts behind the body
        f"{len(REQ):x}\r\n{REQ}\r\n0\r\nContent-Length: 99\r\nHost: evil.example\r\n"
        "Transfer-Encoding: chunked\r\nConnection: close\r\nExpect: x\r\n\r\n",
    ],
    ids=["one chunk", "extensions and trailers", "chunks of a byte", "trailers that frame"],
)
@pytest.mark.parametrize("path", ["/chsk", "/a"])
def test_chunked_form_is_read(body: str, path: str, run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as wire:
            for _ in range(2):
                fields = [FORM, ("Transfer-Encoding", "Chunked")]
                answer = await wire.ask("POST", path, fields, body.encode())
                assert answer.status == 200
                assert answer.text.endswith(ANSWER if path == "/chsk" else ":ajax]")

    run(main())


def test_body_of_a_get_is_read_and_left_alone(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            data = head(f"GET {SHAKE} HTTP/1.1", "Content-Length: 5") + b"GET /"
            first, second = await answers(served, data + head("GET /a HTTP/1.1"), 2)
            assert first.text.startswith("[[:chsk/handshake")
            assert second.text.startswith("GET|/a")

    run(main())


@pytest.mark.parametrize("path", ["/chsk", "/a"])
def test_expect_100_continue_is_answered_before_the_body(path: str, run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as wire:
            fields = (": ".join(FORM), f"Content-Length: {len(REQ)}", "expect: 100-Continue")
            await wire.send(head(f"POST {path} HTTP/1.1", *fields))
            assert await wire.reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            await wire.send(REQ.encode())
            assert (await wire.answer()).status == 200
            # who does not wait needs none
            await wire.send(head(f"POST {path} HTTP/1.1", *fields) + REQ.encode())
            assert await wire.reader.readexactly(12) == b"HTTP/1.1 200"

    run(main())


def test_expect_of_http_1_0_is_not_answered(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as wire:
            await wire.send(head("POST /a HTTP/1.0", "Content-Length: 1", "Expect: 100-continue"))
            await round_trip(served)
            await wire.send(b"x")
            assert await wire.reader.readexactly(12) == b"HTTP/1.1 200"

    run(main())


@pytest.mark.parametrize("path", ["/chsk", "/a"])
def test_body_that_is_too_large_is_refused_in_place_of_a_100(path: str, run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as wire:
            fields = ("Content-Length: 99999999", "Expect: 100-continue")
            await wire.send(head(f"POST {path} HTTP/1.1", *fields))
            answer = await wire.answer()
            assert (answer.status, answer.header("connection")) == (413, "close")
            assert await wire.rest() == b""

    run(main())


# -- targets


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        ("/a%20b?c=%20", "/a b", "c=%20", "localhost"),
        ("/%7Ea%2Fb%2f", "/~a/b/", "", "localhost"),  # an encoded slash is a slash, as in ASGI
        ("/%C3%A9%FF", "/é\ufffd", "", "localhost"),
        ("//a/../b", "//a/../b", "", "localhost"),  # nobody resolves a path but who uses it
        ("/a?", "/a", "", "localhost"),
        ("/a?b?c", "/a", "b?c", "localhost"),
        ("http://other.example:81/a?b", "/a", "b", "other.example:81"),
        ("HTTP://[::1]:81", "/", "", "[::1]:81"),
        ("https://other.example?b=/", "/", "b=/", "other.example"),
    ],
)
def test_target_is_read_as_rfc_9112_says(
    target: str, path: str, query: str, host: str, run: Run
) -> None:
    async def main() -> None:
        async with serving() as served:
            told = (await text(served, head(f"GET {target} HTTP/1.1"))).split("|")
            assert told[:4] == ["GET", path, query, host]

    run(main())


@pytest.mark.parametrize(
    "start",
    [
        "http://localhost/chsk",
        "/%63hsk",
        "/chsk",
    ],
)
def test_channel_is_found_in_every_spelling_of_its_path(start: str, run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            data = head(f"GET {start}?client-id=a&handshake%3F=1 HTTP/1.1")
            assert (await text(served, data)).startswith("[[:chsk/handshake")

    run(main())


def test_target_in_absolute_form_says_whose_origin_is_the_same(run: Run) -> None:
    async def main() -> None:
        async with serving(Config(allowed_hosts=("*",))) as served:
            start = f"GET http://one.example{SHAKE} HTTP/1.1"
            for origin, status in (("http://one.example", 200), ("http://two.example", 403)):
                data = head(start, f"Origin: {origin}", host="two.example")
                assert [a.status for a in await answers(served, data)] == [status]

    run(main())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:99", "[::1]", "[::1]:8000", "LOCALHOST."])
def test_host_may_be_a_name_an_address_or_a_literal(host: str, run: Run) -> None:
    async def main() -> None:
        async with serving(config(allowed_hosts=("*",))) as served:
            told = (await text(served, head("GET /a HTTP/1.1", host=host))).split("|")
            assert told[3] == host
            data = head(f"GET {SHAKE} HTTP/1.1", host=host)
            assert (await text(served, data)).startswith("[[:chsk/handshake")

    run(main())


# -- upgrades


FIELDS = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def upgrade(*more: str, method: str = "GET", version: str = "1.1", **fields: str | None) -> bytes:
    given = {**FIELDS, **{name.replace("_", "-"): value for name, value in fields.items()}}
    lines = [f"{name}: {value}" for name, value in given.items() if value is not None]
    return head(f"{method} /chsk?client-id=alice%2F1 HTTP/{version}", *lines, *more)


@pytest.mark.parametrize(
    "data",
    [
        upgrade(),
        upgrade(Connection="keep-alive, Upgrade"),  # as Firefox does
        upgrade("Connection: keep-alive"),
        upgrade(Upgrade="h2c, WebSocket"),
        upgrade("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
        upgrade("Sec-WebSocket-Protocol: chat"),
        upgrade("Content-Length: 0"),
    ],
)
def test_frames_that_come_with_the_upgrade_are_not_lost(data: bytes, run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as wire:
            frames = [peer.frame(peer.TEXT, f'[[:test/req {k}] "{k}"]') for k in range(9)]
            await wire.send(data + b"".join(frames)[:-3])
            answer = await wire.answer()
            assert (answer.status, answer.reason) == (101, "Switching Protocols")
            assert answer.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
            assert answer.header("sec-websocket-extensions") is None
            assert answer.header("sec-websocket-protocol") is None
            assert (await wire.text()).startswith("[[:chsk/handshake")
            for k in range(8):
                assert await wire.text() == f'[{k} "{k}"]'
            await wire.send(frames[8][-3:])
            assert await wire.text() == '[8 "8"]'

    run(main())


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head("POST /b HTTP/1.1", "Content-Length: 5") + b"GET /" + upgrade(), 101),
        (
            head("POST /b HTTP/1.1", "Transfer-Encoding: chunked")
            + b"1\r\na\r\n0\r\n\r\n\r\n"
            + upgrade("Content-Length: 5")
            + b"GET /",
            400,
        ),
        (
            head("HEAD /b HTTP/1.1")
            + upgrade("Transfer-Encoding: chunked")
            + b"1\r\na\r\n0\r\n\r\n",
            400,
        ),
    ],
)
def test_upgrade_behind_a_request_begins_behind_that_ones_body(
    data: bytes, status: int, run: Run
) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as wire:
            await wire.send(data + peer.frame(peer.TEXT, '[[:test/req 1] "a"]'))
            assert (await wire.answer(head_only=data.startswith(b"HEAD"))).status == 200
            assert (await wire.answer()).status == status  # 400: it has a body of its own
            if status == 101:
                assert (await wire.text()).startswith("[[:chsk/handshake")
                assert await wire.text() == '[1 "a"]'
            else:
                assert (await wire.answer()).status == 400  # the frame is no request

    run(main())


def test_frames_that_come_while_a_hook_waits_are_not_lost(run: Run) -> None:
    async def main() -> None:
        asked, let_in = asyncio.Event(), asyncio.Event()

        async def authorize(_: Request) -> bool:
            asked.set()
            return await let_in.wait()

        chsk = make(config(), authorize=authorize)
        async with chansock.serve(chsk, port=0) as listener:
            async with await Peer.connect(listener.port) as wire:
                await wire.send(upgrade() + peer.frame(peer.TEXT, '[[:test/req 1] "a"]'))
                await asked.wait()
                await wire.send(peer.frame(peer.TEXT, '[[:test/req 2] "b"]'))
                let_in.set()
                assert (await wire.answer()).status == 101
                assert (await wire.text()).startswith("[[:chsk/handshake")
                assert [await wire.text(), await wire.text()] == ['[1 "a"]', '[2 "b"]']

    run(main())


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (upgrade(method="POST"), 405),
        (upgrade(method="OPTIONS"), 405),
        (upgrade(version="1.0"), 400),
        (upgrade(Sec_WebSocket_Version=None), 426),
        (upgrade(Sec_WebSocket_Version="12"), 426),
        (upgrade(Sec_WebSocket_Version="13, 8"), 426),
        (upgrade("Sec-WebSocket-Version: 13"), 426),
        (upgrade(Sec_WebSocket_Key=None), 400),
        (upgrade(Sec_WebSocket_Key=""), 400),
        (upgrade(Sec_WebSocket_Key="c2hvcnQ="), 400),
        (upgrade(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ"), 400),
        (upgrade(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25j!!=="), 400),
        (upgrade("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
    ],
)
def test_upgrade_that_rfc_6455_forbids_is_refused(data: bytes, status: int, run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            (answer,) = await answers(served, data)
            assert answer.status == status
            if status == 426:
                assert answer.header("sec-websocket-version") == "13"

    run(main())


def test_upgrade_at_another_path_is_an_ordinary_request(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            data = upgrade().replace(b"/chsk", b"/a") + head("GET /b HTTP/1.1")
            first, second = await answers(served, data, 2)
            assert first.text.startswith("GET|/a")
            assert second.text.startswith("GET|/b")

    run(main())


def test_upgrade_to_something_else_is_not_made(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            for protocol in ("h2c", "TLS/1.2", "websocket2"):
                data = head(f"GET {SHAKE} HTTP/1.1", "Connection: Upgrade", f"Upgrade: {protocol}")
                assert (await text(served, data)).startswith("[[:chsk/handshake")

    run(main())


def test_post_without_a_body_is_an_empty_packet(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            assert await text(served, head(f"POST {POLL} HTTP/1.1")) == DUMMY

    run(main())
