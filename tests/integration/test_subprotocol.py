"""Sec-WebSocket-Protocol: which one is answered, and the CSRF token that travels beside it."""

from __future__ import annotations

import logging
from typing import Any

import aiohttp
import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st
from raw import Run
from sente_app import Served, serving

from chansock import ChannelClosed, Config, ConfigError, HandshakeRefused, connect
from chansock._core import subprotocol
from chansock._edge.http1 import with_subprotocol
from chansock._fast.ws.frames import switch
from chansock.request import Request, is_token

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
# The 101 of RFC 6455 section 1.3, with our field.
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)
TARGET = "/chsk?client-id=alice%2F1"


def token(_: Request) -> str:
    return "tok 123"  # with a blank, which stands in no subprotocol


@pytest.mark.parametrize(
    ("offered", "answered", "found"),
    [
        (["chansock, csrf.tok"], "chansock", "tok"),
        (["csrf.tok,chansock"], "chansock", "tok"),
        (["chansock", "csrf.tok"], "chansock", "tok"),
        (["\tchansock ,\tcsrf.a.b=c"], "chansock", "a.b=c"),
        (["chansock"], "chansock", None),
        (["csrf.tok"], None, "tok"),
        (["graphql-ws, csrf.tok"], None, "tok"),
        (["chansock2"], None, None),
        (["Chansock"], None, None),  # RFC 6455 section 11.3.4: compared as they are
        ([""], None, None),
        ([], None, None),
        (["chansock, csrf."], "chansock", ""),
        (["csrf.one, csrf.two"], None, "one"),
        (["csrf.one", "csrf64.dHdv"], None, "one"),
        (["csrf64.w7bDrw, csrf.two"], None, "öï"),
        (["csrf64."], None, ""),
        (["csrf64.w7bDrw=="], None, ""),  # padding is no part of it
        (["csrf64.w7bD rw"], None, ""),
        (["csrf64.w7bDr"], None, ""),
        (["csrf64._w"], None, ""),  # no UTF-8
    ],
)
def test_what_is_answered_and_found_in_an_offer(
    offered: list[str], answered: str | None, found: str | None
) -> None:
    assert subprotocol.answered(offered) == answered
    assert subprotocol.token_in(offered) == found


@given(st.text(st.characters(codec="utf-8")))
def test_any_token_is_offered_as_subprotocols_that_the_grammar_has(text: str) -> None:
    offer = subprotocol.offer(text)
    names = offer.split(", ")
    assert names[0] == "chansock"
    assert all(is_token(name) for name in names)
    assert len(set(names)) == 2
    assert subprotocol.token_in([offer]) == text


@given(st.text(max_size=30))
def test_any_offer_is_read_without_a_fault(text: str) -> None:
    subprotocol.token_in([text, "csrf64." + text])
    assert subprotocol.answered([text]) in (None, "chansock")


def test_the_101_names_the_subprotocol_once() -> None:
    request = Request.from_fields("GET", "/", [("Sec-WebSocket-Protocol", "csrf.x, chansock")])
    expected = ACCEPTED + b"Sec-WebSocket-Protocol: chansock\r\n\r\n"
    assert with_subprotocol(switch(KEY), request) == expected
    other = Request.from_fields("GET", "/", [("Sec-WebSocket-Protocol", "csrf.x")])
    assert with_subprotocol(switch(KEY), other) == ACCEPTED + b"\r\n"


