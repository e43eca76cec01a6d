"""request: what hooks and handlers see of a request, and what an answer may hold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chansock.request import Headers, Request, Response

HEAD = (
    b"GET /chsk/caf%C3%A9?client-id=alice%2F1&handshake%3F=1&x=a+b&x=2&empty HTTP/1.1\r\n"
    b"Host: example.org:8000\r\n"
    b'Cookie: sid=abc; theme="dark"; sid=second\r\n'
    b"X-Forwarded-For: 10.0.0.1\r\n"
    b"x-forwarded-for:  10.0.0.2 \r\n"
    b"X-Latin: caf\xe9\r\n"
    b"Empty:\r\n"
    b"\r\n"
)


def test_the_request_line_is_read() -> None:
    request = Request(HEAD, ("127.0.0.1", 5000), "https")
    assert request.method == "GET"
    assert request.path == "/chsk/café"
    assert request.query == "client-id=alice%2F1&handshake%3F=1&x=a+b&x=2&empty"
    assert request.target == "/chsk/caf%C3%A9?" + request.query
    assert (request.client, request.scheme) == (("127.0.0.1", 5000), "https")


def test_a_request_that_came_another_way_than_asgi_has_no_scope() -> None:
    request = Request(HEAD)
    with pytest.raises(AttributeError, match="expected a request that came through ASGI"):
        request.scope
    assert getattr(request, "scope", None) is None
    request.scope = {"session": {}}
    assert request.scope["session"] == {}


def test_absolute_form_has_the_path_behind_the_authority() -> None:
    assert Request(b"GET http://h:1/a%20b?c HTTP/1.1\r\n\r\n").path == "/a b"
    assert Request(b"GET http://h:1 HTTP/1.1\r\n\r\n").path == "/"
    assert Request(b"OPTIONS * HTTP/1.1\r\n\r\n").path == "*"


@pytest.mark.parametrize(
    ("head", "host"),
    [
        (HEAD, "example.org:8000"),
        (b"GET http://other:1/a HTTP/1.1\r\nHost: h\r\n\r\n", "other:1"),
        (b"GET http://other?a=/ HTTP/1.1\r\nHost: h\r\n\r\n", "other"),
        (b"GET /?a=http://other/ HTTP/1.1\r\nHost: h\r\n\r\n", "h"),
        (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "h"),
        (b"GET / HTTP/1.0\r\n\r\n", ""),
    ],
)
def test_the_host_is_that_of_an_absolute_target_else_of_its_field(head: bytes, host: str) -> None:
    assert Request(head).host == host


def test_an_edge_may_say_what_the_host_is() -> None:
    request = Request(HEAD)
    request.set_host("chat.example")
    assert request.host == "chat.example"
    assert request.headers["host"] == "example.org:8000"


def test_fields_are_found_in_any_case() -> None:
    headers = Request(HEAD).headers
    assert headers["host"] == headers.get("HOST") == "example.org:8000"
    assert "hOsT" in headers
    assert "hos" not in headers
    assert "GET /chsk" not in headers
    assert headers.get("missing") is None
    assert headers.get("missing", "x") == "x"
    assert headers["X-Latin"] == "café"
    assert headers["empty"] == ""
    with pytest.raises(KeyError):
        headers["missing"]


def test_a_repeated_field_gives_its_first_value_and_all() -> None:
    headers = Request(HEAD).headers
    assert headers["X-Forwarded-For"] == "10.0.0.1"
    assert headers.getall("x-forwarded-for") == ["10.0.0.1", "10.0.0.2"]
    assert headers.getall("missing") == []


def test_iterating_gives_each_name_once_in_lower_case() -> None:
    headers = Request(HEAD).headers
    assert list(headers) == ["host", "cookie", "x-forwarded-for", "x-latin", "empty"]
    assert len(headers) == 5


def test_a_name_of_odd_characters_is_just_not_there() -> None:
    headers = Request(HEAD).headers
    assert headers.get("hôst\u20ac") is None
    assert 3 not in headers


def test_params_are_percent_decoded() -> None:
    params = Request(HEAD).params
    assert params["client-id"] == "alice/1"
    assert params["handshake?"] == "1"
    assert params["x"] == "a b"
    assert params.getall("x") == ["a b", "2"]
    assert params["empty"] == ""
    assert params.getall("missing") == []
    assert list(params) == ["client-id", "handshake?", "x", "empty"]


def test_a_broken_escape_is_kept_as_it_is() -> None:
    params = Request(b"GET /?a=%zz&b=%4&%=%25&c=%ff HTTP/1.1\r\n\r\n").params
    assert dict(params) == {"a": "%zz", "b": "%4", "%": "%", "c": "\ufffd"}


def test_a_form_comes_after_the_query() -> None:
    request = Request(b"POST /?a=1 HTTP/1.1\r\n\r\n")
    request.set_form(b"a=2&ppstr=%5B%5D")
    assert request.params["a"] == "1"
    assert request.params.getall("a") == ["1", "2"]
    assert request.params["ppstr"] == "[]"


def test_past_256_params_the_rest_is_not_looked_at() -> None:
    query = b"&".join(b"k%d=1" % k for k in range(300))
    params = Request(b"GET /?" + query + b" HTTP/1.1\r\n\r\n").params
    assert len(params) == 256
    assert "k255" in params
    assert "k256" not in params


@given(st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=20))
def test_params_are_those_that_urllib_reads(pairs: list[tuple[str, str]]) -> None:
    text = urlencode(pairs, errors="replace")
    request = Request(b"GET /?" + text.encode() + b" HTTP/1.1\r\n\r\n")
    read = parse_qsl(text, keep_blank_values=True)
    for name, _ in read:
        assert request.params.getall(name) == [value for key, value in read if key == name]


@given(st.binary(max_size=200))
def test_odd_heads_raise_nothing(head: bytes) -> None:
    request = Request(head)
    assert isinstance(request.method + request.path + request.query + repr(request), str)
    assert len(list(request.headers)) == len(request.headers)
    assert len(list(request.params)) == len(request.params)
    assert request.cookies.get("x", "") is not None


def test_headers_and_params_are_mappings() -> None:
    request = Request(HEAD)
    assert isinstance(request.headers, Mapping)
    assert isinstance(request.params, Mapping)
    assert request.params == {"client-id": "alice/1", "handshake?": "1", "x": "a b", "empty": ""}
    assert request.params != {"x": "a b"}
    assert list(request.params.values()) == ["alice/1", "1", "a b", ""]
    assert request.headers == Request(HEAD).headers
    assert request.headers != 5
    assert dict(request.headers.items())["host"] == "example.org:8000"
    assert set(request.headers.keys()) == set(request.headers)


def test_the_name_of_a_param_is_found_however_it_is_spelled() -> None:
    query = b"%63lient-id=1&client%2Did=2&client+id=3&caf%C3%A9=4&\xe9=5&=6&%=7"
    params = Request(b"GET /?" + query + b" HTTP/1.1\r\n\r\n").params
    assert params.getall("client-id") == ["1", "2"]
    assert [params["client id"], params["café"], params["\ufffd"]] == ["3", "4", "5"]
    assert [params[""], params["%"]] == ["6", "7"]
    assert params.get("\udce9") is None
    assert params.get("client%2Did") is None
    assert 3 not in params


def test_cookies_give_the_first_of_a_name() -> None:
    assert Request(HEAD).cookies == {"sid": "abc", "theme": "dark"}
    assert Request(b"GET / HTTP/1.1\r\n\r\n").cookies == {}


def test_state_is_made_on_first_use_and_kept() -> None:
    request = Request(HEAD)
    request.state["user"] = 7
    assert request.state == {"user": 7}


def test_a_repr_holds_no_value_that_could_be_a_secret() -> None:
    request = Request(HEAD)
    text = repr(request) + repr(request.headers) + repr(request.params)
    assert "alice" not in text
    assert "abc" not in text
    assert repr(request) == "Request(GET '/chsk/café')"


def test_from_fields_makes_the_same_request() -> None:
    fields = [("Host", "h"), (b"x-a", b"1"), ("X-A", "2")]
    request = Request.from_fields("POST", "/p%20q?a=1", fields, scheme="https", scope={"k": 1})
    assert (request.method, request.path, request.params["a"]) == ("POST", "/p q", "1")
    assert request.headers.getall("X-a") == ["1", "2"]
    assert (request.scheme, request.scope) == ("https", {"k": 1})


def test_from_fields_lets_no_value_make_another_field() -> None:
    request = Request.from_fields("GET", "/", [("a", "1\r\nCookie: sid=evil\0")])
    assert request.headers["a"] == "1  Cookie: sid=evil"
    assert "cookie" not in request.headers


def test_a_response_takes_text_or_bytes() -> None:
    assert Response(200, "é").body_bytes == b"\xc3\xa9"
    assert Response(200, b"\xff").body_bytes == b"\xff"
    assert Response().content_type == "text/plain; charset=utf-8"


def test_headers_of_a_response_may_be_a_dict_or_pairs():
    pairs = (("Retry-After", "60"), ("Vary", "Cookie"))
    for headers in (dict(pairs), pairs, list(pairs), iter(pairs)):
        assert Response(503, headers=headers) == Response(503, headers=pairs)
    assert Response(503, headers=dict(pairs)).headers == pairs
    assert replace(Response(headers=pairs), status=204).headers == pairs


@pytest.mark.parametrize("headers", [5, "Vary: Cookie", ["Vary"], {"Retry-After": 60}, [("a",)]])
def test_headers_that_are_no_pairs_are_refused_with_the_right_form(headers):
    with pytest.raises(TypeError, match="headers: expected a dict of str, or pairs like"):
        Response(503, headers=headers)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "a\r\nSet-Cookie: x"),
        ("X-A", "a\n"),
        ("X-A", "a\0"),
        ("X-A", "a\x1b[2J"),
        ("X-A", "a\x7f"),
        ("X-A", "\u20ac"),
        ("Content-Length", "3"),
        ("transfer-encoding", "chunked"),
        ("Connection", "close"),
    ],
)
def test_a_field_that_cannot_be_sent_raises_where_it_is_made(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected "):
        Response(200, headers=((name, value),))


@pytest.mark.parametrize("name", ["X A", "X-A:", "", "X-A\n", "X\r\nA", "Ä"])
def test_a_name_that_is_no_token_raises_where_it_is_made(name: str) -> None:
    with pytest.raises(ValueError, match="expected a token as the name"):
        Response(200, headers=((name, "a"),))


def test_a_value_that_is_refused_is_not_told() -> None:
    with pytest.raises(ValueError, match=r"^Set-Cookie: .*, got '\\n' at 8$"):
        Response(200, headers=(("Set-Cookie", "session=\n"),))


def test_a_body_that_cannot_be_encoded_raises_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="body: expected text without surrogates"):
        Response(200, "a\ud800")


def test_a_content_type_with_a_line_break_raises() -> None:
    with pytest.raises(ValueError, match="content_type"):
        Response(200, content_type="text/html\r\nX: y")


@pytest.mark.parametrize("body", [None, 5, ["a"], bytearray(b"a")])
def test_a_body_that_is_no_text_raises_where_it_is_made(body: object) -> None:
    with pytest.raises(TypeError, match="body: expected bytes or str"):
        Response(200, body)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [0, 99, 101, 600, True, 200.5, "200"])
def test_a_status_out_of_range_raises(status: int) -> None:
    with pytest.raises(ValueError, match="status: expected 200 to 599"):
        Response(status)


SHOUTED = b"POST / HTTP/1.1\r\nHost: h\r\nX-REAL-IP: 1\r\nTRANSFER-ENCODING: chunked\r\n\r\n"
TURKISH = f"""
import locale
locale.setlocale(locale.LC_CTYPE, "")
from chansock._edge.http1 import judge_head
from chansock._fast.http.request_reader import RequestReader
from chansock.request import Headers
assert RequestReader(judge_head, 9999, 99, 99).read({SHOUTED!r})[0] == "head"
assert Headers({SHOUTED!r})["x-real-ip"] == "1"
"""


def test_the_name_of_a_field_is_the_same_where_i_is_no_small_letter_of_its_capital() -> None:
    environment = {**os.environ, "LC_ALL": "tr_TR.UTF-8"}
    known = "import locale; locale.setlocale(locale.LC_CTYPE, '')"
    if subprocess.run([sys.executable, "-c", known], env=environment, check=False).returncode:
        pytest.skip("no Turkish locale here")
    subprocess.run([sys.executable, "-c", TURKISH], env=environment, check=True)


def test_a_name_that_no_field_can_have_is_not_found() -> None:
    head = b"GET / HTTP/1.1\r\na\0b: 1\r\nn\xe9: 2\r\n\r\n"
    headers = Headers(head)
    assert headers.get("a\0c") is None
    assert "\udc80" not in headers
    assert headers.getall("漢") == []
    assert dict(headers) == {"a\0b": "1", "né": "2"}
