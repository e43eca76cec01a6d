"""http1: answers and the WebSocket handshake; the oracles are http.client and RFC 6455."""

from __future__ import annotations

import io
from http.client import HTTPResponse

import pytest

from chansock._edge import http1
from chansock.request import Request, Response


class Wire(io.BytesIO):
    """As much of a socket as http.client asks for."""

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self.getvalue())


def parse(data: bytes, method: str = "GET") -> HTTPResponse:
    answer = HTTPResponse(Wire(data), method=method)  # type: ignore[arg-type]
    answer.begin()
    return answer


def upgrade(*lines: str, start: str = "GET /chsk HTTP/1.1") -> Request:
    return Request("\r\n".join([start, *lines, "", ""]).encode())


GOOD = (  # the handshake of RFC 6455 section 1.3
    "Host: server.example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


def without(name: str, *instead: str) -> Request:
    return upgrade(*(line for line in GOOD if not line.startswith(name + ":")), *instead)


def test_an_answer_is_what_http_client_reads() -> None:
    data = http1.render(Response(200, "é", headers=(("X-A", "1"),)), keep_alive=True)
    answer = parse(data)
    assert (answer.status, answer.reason, answer.read()) == (200, "OK", "é".encode())
    assert answer.getheader("Content-Type") == "text/plain; charset=utf-8"
    assert answer.getheader("Content-Length") == "2"
    assert answer.getheader("X-A") == "1"
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Cache-Control") == "no-store"
    assert answer.getheader("Date", "").endswith(" GMT")
    assert answer.getheader("Connection") is None


def test_an_answer_that_is_not_kept_says_close() -> None:
    data = http1.render(Response(503), keep_alive=False)
    assert parse(data).getheader("Connection") == "close"


def test_the_answer_to_head_has_the_length_without_the_body() -> None:
    data = http1.render(Response(200, "body"), keep_alive=True, head_only=True)
    assert data.endswith(b"\r\n\r\n")
    assert parse(data, "HEAD").getheader("Content-Length") == "4"


def test_an_answer_without_content_has_no_length() -> None:
    data = http1.render(Response(204, "x"), keep_alive=True)
    assert data.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in data


def test_the_application_may_set_its_own_cache_control() -> None:
    data = http1.render(Response(200, headers=(("cache-control", "max-age=60"),)), keep_alive=True)
    assert data.lower().count(b"cache-control") == 1
    assert b"max-age=60" in data


def test_fields_of_the_edge_stand_where_the_answer_has_none_of_that_name() -> None:
    fields = (("X-A", "edge"), ("X-B", "edge"), ("Vary", "Origin"))
    answer = Response(200, headers=(("x-a", "own"), ("vary", "Cookie")))
    found = parse(http1.render(answer, keep_alive=True, fields=fields))
    assert found.headers.get_all("X-A") == ["own"]
    assert found.headers.get_all("X-B") == ["edge"]
    assert found.headers.get_all("Vary") == ["Origin", "Cookie"]


def test_a_status_without_a_name_is_sent() -> None:
    assert http1.render(Response(299), keep_alive=True).startswith(b"HTTP/1.1 299 ")


def test_a_handshake_is_answered_as_in_rfc_6455() -> None:
    assert http1.check_upgrade(upgrade(*GOOD)) == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


@pytest.mark.parametrize(
    "request_",
    [
        without("Connection", "Connection: keep-alive, Upgrade"),
        without("Connection", "Connection: keep-alive", "Connection: upgrade"),
        without("Upgrade", "Upgrade: h2c, WebSocket"),
        upgrade(*GOOD, "Sec-WebSocket-Extensions: permessage-deflate"),
        upgrade(*GOOD, "Sec-WebSocket-Protocol: chat"),
    ],
    ids=["token list", "two fields", "upgrade list", "extensions", "subprotocol"],
)
def test_a_handshake_in_other_words_is_taken_and_nothing_is_negotiated(request_: Request) -> None:
    answer = http1.check_upgrade(request_)
    assert isinstance(answer, bytes)
    assert b"Extensions" not in answer
    assert b"Protocol:" not in answer


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (without("Connection"), 400),
        (without("Connection", "Connection: close"), 400),
        (without("Upgrade"), 400),
        (without("Sec-WebSocket-Version"), 426),
        (without("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), 426),
        (without("Sec-WebSocket-Key"), 400),
        (without("Sec-WebSocket-Key", "Sec-WebSocket-Key: c2hvcnQ="), 400),
        (without("Sec-WebSocket-Key", "Sec-WebSocket-Key: not base64 at all!!!!"), 400),
        (without("Sec-WebSocket-Key", "Sec-WebSocket-Key: caf\u00e9"), 400),
        (upgrade(*GOOD, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
        (upgrade(*GOOD, start="POST /chsk HTTP/1.1"), 405),
        (upgrade(*GOOD, start="GET /chsk HTTP/1.0"), 400),
    ],
)
def test_a_handshake_that_breaks_a_rule_is_refused(request_: Request, status: int) -> None:
    answer = http1.check_upgrade(request_)
    assert isinstance(answer, Response)
    assert answer.status == status
    assert answer.body


def test_another_version_is_told_13() -> None:
    answer = http1.check_upgrade(without("Sec-WebSocket-Version"))
    assert isinstance(answer, Response)
    assert ("Sec-WebSocket-Version", "13") in answer.headers


def test_a_websocket_is_asked_for_by_the_upgrade_field() -> None:
    assert http1.wants_upgrade(upgrade(*GOOD))
    assert http1.wants_upgrade(without("Connection"))  # so that it is refused, not parked
    assert not http1.wants_upgrade(without("Upgrade"))
    assert not http1.wants_upgrade(without("Upgrade", "Upgrade: h2c"))


def test_a_refusal_is_one_line_of_plain_text() -> None:
    answer = http1.refuse(431, "expected at most 100 fields")
    assert (answer.status, answer.body) == (431, "expected at most 100 fields")
    assert answer.content_type.startswith("text/plain")