@pytest.mark.parametrize("compression", [False, True])
def test_token_is_never_said_back(compression: bool, run: Run) -> None:
    config = Config(compression=compression)
    fields = [
        ("Sec-WebSocket-Protocol", "csrf64.dG9rIDEyMw, chansock"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
    ]

    async def main() -> None:
        async with serving(config, csrf_token=token) as served, served.peer() as wire:
            answer = await wire.upgrade(TARGET, fields)
            assert answer.status == 101
            spoken = [v for n, v in answer.headers if n.lower() == "sec-websocket-protocol"]
            assert spoken == ["chansock"]
            assert (answer.header("sec-websocket-extensions") is not None) is compression
            assert "dG9r" not in str(answer.headers)
            assert (await wire.text()).startswith("[[:chsk/handshake [")

    run(main())


def test_offer_without_ours_is_not_answered_and_the_socket_opens(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as wire:
            answer = await wire.upgrade(TARGET, [("Sec-WebSocket-Protocol", "graphql-ws")])
            assert answer.status == 101
            assert answer.header("sec-websocket-protocol") is None
            assert (await wire.text()).startswith("[[:chsk/handshake [")

    run(main())


# Clients of others, which hold the server to RFC 6455.


async def by_websockets(served: Served, offer: list[Any]) -> str | None:
    url = f"ws://127.0.0.1:{served.port}{TARGET}"
    async with websockets.connect(url, subprotocols=offer) as wire:
        assert str(await wire.recv()).startswith("[[:chsk/handshake [")
        return wire.subprotocol


async def by_aiohttp(served: Served, offer: list[Any]) -> str | None:
    url = f"http://127.0.0.1:{served.port}{TARGET}"
    async with aiohttp.ClientSession() as http, http.ws_connect(url, protocols=offer) as wire:
        assert (await wire.receive_str()).startswith("[[:chsk/handshake [")
        return wire.protocol


@pytest.mark.parametrize("client", [by_websockets, by_aiohttp])
def test_client_of_another_library_gets_in_by_its_token(client: Any, run: Run) -> None:
    async def main() -> None:
        async with serving(csrf_token=token) as served:
            offer = subprotocol.offer("tok 123").split(", ")
            assert await client(served, offer) == "chansock"
            with pytest.raises((websockets.InvalidStatus, aiohttp.WSServerHandshakeError)):
                await client(served, subprotocol.offer("tok 12").split(", "))

    run(main())


# Our own client


@pytest.mark.parametrize("place", ["param", "header", "subprotocol"])
@pytest.mark.parametrize("transport", ["ws", "ajax", "auto"])
def test_our_client_puts_its_token_where_it_is_told(
    place: Any, transport: Any, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[tuple[str, str | None, str | None, str | None]] = []

    def reference(request: Request) -> str:
        seen.append(
            (
                request.method,
                request.params.get("csrf-token"),
                request.headers.get("x-csrf-token"),
                request.headers.get("sec-websocket-protocol"),
            )
        )
        return "tok 123"

    async def main() -> None:
        async with serving(csrf_token=reference) as served:
            url = f"ws://127.0.0.1:{served.port}/chsk"
            options: dict[str, Any] = {"transport": transport, "csrf_token_in": place}
            async with connect(url, csrf_token="tok 123", **options) as client:
                assert await client.send("test/req", 5, timeout=60) == 5
            with pytest.raises((HandshakeRefused, ChannelClosed)):
                async with connect(url, csrf_token="tok 12", **options):
                    pass

    run(main())
    method, param, header, offer = seen[0]
    assert method == "GET"
    if transport == "ajax":  # a header in any case
        assert (param, header, offer) == (None, "tok 123", None)
    else:
        assert (param, header, offer) == {
            "param": ("tok 123", None, None),
            "header": (None, "tok 123", None),
            "subprotocol": (None, None, "chansock, csrf64.dG9rIDEyMw"),
        }[place]
    for record in caplog.records:
        assert "tok 12" not in record.getMessage()
        assert "dG9r" not in record.getMessage()


def test_our_client_without_a_token_offers_nothing(run: Run) -> None:
    seen: list[str | None] = []

    async def main() -> None:
        def note(request: Request) -> None:
            seen.append(request.headers.get("sec-websocket-protocol"))

        async with serving(reject=note) as served:
            url = f"ws://127.0.0.1:{served.port}/chsk"
            async with connect(url, transport="ws", csrf_token_in="subprotocol"):
                pass

    run(main())
    assert seen == [None]


@pytest.mark.parametrize("place", ["query", None, 1])
def test_place_that_there_is_not_is_told_at_once(place: Any) -> None:
    with pytest.raises(ConfigError, match="csrf_token_in: expected one of 'param', 'header'"):
        connect("ws://h/chsk", csrf_token_in=place)
