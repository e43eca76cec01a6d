"""The browser's client over HTTP, from outside: raw requests, and the files of js/ as the truth.

What an answer must show is what RFC 9110 and the Fetch standard say of it.
"""

from __future__ import annotations

import gzip
import logging
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import peer
import pytest
from dist_content import ROOT
from peer import Answer, Peer

import chansock
from chansock import ChannelSocket, Config, Request, Response

Run = Callable[[Coroutine[Any, Any, Any]], Any]

JS = "/chsk/chansock.js"
TYPES = "/chsk/chansock.d.ts"
PACKERS = ("json", "msgpack")
SOURCE = (ROOT / "js" / "chansock.js").read_bytes()
TYPES_SOURCE = (ROOT / "js" / "chansock.d.ts").read_bytes()
GZIP = ("Accept-Encoding", "gzip")


@asynccontextmanager
async def client(
    chsk: ChannelSocket | None = None, host: str = "127.0.0.1", **options: Any
) -> AsyncIterator[Peer]:
    """A raw connection to a server."""
    chsk = chsk or ChannelSocket()
    async with (
        chansock.serve(chsk, host, 0, **options) as listener,
        await Peer.connect(listener.port) as wire,
    ):
        yield wire


def ask(run: Run, target: str, *fields: tuple[str, str], method: str = "GET") -> Answer:
    async def main() -> Answer:
        async with client() as wire:
            return await wire.ask(method, target, fields)

    answer: Answer = run(main())
    return answer


def fields_of(answer: Answer) -> dict[str, str]:
    names = [name.lower() for name, _ in answer.headers]
    assert len(names) == len(set(names)), answer.headers
    return {name.lower(): value for name, value in answer.headers}


def is_tag(tag: str | None) -> bool:
    """A strong entity tag (RFC 9110 section 8.8.3)."""
    return tag is not None and len(tag) > 2 and tag[0] == tag[-1] == '"' and '"' not in tag[1:-1]


def test_the_module_is_offered_below_the_path_of_the_channel(run: Run) -> None:
    answer = ask(run, JS)
    assert (answer.status, answer.body) == (200, SOURCE)
    fields = fields_of(answer)
    assert is_tag(fields.pop("etag"))
    assert fields.pop("date").endswith(" GMT")
    assert fields == {
        "content-type": "text/javascript; charset=utf-8",
        "content-length": str(len(SOURCE)),
        "x-content-type-options": "nosniff",
        "cache-control": "no-cache",
        "vary": "Accept-Encoding",
        "access-control-allow-origin": "*",
        "x-typescript-types": "./chansock.d.ts",
    }


def test_the_types_are_offered_beside_the_module(run: Run) -> None:
    answer = ask(run, TYPES)
    assert (answer.status, answer.body) == (200, TYPES_SOURCE)
    fields = fields_of(answer)
    assert is_tag(fields.pop("etag"))
    del fields["date"]
    assert fields == {
        "content-type": "text/plain; charset=utf-8",
        "content-length": str(len(TYPES_SOURCE)),
        "x-content-type-options": "nosniff",
        "cache-control": "no-cache",
        "vary": "Accept-Encoding",
        "access-control-allow-origin": "*",
    }


@pytest.mark.parametrize("packer", PACKERS)
def test_each_packer_is_offered_like_the_module(run: Run, packer: str) -> None:
    for suffix, like in (("js", JS), ("d.ts", TYPES)):
        name = f"{packer}.{suffix}"
        answer = ask(run, f"/chsk/{name}")
        assert (answer.status, answer.body) == (200, (ROOT / "js" / name).read_bytes())
        expected = fields_of(ask(run, like))
        expected["content-length"] = str(len(answer.body))
        if suffix == "js":
            expected["x-typescript-types"] = f"./{packer}.d.ts"
        assert {**fields_of(answer), "etag": "", "date": ""} == {**expected, "etag": "", "date": ""}


def test_a_query_does_not_matter(run: Run) -> None:
    assert ask(run, JS + "?v=2").body == SOURCE


@pytest.mark.parametrize(("target", "source"), [(JS, SOURCE), (TYPES, TYPES_SOURCE)])
def test_gzip_is_the_same_file_with_a_tag_of_its_own(run: Run, target: str, source: bytes) -> None:
    plain, small = ask(run, target), ask(run, target, GZIP)
    assert gzip.decompress(small.body) == source
    assert len(small.body) < len(source)
    expected = fields_of(plain)
    expected |= {"content-encoding": "gzip", "content-length": str(len(small.body))}
    found = fields_of(small)
    assert is_tag(found["etag"])
    assert found.pop("etag") != expected.pop("etag")
    del found["date"], expected["date"]
    assert found == expected


