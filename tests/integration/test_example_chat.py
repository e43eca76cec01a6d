"""The lobby of examples/chat: names, presence, what is said, and its files, without a browser."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest
from dist_content import ROOT

import chansock
from chansock.testing import World

CHAT = ROOT / "examples" / "chat"
FILES = sorted(path.name for path in CHAT.iterdir() if path.suffix in (".css", ".js", ".svg"))
Run = Callable[[Any], Any]

spec = importlib.util.spec_from_file_location("example_chat", CHAT / "server.py")
assert spec is not None
assert spec.loader is not None
chat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(chat)

NAMES = chat.Names(b"a secret of the tests")


def login(name: str) -> list[tuple[str, str]]:
    return [("Cookie", f"{chat.COOKIE}={NAMES.sign(name)}")]


@pytest.fixture
def lobby() -> Any:
    return chat.Lobby(NAMES)


@pytest.fixture
def world(lobby: Any) -> Iterator[World]:
    with World(lobby.chsk) as world:
        yield world


def say(world: World, client: Any, text: Any, key: Any = "k1") -> Any:
    reply = client.ask("chat/say", {"text": text, "key": key})
    world.turn()
    return reply.value


def told(client: Any, event_id: str) -> list[Any]:
    return [event.data for event in client.take() if event.id == event_id]


# -- names


@pytest.mark.parametrize("name", ["ada", "Ada Lovelace", "a.b", "Иван; x=1", "100%", "🦊"])
def test_a_signed_name_is_read_back(world: World, name: str) -> None:
    assert world.ws(headers=login(name)).handshake.uid == name


SIGNED = NAMES.sign("ada")


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        "ada",
        ".",
        "bob" + SIGNED.removeprefix("ada"),
        SIGNED[:-1],
        SIGNED + "0",
        SIGNED.replace("ada", "ad%61"),
        "ada." + "é" * 64,
        chat.Names(b"another secret").sign("ada"),
    ],
)
def test_a_cookie_that_was_not_signed_here_is_no_user(world: World, cookie: str) -> None:
    client = world.ws(headers=[("Cookie", f"{chat.COOKIE}={cookie}")])
    assert client.handshake.uid == "sente/nil-uid"


def test_the_secret_is_kept_for_its_owner_alone(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHAT_SECRET", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    secret = chat.find_secret()
    path = tmp_path / "chansock-chat" / "secret"
    assert len(secret) == 32
    assert chat.find_secret() == secret == path.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == ["secret"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("fault", ["others may read it", "it is too short", "it is a folder"])
def test_a_secret_that_cannot_be_trusted_is_not_used(
    fault: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("CHAT_SECRET", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "chansock-chat" / "secret"
    path.parent.mkdir()
    if fault == "it is a folder":
        path.mkdir()
    else:
        path.write_bytes(b"known to all" * (1 if fault == "it is too short" else 3))
        path.chmod(0o644 if fault == "others may read it" else 0o600)
    assert b"known to all" not in chat.find_secret()
    assert caplog.records[0].getMessage().startswith("secret_not_kept")


def test_a_secret_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_SECRET", "given")
    assert chat.find_secret() == b"given"


# -- who is here


def test_who_comes_changes_transport_and_goes_is_told_to_all(world: World) -> None:
    guest = world.ws()
    assert guest.handshake.data["people"] == []
    ada = world.ws(client_id="tab-1", headers=login("ada"))
    world.turn()
    by_ws = [{"name": "ada", "ws": True, "ajax": False}]
    assert told(guest, "chat/people") == [by_ws]
    second = world.ajax(client_id="tab-2", headers=login("ada"))
    assert second.handshake.data["people"] == by_ws
    ada.send("chat/ping")
    world.turn()
    assert told(guest, "chat/people") == [[{"name": "ada", "ws": True, "ajax": True}]]
    ada.close()
    world.advance(5.0)
    guest.send("chat/ping")
    world.turn()
    assert told(guest, "chat/people") == [[{"name": "ada", "ws": False, "ajax": True}]]
    second.drop()
    world.advance(5.0)
    assert told(guest, "chat/people") == [[]]


def test_people_stand_in_the_order_of_their_names(world: World) -> None:
    for name in ("cy", "ada", "bob"):
        world.ws(headers=login(name))
    world.turn()
    assert [one["name"] for one in world.ws().handshake.data["people"]] == ["ada", "bob", "cy"]


# -- what is said


def test_what_is_said_reaches_all_and_those_who_come_later(world: World) -> None:
    ada, bob, guest = world.ws(headers=login("ada")), world.ajax(headers=login("bob")), world.ws()
    reply = say(world, ada, " hello <b>bob</b> ")
    world.advance(0.1)  # over Ajax pushes are gathered so long
    said = {"from": "ada", "text": "hello <b>bob</b>", "key": "k1", "at": reply["at"]}
    for client in (ada, bob, guest):
        assert told(client, "chat/said") == [said]
    assert world.ws().handshake.data["messages"] == [said]


def test_the_last_50_are_kept_and_no_two_have_one_time(world: World) -> None:
    ada = world.ws(headers=login("ada"))
    for number in range(60):
        assert "at" in say(world, ada, f"{number}", f"k{number}")
        world.advance(1.0)
    messages = world.ws().handshake.data["messages"]
    assert [said["text"] for said in messages] == [str(number) for number in range(10, 60)]
    times = [said["at"] for said in messages]
    assert times == sorted(set(times))


def test_a_message_that_comes_twice_is_said_once(world: World) -> None:
    ada, bob = world.ws(headers=login("ada")), world.ws(headers=login("bob"))
    first = say(world, ada, "hello")
    assert say(world, ada, "hello") == first
    assert say(world, bob, "me too")["at"] > first["at"]  # a key is its sender's own
    assert [said["text"] for said in told(bob, "chat/said")] == ["hello", "me too"]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"text": "x" * 501, "key": "k"}, "Too long: 501 characters, and 500 is the limit."),
        ({"text": " \n ", "key": "k"}, "There is nothing in this message."),
        ({"text": 5, "key": "k"}, "Expected a text and a key."),
        ({"text": chansock.Keyword("hi"), "key": "k"}, "Expected a text and a key."),
        ({"text": "hi"}, "Expected a text and a key."),
        ({"text": "hi", "key": "k" * 65}, "Expected a text and a key."),
        (["hi"], "Expected a text and a key."),
        (None, "Expected a text and a key."),
    ],
)
def test_what_cannot_be_said_is_refused_in_words(world: World, data: Any, error: str) -> None:
    ada = world.ws(headers=login("ada"))
    reply = ada.ask("chat/say", data)
    world.turn()
    assert reply.value == {"error": error}
    assert told(ada, "chat/said") == []


def test_500_characters_can_be_said(world: World) -> None:
    assert "at" in say(world, world.ws(headers=login("ada")), "🦊" * 500)


def test_without_a_name_nobody_speaks(world: World) -> None:
    guest = world.ws()
    assert say(world, guest, "hello")["error"].startswith("Choose a name first")
    guest.send("chat/typing", True)
    world.turn()
    assert guest.take() == []


def test_five_at_once_then_one_a_second_for_each_user(world: World) -> None:
    tabs = [world.ws(headers=login("ada")) for _ in range(2)]
    bob = world.ws(headers=login("bob"))
    replies = [say(world, tabs[number % 2], "x", f"k{number}") for number in range(6)]
    assert ["at" in reply for reply in replies] == [True] * 5 + [False]
    assert replies[5] == {"error": "Too fast: wait a second, then send it again.", "retry": True}
    assert "at" in say(world, bob, "x")
    world.advance(1.0)
    assert "at" in say(world, tabs[0], "x", "k6")
    assert "error" in say(world, tabs[0], "x", "k7")


# -- who is typing


def test_a_slow_client_gets_the_last_hint_of_each_who_types(world: World) -> None:
    ada, bob = world.ws(headers=login("ada")), world.ws(headers=login("bob"))
    slow = world.ajax()
    world.advance(0.1)
    slow.take()
    slow.is_polling = False
    slow.drop()
    for client, on in ((ada, True), (bob, True), (ada, False)):
        client.send("chat/typing", on)
        world.turn()
    slow.poll()
    world.advance(0.1)
    assert told(slow, "chat/typing") == [{"from": "bob", "on": True}, {"from": "ada", "on": False}]


# -- over HTTP


@asynccontextmanager
async def served() -> Any:
    door = chat.Door(NAMES)
    async with chansock.serve(chat.Lobby(NAMES).chsk, port=0, fallback=door.answer) as listener:
        yield listener.port


async def ask(port: int, request: str) -> tuple[int, dict[str, str], str]:
    """Send one request (`GET /`, further lines, body); its status, fields and text."""
    head, _, body = request.partition("\n\n")
    lines = [*head.split("\n"), f"Host: 127.0.0.1:{port}", "Connection: close"]
    lines[0] += " HTTP/1.1"
    if body:
        lines += [f"Content-Length: {len(body)}", "Content-Type: application/x-www-form-urlencoded"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("\r\n".join([*lines, "", body]).encode())
    answer, _, text = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    status, *fields = answer.split("\r\n")
    named = dict(field.lower().split(": ", 1) for field in fields)
    return int(status.split()[1]), named, text


def test_a_name_is_chosen_by_a_form_and_two_tabs_are_one_user(run: Run) -> None:
    async def main() -> None:
        async with served() as port:
            status, fields, _ = await ask(port, "POST /name\n\nname=+Ada%20%20Lovelace+")
            assert status == 204
            cookie, *marks = fields["set-cookie"].split("; ")
            assert marks == ["max-age=2592000", "path=/", "httponly", "samesite=lax"]
            login = {"Cookie": cookie.replace("ada%20lovelace", "Ada%20Lovelace")}
            url = f"http://127.0.0.1:{port}/chsk"
            async with (
                chansock.connect(url, headers=login) as one,
                chansock.connect(url, headers=login, transport="ajax") as two,
            ):
                assert one.state.uid == two.state.uid == "Ada Lovelace"
                at = (await two.send("chat/say", {"text": "hi", "key": "k"}, timeout=60))["at"]
                said = {"from": "Ada Lovelace", "text": "hi", "key": "k", "at": at}
                for client in (one, two):
                    async for event in client:
                        if event.id == "chat/said":
                            assert event.data == said
                            break
                await one.send("chat/ping", timeout=60)
                async for event in two:
                    if event.data == [{"name": "Ada Lovelace", "ws": True, "ajax": True}]:
                        break

    run(main())


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", "A name has 1 to 24 characters; this one has 0."),
        ("x" * 25, "A name has 1 to 24 characters; this one has 25."),
        ("ada\u202e", "A name is made of characters that can be seen."),
        ("\x00", "A name is made of characters that can be seen."),
    ],
)
def test_a_name_that_cannot_be_is_refused_in_words(run: Run, name: str, error: str) -> None:
    async def main() -> None:
        async with served() as port:
            status, fields, text = await ask(port, f"POST /name\n\nname={quote(name)}")
            assert (status, text) == (400, error)
            assert "set-cookie" not in fields

    run(main())


@pytest.mark.parametrize(
    "field",
    [
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: http://",
        "Origin: http://[",
        "Origin: http://127.0.0.1:PORT\nOrigin: http://evil.example",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ],
)
def test_a_foreign_page_chooses_nobody_a_name(run: Run, field: str) -> None:
    async def main() -> None:
        async with served() as port:
            head = "POST /name\n" + field.replace("PORT", str(port))
            status, fields, _ = await ask(port, head + "\n\nname=mallory")
            assert status == 403
            assert "set-cookie" not in fields
            own = f"POST /name\nOrigin: http://127.0.0.1:{port}\nSec-Fetch-Site: same-origin"
            assert (await ask(port, own + "\n\nname=ada"))[0] == 204

    run(main())


def test_a_name_is_not_taken_by_get(run: Run) -> None:
    async def main() -> None:
        async with served() as port:
            status, fields, _ = await ask(port, "GET /name?name=mallory")
            assert (status, fields["allow"]) == (405, "post")
            assert "set-cookie" not in fields

    run(main())


@pytest.mark.parametrize("path", ["", *FILES])
def test_the_page_and_its_files_are_served_under_a_strict_policy(run: Run, path: str) -> None:
    async def main() -> None:
        async with served() as port:
            status, fields, text = await ask(port, f"GET /{path}")
            assert status == 200
            assert text == (CHAT / (path or "index.html")).read_text(encoding="utf-8")
            policy = dict(
                part.split(" ", 1) for part in fields["content-security-policy"].split("; ")
            )
            assert policy.pop("default-src") == "'none'"
            assert set(policy.values()) == {"'self'", "'none'"}
            assert {"base-uri", "form-action", "frame-ancestors"} <= set(policy)
            assert fields["x-content-type-options"] == "nosniff"
            kind = {"": "html", "css": "css", "js": "javascript", "svg": "svg+xml"}
            assert kind[path.partition(".")[2]] in fields["content-type"]
            assert (await ask(port, f"POST /{path}"))[0] == 405

    run(main())


@pytest.mark.parametrize(
    "path",
    [
        "/server.py",
        "/index.html",
        "/../server.py",
        "/..%2fserver.py",
        "/%2e%2e/server.py",
        "//etc/passwd",
        "/chat.css/",
        "/chat.css%00",
        "/./chat.css",
    ],
)
def test_no_other_file_can_be_had(run: Run, path: str) -> None:
    async def main() -> None:
        async with served() as port:
            # a NUL reaches no fallback
            expected = 400 if "%00" in path else 404
            assert (await ask(port, f"GET {path}"))[0] == expected

    run(main())


class Named(HTMLParser):
    """The addresses of a page, and what a strict policy would not let run."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [given[name] or "" for name in ("src", "href", "action") if name in given]
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.inline.append(tag)


