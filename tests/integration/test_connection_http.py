"""connection, before an upgrade: raw bytes on real sockets, on both loops."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from raw_listener import (
    GET,
    POLL,
    TEXT,
    UPGRADE,
    Admission,
    Ground,
    Run,
    ground,
    on_ground,
)

from chansock._fast.events.dispatch import Connection
from chansock._fast.events.packet import Packet
from chansock._fast.io.transport import Transport
from chansock.request import Request, Response


@on_ground()
async def test_another_path_gets_404_and_the_connection_is_kept(place: Ground) -> None:
    client = await place.client(GET % b"/other")
    assert await client.response() == (404, b"not found")
    client.send(GET % b"/chskx")
    assert await client.response() == (404, b"not found")


@on_ground()
async def test_pipelined_requests_are_answered_in_order(place: Ground) -> None:
    place.door.answer = lambda request: Response(200, request.query)
    client = await place.client(b"".join(GET % b"/chsk?%d" % k for k in range(50)))
    for k in range(50):
        assert await client.response() == (200, b"%d" % k)


@on_ground()
async def test_a_request_may_come_byte_by_byte(place: Ground) -> None:
    place.door.answer = lambda request: Response(200, request.params["x"])
    client = await place.client()
    post = (
        b"POST /chsk HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n"
        b"Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n\r\nx=a%20b"
    )
    for k in range(len(post)):
        client.send(post[k : k + 1])
        await asyncio.sleep(0)
    assert await client.response() == (200, b"a b")


@on_ground()
async def test_a_request_tells_who_asked_and_how(place: Ground) -> None:
    place.door.answer = lambda request: Response(200)
    client = await place.client(POLL)
    await client.response()
    request = place.door.requests[0]
    assert request.client == client.writer.get_extra_info("sockname")[:2]
    assert request.scheme == "http"
    assert request.head == POLL


@on_ground()
async def test_who_asked_is_known_when_it_has_left(place: Ground) -> None:
    place.door.answer = lambda request: Response(200)
    client = await place.client(GET % b"/chsk?client-id=a")
    await client.response()
    name = client.writer.get_extra_info("sockname")[:2]
    client.writer.transport.abort()
    await place.gone()
    assert place.door.requests[0].client == name


@on_ground()
async def test_connection_close_and_http_1_0_end_the_connection(place: Ground) -> None:
    for data in (
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: foo, Close\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ):
        client = await place.client(data)
        answer = await client.eof()
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"Connection: close\r\n" in answer


@on_ground()
async def test_the_answer_to_head_has_no_body(place: Ground) -> None:
    place.door.answer = lambda request: Response(405, "no")
    client = await place.client(GET.replace(b"GET", b"HEAD") % b"/other")
    assert b"Content-Length: 9\r\n" in await client.head()
    client.send(GET.replace(b"GET", b"HEAD") % b"/chsk", GET % b"/other")
    assert (await client.head()).startswith(b"HTTP/1.1 405 ")
    assert (await client.head()).startswith(b"HTTP/1.1 404 ")


@on_ground(max_head_bytes=1000, max_header_fields=5, max_message_bytes=1000)
async def test_what_breaks_a_rule_is_answered_and_closed(place: Ground) -> None:
    for status, data in {
        400: b"nonsense\r\n\r\n",
        431: GET % (b"/" + b"x" * 2000),
        413: b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999\r\n\r\n" + bytes(9999),
        501: b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + bytes(999),
        505: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    }.items():
        client = await place.client(data)
        assert (await client.eof()).startswith(b"HTTP/1.1 %d " % status)
        client.writer.close()
    await place.gone()


@on_ground()
async def test_a_post_carries_its_body_and_its_form(place: Ground) -> None:
    client = await place.client(
        b"POST /chsk?a=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\na=2&b=%7"
    )
    await place.door.told.get()
    assert place.door.posted == [b"a=2&b=%7"]
    assert place.door.requests[0].params.getall("a") == ["1", "2"]
    assert place.door.transports[0].write([Packet(b"[:ok nil]")])
    head = await client.head()
    assert b"Content-Type: application/edn\r\n" in head
    assert await client.reader.readexactly(9) == b"[:ok nil]"


@on_ground()
async def test_a_binary_answer_says_so(place: Ground) -> None:
    client = await place.client(POLL)
    await place.door.told.get()
    assert place.door.transports[0].write([Packet(b"\xff", True)])
    assert b"Content-Type: application/octet-stream\r\n" in await client.head()


@on_ground()
async def test_a_chunked_post_ends_where_the_next_request_begins(place: Ground) -> None:
    place.door.answer = lambda request: Response(200, request.method)
    client = await place.client(
        b"POST /chsk HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\n\r\n",
    )
    client.send(POLL)
    assert await client.response() == (200, b"POST")
    assert await client.response() == (200, b"GET")


@on_ground()
async def test_expect_100_continue_is_answered(place: Ground) -> None:
    place.door.answer = lambda request: Response(200)
    client = await place.client(
        b"POST /chsk HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    )
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"ab")
    assert await client.response() == (200, b"")


@on_ground(handshake_timeout=0.05)
async def test_a_slow_head_gets_408(place: Ground) -> None:
    client = await place.client(b"GET / HTTP/1.1\r\n")
    assert (await client.eof()).startswith(b"HTTP/1.1 408 ")


@on_ground(handshake_timeout=0.05)
async def test_a_silent_connection_is_closed_without_a_word(place: Ground) -> None:
    client = await place.client()
    assert await client.eof() == b""


@on_ground(body_timeout=0.05)
async def test_a_slow_body_gets_408(place: Ground) -> None:
    client = await place.client(b"POST /chsk HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
    assert (await client.eof()).startswith(b"HTTP/1.1 408 ")


@on_ground(http_idle_timeout=0.05)
async def test_an_idle_kept_connection_is_closed(place: Ground) -> None:
    client = await place.client(GET % b"/other")
    assert await client.response() == (404, b"not found")
    assert await client.eof() == b""


# admission


@on_ground()
async def test_a_refusal_is_sent_and_the_connection_kept(place: Ground) -> None:
    place.door.answer = lambda request: Response(403, "no")
    client = await place.client(UPGRADE)
    assert await client.response() == (403, b"no")
    client.send(POLL)
    assert await client.response() == (403, b"no")


@on_ground()
async def test_a_bad_upgrade_is_refused_before_it_is_admitted(place: Ground) -> None:
    client = await place.client(UPGRADE.replace(b"Version: 13", b"Version: 8"))
    assert (await client.response())[0] == 426
    assert not place.door.requests


@on_ground()
async def test_what_follows_waits_for_a_hook_that_waits(place: Ground) -> None:
    hooks: list[asyncio.Future[Response]] = []

    async def wait() -> Response:
        hooks.append(asyncio.get_running_loop().create_future())
        return await hooks[-1]

    place.door.answer = lambda request: wait()
    client = await place.client(POLL + POLL)
    while not hooks:
        await asyncio.sleep(0)
    client.send(POLL)
    hooks[0].set_result(Response(200, "first"))
    assert await client.response() == (200, b"first")
    while len(hooks) < 2:
        await asyncio.sleep(0)
    assert len(place.door.requests) == 2
    hooks[1].set_result(Response(200, "second"))
    assert await client.response() == (200, b"second")
    while len(hooks) < 3:
        await asyncio.sleep(0)
    hooks[2].set_result(Response(200, "third"))
    assert await client.response() == (200, b"third")


@on_ground()
async def test_a_socket_opens_after_a_hook_that_waits(place: Ground) -> None:
    async def wait(request: Request) -> Admission:
        await asyncio.sleep(0)
        return place.door.admission(request, True)

    place.door.answer = wait
    client = await place.ws()
    client.send_text('[[:t/echo 1] "x"]')
    assert await client.frame() == (TEXT, b'[1 "x"]')


@on_ground(tls=True)
async def test_who_left_while_a_hook_waited_does_not_stay(place: Ground) -> None:
    # Over TLS a peer that leaves is noticed though nothing is read; uvloop says so at once.
    asked, gate = asyncio.Event(), asyncio.Event()

    async def wait(request: Request) -> Admission:
        asked.set()
        await gate.wait()
        return place.door.admission(request, True)

    place.door.answer = wait
    client = await place.client(UPGRADE)
    await asked.wait()
    client.reset()
    await place.settle()
    gate.set()
    await place.settle()
    if not place.door.told.empty():
        assert await place.door.told.get() == "open"
        assert await place.door.told.get() == ("closed", 1006)


@on_ground(handshake_timeout=0.05)
async def test_a_hook_that_takes_too_long_gets_503(place: Ground) -> None:
    never = asyncio.get_running_loop().create_future()
    place.door.answer = lambda request: never
    client = await place.client(UPGRADE)
    assert (await client.eof()).startswith(b"HTTP/1.1 503 ")
    never.set_result(place.door.admission(place.door.requests[0], True))
    await asyncio.sleep(0)
    assert place.door.told.empty()


def test_an_endpoint_that_raises_is_a_500(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def late(request: Request) -> Response:
            raise RuntimeError("late")

        def soon(request: Request) -> Response:
            raise RuntimeError("soon")

        async with ground() as place:
            for answer in (late, soon):
                place.door.answer = answer
                client = await place.client(POLL)
                assert (await client.eof()).startswith(b"HTTP/1.1 500 ")

            def broken(admission: Admission, transport: Transport) -> Connection:
                raise RuntimeError("open")

            place.door.answer = None
            place.door.open = broken  # type: ignore[method-assign]
            for data in (POLL, UPGRADE):
                client = await place.client(data)
                assert (await client.eof()).startswith(b"HTTP/1.1 500 ")

    with caplog.at_level(logging.ERROR, "chansock.server_protocol"):
        run(main())
    assert [record.message.split()[0] for record in caplog.records] == ["connection_error"] * 4


def test_a_fallback_answers_other_paths(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def later(request: Request) -> Response:
        await asyncio.sleep(0)
        return Response(200, f"later {request.path}")

    def fallback(request: Request) -> Any:
        if request.path == "/later":
            return later(request)
        if request.path == "/raises":
            raise RuntimeError("x")
        if request.path == "/odd":
            return "text"
        return None if request.path == "/none" else Response(201, request.path)

    async def main() -> None:
        async with ground(fallback=fallback) as place:
            client = await place.client(GET % b"/a%20b")
            assert await client.response() == (201, b"/a b")
            client.send(GET % b"/later", GET % b"/none")
            assert await client.response() == (200, b"later /later")
            assert await client.response() == (404, b"not found")
            for path in (b"/raises", b"/odd"):
                client = await place.client(GET % path)
                assert (await client.eof()).startswith(b"HTTP/1.1 500 ")

    with caplog.at_level(logging.ERROR, "chansock.server_protocol"):
        run(main())
    assert len(caplog.records) == 2


# polls and POSTs that wait


@on_ground()
async def test_a_parked_poll_is_answered_once_and_the_next_request_follows(place: Ground) -> None:
    client = await place.client(POLL + GET % b"/other")
    await place.door.told.get()
    poll = place.door.transports[0]
    assert not poll.streams
    assert poll.write([Packet(b"[[] nil]")])
    assert not poll.write([Packet(b"late")])
    poll.close(1012)
    assert await client.response() == (200, b"[[] nil]")
    assert await client.response() == (404, b"not found")
    assert place.door.told.empty()


@on_ground()
async def test_a_dropped_poll_is_noticed_at_once(place: Ground) -> None:
    client = await place.client(POLL)
    assert await place.door.told.get() == "open"
    client.writer.close()
    assert await place.door.told.get() == ("closed", 1006)
    assert not place.door.transports[0].write([Packet(b"late")])
    client = await place.client(POLL)
    assert await place.door.told.get() == "open"
    client.reset()
    assert await place.door.told.get() == ("closed", 1006)


@on_ground()
async def test_closing_a_poll_answers_503_and_tells_the_code(place: Ground) -> None:
    client = await place.client(POLL)
    assert await place.door.told.get() == "open"
    place.door.transports[0].close(1012, "restart")
    assert await client.response() == (503, b"restart")
    assert await place.door.told.get() == ("closed", 1012)
    client.writer.close()
    await place.gone()
    assert place.door.told.empty()


@on_ground()
async def test_a_post_may_be_refused_later(place: Ground) -> None:
    client = await place.client(b"POST /chsk HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
    assert await place.door.told.get() == "post"
    place.door.transports[0].refuse(Response(400, "no packet"))
    assert await client.response() == (400, b"no packet")


@on_ground()
async def test_requests_behind_a_parked_poll_are_kept_to_a_limit(place: Ground) -> None:
    client = await place.client(POLL)
    await place.door.told.get()
    place.door.answer = lambda request: Response(200)
    count = 200_000
    client.send((GET % b"/chsk") * count)
    await place.settle()
    assert client.writer.transport.get_write_buffer_size() > 1_000_000  # type: ignore[attr-defined]
    place.door.transports[0].write([Packet(b"x")])
    assert await client.response() == (200, b"x")
    for _ in range(100):
        assert await client.response() == (200, b"")


@pytest.mark.parametrize("tls", [False, True])
def test_who_asked_is_known_when_the_connection_is_gone(tls: bool, run: Run) -> None:
    async def main() -> None:
        async with ground(tls=tls) as place:
            client = await place.client(UPGRADE)
            await client.head()
            name = client.writer.get_extra_info("sockname")
            client.reset()
            await place.gone()
            await asyncio.sleep(0)
            assert place.door.requests[0].client == name

    run(main())