@pytest.mark.parametrize(
    ("accepted", "is_gzip"),
    [
        ("gzip, deflate, br, zstd", True),
        ("deflate, GZIP", True),
        ("x-gzip", True),
        ("*", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("gzip ; q=0.001", True),
        ("identity;q=0.5, gzip;q=1.000", True),
        ("identity;q=0, *", True),
        ("", False),
        ("br", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("*;q=0", False),
        ("gzip;q=0.5, identity", False),
        ("gzip;q=2", False),
        ("gzip;q=nan", False),
        ("gzip;level=9", False),
        ("ungzip", False),
        (";q=1,,;,", False),
    ],
)
def test_the_coding_is_what_accept_encoding_asks_for(
    run: Run, accepted: str, is_gzip: bool
) -> None:
    answer = ask(run, JS, ("Accept-Encoding", accepted))
    assert answer.status == 200
    assert answer.header("content-encoding") == ("gzip" if is_gzip else None)
    assert (gzip.decompress(answer.body) if is_gzip else answer.body) == SOURCE


def test_two_lines_of_accept_encoding_are_one_list(run: Run) -> None:
    answer = ask(run, JS, ("Accept-Encoding", "br"), ("Accept-Encoding", "gzip"))
    assert answer.header("content-encoding") == "gzip"


@pytest.mark.parametrize("coding", [(), (GZIP,)])
def test_a_known_tag_is_answered_304_without_a_body(
    run: Run, coding: tuple[tuple[str, str], ...]
) -> None:
    async def main() -> None:
        async with client() as wire:
            whole = await wire.ask("GET", JS, coding)
            tag = whole.header("etag")
            assert tag is not None
            many = ", ".join(f'"{number:032x}"' for number in range(300))
            for given in (
                tag,
                f"W/{tag}",
                "*",
                f'"a", {tag}',
                f'"a,b",W/"c" , W/{tag},"d"',
                f"{many}, {tag}",
            ):
                found = await wire.ask("GET", JS, [*coding, ("If-None-Match", given)])
                assert (found.status, found.body) == (304, b"")
                fields = fields_of(found)
                assert "content-encoding" not in fields
                for name in ("etag", "vary", "cache-control", "access-control-allow-origin"):
                    assert fields[name] == whole.header(name)  # RFC 9110 section 15.4.5
            for given in (
                '"a"',
                tag.strip('"'),
                tag[:-2] + '"',
                '"' + tag[2:],
                f'"*", {many}',
            ):
                found = await wire.ask("GET", JS, [*coding, ("If-None-Match", given)])
                assert (found.status, found.body) == (200, whole.body)
            split = [("If-None-Match", '"a"'), ("If-None-Match", tag)]
            assert (await wire.ask("GET", JS, [*coding, *split])).status == 304

    run(main())


def test_the_tag_of_one_coding_is_not_that_of_the_other(run: Run) -> None:
    async def main() -> None:
        async with client() as wire:
            tag = (await wire.ask("GET", JS)).header("etag")
            assert tag is not None
            answer = await wire.ask("GET", JS, [GZIP, ("If-None-Match", tag)])
            assert answer.status == 200

    run(main())


@pytest.mark.parametrize("coding", [(), (GZIP,)])
def test_head_has_the_fields_of_get_and_no_body(
    run: Run, coding: tuple[tuple[str, str], ...]
) -> None:
    async def main() -> None:
        async with client() as wire:
            whole = fields_of(await wire.ask("GET", JS, coding))
            head = await wire.ask("HEAD", JS, coding)
            assert head.status == 200
            assert {**fields_of(head), "date": ""} == {**whole, "date": ""}
            known = [*coding, ("If-None-Match", whole["etag"])]
            assert (await wire.ask("HEAD", JS, known)).status == 304
            # Had a body come, the next answer could not be read.
            assert (await wire.ask("GET", "/nowhere")).status == 404

    run(main())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_told_which_are_allowed(run: Run, method: str) -> None:
    async def main() -> None:
        async with client() as wire:
            answer = await wire.ask(method, JS, [("Content-Length", "3")], b"abc")
            assert answer.status == 405
            assert answer.header("allow") == "GET, HEAD"
            assert answer.header("cache-control") == "no-store"
            assert answer.header("etag") is None
            assert (await wire.ask("GET", JS)).body == SOURCE  # on the same connection

    run(main())


def test_one_connection_carries_them_in_order_and_without_waiting(run: Run) -> None:
    async def main() -> None:
        async with client() as wire:
            targets = (JS, TYPES, "/nowhere", JS)
            await wire.send(b"".join(peer.request("GET", target) for target in targets))
            bodies = [(await wire.answer()).body for _ in targets]
            assert bodies == [SOURCE, TYPES_SOURCE, b"not found", SOURCE]

    run(main())


def test_http_1_0_gets_the_file_and_the_end_of_the_connection(run: Run) -> None:
    async def main() -> None:
        async with client() as wire:
            await wire.send(b"GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n" % JS.encode())
            answer = await wire.answer()
            assert (answer.status, answer.body) == (200, SOURCE)
            assert answer.header("connection") == "close"
            assert answer.header("content-encoding") is None
            assert await wire.rest() == b""

    run(main())


def test_a_request_for_a_websocket_gets_the_file(run: Run) -> None:
    async def main() -> None:
        async with client() as wire:
            answer = await wire.upgrade(JS)
            assert (answer.status, answer.body) == (200, SOURCE)

    run(main())


def test_no_hook_runs_and_the_fallback_sees_no_such_path(run: Run) -> None:
    async def main() -> None:
        called: list[Request] = []
        seen: list[str] = []

        def hook(request: Request) -> None:
            called.append(request)

        chsk = ChannelSocket(
            user_id=hook,
            handshake_data=hook,
            authorize=hook,  # type: ignore[arg-type]
            reject=hook,
            csrf_token=hook,
        )

        def fallback(request: Request) -> Response:
            seen.append(request.path)
            return Response(200, "of the application")

        async with client(chsk, fallback=fallback) as wire:
            assert (await wire.ask("GET", JS)).body == SOURCE
            assert (await wire.ask("HEAD", TYPES)).status == 200
            assert (await wire.ask("POST", JS)).status == 405
            foreign = [("Origin", "http://elsewhere.example"), ("Sec-Fetch-Site", "cross-site")]
            assert (await wire.ask("GET", JS, foreign)).status == 200
            others = ("/chansock.js", "/chsk/", "/chsk/chansock.js/", "/chsk/x/chansock.js")
            others += ("/chsk/Chansock.js", "/chsk/chansock.map", "/chsk//chansock.js")
            others += ("/chsk/../chsk/chansock.js", "/chsk/test/server.py", "/chsk/chansock.jsx")
            for target in others:
                assert (await wire.ask("GET", target)).text == "of the application"
        assert called == []
        assert seen == list(others)
        assert chsk.stats.refused == {}

    run(main())


def test_an_async_fallback_gets_the_other_paths(run: Run) -> None:
    async def fallback(request: Request) -> Response | None:
        return Response(200, "later") if request.path == "/later" else None

    async def main() -> None:
        async with client(fallback=fallback) as wire:
            assert (await wire.ask("GET", "/later")).text == "later"
            assert (await wire.ask("GET", "/nowhere")).status == 404
            assert (await wire.ask("GET", JS)).body == SOURCE

    run(main())


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/", "/chansock.js"),
        ("/a/b", "/a/b/chansock.js"),
        ("/a/", "/a/chansock.js"),
        ("/caf\u00e9", "/caf%C3%A9/chansock.js"),
    ],
)
def test_another_path_of_the_channel_moves_it(run: Run, path: str, target: str) -> None:
    async def main() -> None:
        async with client(path=path) as wire:
            assert (await wire.ask("GET", target)).body == SOURCE
            assert (await wire.ask("GET", JS)).status == 404

    run(main())


