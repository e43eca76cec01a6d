"""Who may come in, what stands at other paths, and the browser's files, under every server."""

from __future__ import annotations

import gzip

import pytest
from dist_content import ROOT
from peer import Answer, Fields
from raw import Run, assert_refusal
from servers import Served, post, target, who
from servers.application import TOKEN

REFUSED = {  # what a request asks for, its status, and what the answer says
    "no client-id": ("/chsk?handshake%3F=1", 400, "client-id"),
    "authorize": ("/chsk?client-id=a&let=no&handshake%3F=1", 401, "Unauthorized request"),
    "no token": ("/chsk?client-id=a&csrf=1&handshake%3F=1", 403, "Bad CSRF token"),
    "wrong token": ("/chsk?client-id=a&csrf=1&csrf-token=x&handshake%3F=1", 403, "CSRF"),
    "reject": ("/chsk?client-id=a&teapot=1&handshake%3F=1", 418, "a teapot"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_get_is_refused_with_its_status_and_a_sentence(
    served: Served, why: str, drive: Run
) -> None:
    async def main() -> None:
        where, status, sentence = REFUSED[why]
        async with served.peer() as alice:
            answer = await alice.ask("GET", where)
            assert_refusal(answer, status)
            assert sentence in answer.text

    drive(main())


KEY = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
UPGRADE = ("Upgrade", "websocket")
CONNECTION = ("Connection", "Upgrade")
STRIPPED = {
    "both": ([], "Upgrade and Connection"),
    "Upgrade": ([CONNECTION], "Upgrade"),
    "Connection": ([UPGRADE], "Connection"),
}


@pytest.mark.parametrize("lost", STRIPPED)
def test_socket_whose_upgrade_a_proxy_removed_is_426_at_once(
    served: Served, lost: str, drive: Run
) -> None:
    if served.name == "daphne" and lost == "Connection":
        pytest.skip("daphne: answers 400 by itself")

    async def main() -> None:
        me = who("alice")
        kept, names = STRIPPED[lost]
        async with served.peer() as alice:
            await served.shake(alice, me)  # a poll of this client would be parked now
            fields = [KEY, ("Sec-WebSocket-Version", "13"), *kept]
            answer = await alice.ask("GET", target(me), fields)
            assert_refusal(answer, 426)
            assert answer.header("upgrade") == "websocket"
            assert f"expected {names} in the request" in answer.text
            log = served.log()
            assert "refused reason=stripped_upgrade status=426" in log
            assert "proxy_set_header Upgrade $http_upgrade" in log

    drive(main())


def test_socket_is_refused_with_the_same_answer(served: Served, drive: Run) -> None:
    async def main() -> None:
        for where, status, sentence in REFUSED.values():
            async with served.peer() as alice:
                answer = await alice.upgrade(where)
                assert 400 <= answer.status < 500, answer
                served.needs("refusal")
                assert_refusal(answer, status)
                assert sentence in answer.text

    drive(main())


def test_post_is_refused_and_let_in_by_its_token(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            packet = "[[:test/req 1] :ajax]"
            answer = await post(alice, who("alice"), packet, csrf="1")
            assert_refusal(answer, 403)
            answer = await post(alice, who("alice"), packet, csrf="1", **{"csrf-token": TOKEN})
            assert (answer.status, answer.text) == (200, "[1 nil]")

    drive(main())


def test_head_and_other_methods_are_405(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            for method in ("HEAD", "DELETE", "PUT"):
                answer = await alice.ask(method, target(who("alice")))
                assert answer.status == 405
                assert answer.header("allow") == "GET, POST"
                assert (answer.body == b"") == (method == "HEAD")

    drive(main())


def test_preflight_and_the_fields_of_cors(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            origin = ("Origin", "https://page.example")
            asked = ("Access-Control-Request-Method", "POST")
            answer = await alice.ask("OPTIONS", "/chsk", [origin, asked])
            assert answer.status == 204
            assert answer.header("access-control-allow-origin")
            assert answer.header("access-control-allow-methods")
            where = target(who("alice"), **{"handshake?": "1"})
            answer = await alice.ask("GET", where, [origin])
            assert answer.header("access-control-allow-origin")
            answer = await alice.ask("GET", "/chsk?handshake%3F=1", [origin])
            assert answer.status == 400
            assert answer.header("access-control-allow-origin")

    drive(main())


async def _get(served: Served, path: str, fields: Fields = (), method: str = "GET") -> Answer:
    async with served.peer() as page:
        return await page.ask(method, path, fields)


@pytest.mark.parametrize("name", ["chansock.js", "msgpack.js", "json.js", "chansock.d.ts"])
def test_browser_files_stand_below_the_path(served: Served, name: str, drive: Run) -> None:
    async def main() -> None:
        text = (ROOT / "js" / name).read_bytes()
        path = f"/chsk/{name}"
        answer = await _get(served, path)
        assert (answer.status, answer.body) == (200, text)
        answer = await _get(served, path, [("Accept-Encoding", "gzip")])
        assert answer.header("content-encoding") == "gzip"
        assert gzip.decompress(answer.body) == text
        head = await _get(served, path, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        tag = answer.header("etag")
        assert tag is not None
        unchanged = await _get(served, path, [("Accept-Encoding", "gzip"), ("If-None-Match", tag)])
        assert (unchanged.status, unchanged.body) == (304, b"")

    drive(main())


def test_other_paths_are_the_applications(served: Served, drive: Run) -> None:
    async def main() -> None:
        answer = await _get(served, "/app")
        assert (answer.status, answer.text) == (200, "GET of the application: ")
        for path in ("/", "/chsk/", "/chsk/other.js", "/chsk2", "/CHSK"):
            answer = await _get(served, path)
            assert (answer.status, answer.text) == (404, "nothing of the application"), path

    drive(main())


def test_bodies_and_sockets_of_other_paths_are_the_applications(served: Served, drive: Run) -> None:
    async def main() -> None:
        if not served.server.has_own_sockets:
            return  # chansock's own server has no application beside the channel
        async with served.peer() as page:
            answer = await page.ask("POST", "/app", (), b"said")
            assert answer.text == "POST of the application: said"
            assert (await page.upgrade("/echo")).status == 101
            await page.say("hello")
            assert await page.text() == "the application: hello"
            await page.bye()

    drive(main())
