"""docs/security.md: each of its snippets is run, and does what the text says."""

from __future__ import annotations

import re
from typing import Any

import pytest
from dist_content import ROOT

from chansock import ChannelSocket, Config, Request, Response, testing
from chansock._core import subprotocol
from chansock.errors import HandshakeRefused

TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")

# Heading of the section, number of the snippet in it.
SNIPPETS = {
    (section.split("\n")[0], number): code
    for section in TEXT.split("\n## ")
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
}


def names(section: str, number: int = 0) -> dict[str, Any]:
    """Run a snippet; give the names that it made."""
    found: dict[str, Any] = {}
    exec(compile(SNIPPETS[section, number], f"{section} {number}", "exec"), found)
    return found


def status(chsk: ChannelSocket, *fields: tuple[str, str], **params: str) -> int:
    """Ask for a WebSocket: 101, or the status that refuses."""
    with testing.World(chsk) as world:
        try:
            world.ws(headers=fields, params=[(n.replace("_", "-"), v) for n, v in params.items()])
        except HandshakeRefused as error:
            return error.status
        return 101


def test_all_snippets_are_found() -> None:
    assert len(SNIPPETS) == TEXT.count("```python") == 8


@pytest.mark.parametrize(("login", "expected"), [("s3cr3t", 101), ("other", 401), ("", 401)])
def test_user(login: str, expected: int) -> None:
    assert status(names("The user")["chsk"], ("Cookie", f"login={login}")) == expected


def test_reject() -> None:
    assert status(names("The user", 1)["chsk"]) == 503


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://example.com", 101),
        ("https://a.example.com", 101),
        ("https://a.b.example.com", 101),
        ("http://localhost:8000", 101),
        ("https://evil-example.com", 403),
        ("http://localhost", 403),
    ],
)
def test_origin(origin: str, expected: int) -> None:
    assert status(names("Origin")["chsk"], ("Origin", origin)) == expected


def test_any_origin_with_a_token() -> None:
    page = ("Origin", "https://evil.example")
    login = ("Cookie", "login=s3cr3t")
    made = names("Origin", 1)
    assert status(made["chsk"], page, login) == 403
    assert status(made["chsk"], page, login, csrf_token="tok123") == 101


@pytest.mark.parametrize(
    ("method", "is_upgrade", "fields", "expected"),
    [
        ("POST", False, [], 200),
        ("GET", False, [], 200),
        ("GET", True, [], 200),
        ("POST", False, [("Cookie", "login=1")], 403),
        ("GET", False, [("Cookie", "login=1")], 403),
        ("GET", True, [("Cookie", "login=1")], 200),
    ],
)
def test_the_table_of_any_origin(
    method: str, is_upgrade: bool, fields: list[tuple[str, str]], expected: int
) -> None:
    chsk = ChannelSocket(Config(allowed_origins=("*",)))
    fields = [("Host", "example.com"), ("Origin", "https://evil.example"), *fields]
    with testing.World(chsk):
        asked = Request.from_fields(method, "/chsk?client-id=a", fields)
        found = chsk._endpoint.admit(asked, is_upgrade=is_upgrade)
        assert (found.status if isinstance(found, Response) else 200) == expected
        if expected == 403:
            assert "refused with `403` `Unauthorized origin`" in TEXT


def test_behind_a_proxy_the_default_fields_are_those_of_the_text() -> None:
    config = names("Behind a proxy")["chsk"].config
    assert config.trusted_headers == Config().trusted_headers


def test_csrf_tokens() -> None:
    login = ("Cookie", "login=s3cr3t")
    for fields, params, expected in (
        ([login], {"csrf_token": "tok123"}, 101),
        ([login, ("Sec-WebSocket-Protocol", "chansock, csrf.tok123")], {}, 101),
        ([login, ("x-csrf-token", "tok123")], {"csrf_token": "wrong"}, 403),
        ([login], {}, 403),
        ([], {"csrf_token": "tok123"}, 403),
    ):
        assert status(names("CSRF tokens")["chsk"], *fields, **params) == expected


def test_characters_of_a_subprotocol_are_those_of_the_text() -> None:
    found = re.search(r"letters, digits, and\s``(.+?)``;", TEXT)
    assert found is not None
    for char in map(chr, range(33, 127)):
        is_plain = subprotocol.offer(char) == f"chansock, csrf.{char}"
        assert is_plain is (char.isalnum() or char in found[1])


def test_client_snippet_makes_a_client() -> None:
    assert repr(names("CSRF tokens", 1)["client"])


def test_tokens_without_sessions() -> None:
    made = names("Tokens without sessions")
    answer = made["page"](Request.from_fields("GET", "/", [("Cookie", "login=sid1")]))
    assert isinstance(answer, Response)
    found = re.search(r'content="([^"]+)"', str(answer.body))
    assert found is not None
    name, value = answer.headers[0]
    assert name == "Set-Cookie"
    sent = ("Cookie", f"login=sid1; {value.split(';')[0]}")
    other = ("Cookie", f"login=sid2; {value.split(';')[0]}")
    for cookie, token, expected in ((sent, found[1], 101), (sent, "", 403), (other, found[1], 403)):
        chsk = ChannelSocket(csrf_token=made["tokens"].csrf_token)
        assert status(chsk, cookie, csrf_token=token) == expected


@pytest.mark.parametrize(
    "row",
    [
        line
        for line in TEXT.splitlines()
        if re.fullmatch(r"\|.*\| `\d+` .*\|", line) and "what was expected" not in line
    ],
)
def test_refusals_of_the_table_are_those_of_the_source(row: str) -> None:
    found = re.search(r"`(\d+)` (?:`([^`]+)`|if it is neither)", row)
    assert found is not None
    source = (ROOT / "chansock" / "_core" / "endpoint.py").read_text(encoding="utf-8")
    assert f'{found[1]}, "{found[2] or "internal server error"}"' in source