def test_a_name_that_was_made_to_point_here_is_refused(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        chsk = ChannelSocket()
        async with client(chsk) as wire:
            answer = await wire.ask("GET", JS, [("Host", "rebound.example")])
            assert (answer.status, answer.text) == (403, "Unauthorized host")
            assert answer.header("access-control-allow-origin") is None
            assert (await wire.ask("GET", JS, [("Host", "localhost:8000")])).status == 200
        assert chsk.stats.refused == {"host": 1}

    run(main())
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_the_hosts_that_are_allowed_hold_for_it_too(run: Run) -> None:
    async def main() -> None:
        chsk = ChannelSocket(Config(allowed_hosts=("chat.example",)))
        async with client(chsk, "0.0.0.0") as wire:
            assert (await wire.ask("GET", JS, [("Host", "chat.example")])).status == 200
            assert (await wire.ask("GET", TYPES, [("Host", "localhost")])).status == 403

    run(main())


WITHOUT = """
import asyncio, sys
sys.path.insert(0, {tests!r})
from peer import Peer
import chansock

async def main():
    async with chansock.serve(chansock.ChannelSocket(), port=0) as listener:
        async with await Peer.connect(listener.port) as wire:
            for target in {targets!r}:
                answer = await wire.ask("GET", target)
                print(answer.status, answer.text)

asyncio.run(main())
"""


@pytest.mark.slow
def test_without_the_file_it_is_not_found_and_said_once_in_the_log(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "chansock", tmp_path / "chansock")
    program = WITHOUT.format(tests=str(ROOT / "tests" / "support"), targets=[JS, JS, TYPES])
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "404 not found\n" * 3, done.stderr
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "browser_file_missing name=chansock.js",
        "browser_file_missing name=chansock.d.ts",
    ]
    assert all(str(tmp_path / "js") in line for line in lines)