def named_by_the_page() -> Named:
    page = Named()
    page.feed((CHAT / "index.html").read_text(encoding="utf-8"))
    for name in FILES:
        text = (CHAT / name).read_text(encoding="utf-8")
        page.addresses += re.findall(r'from "([^"]+)"', text)
        page.inline += re.findall(
            r"url\([^)]+\)|import\(|innerHTML|eval\(|https?://(?!www.w3.org)", text
        )
    return page


def test_the_page_names_nothing_foreign_and_nothing_inline() -> None:
    page = named_by_the_page()
    assert page.inline == []
    assert set(page.addresses) == {*chat.FILES, "/name", "/chsk/chansock.js"} - {"/"}


def test_all_that_the_page_names_is_there(run: Run) -> None:
    async def main() -> None:
        async with served() as port:
            for address in {*named_by_the_page().addresses} - {"/name"}:
                assert (await ask(port, f"GET {address}"))[0] == 200

    run(main())


@pytest.mark.slow
def test_the_program_serves_on_the_port_that_it_is_given(tmp_path: Any) -> None:
    env = os.environ | {"PORT": "0", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)}
    program = subprocess.Popen(
        [sys.executable, CHAT / "server.py"], stdout=subprocess.PIPE, text=True, env=env
    )
    with program:
        try:
            assert program.stdout is not None
            line = program.stdout.readline()
            assert line.startswith("chansock: serving http://127.0.0.1:")
            url = line.split()[2].removesuffix("chsk")
            with urllib.request.urlopen(url) as answer:
                assert "<title>Lobby" in answer.read().decode()
        finally:
            program.terminate()
    assert program.returncode == 0
    assert (tmp_path / "chansock-chat" / "secret").exists()
