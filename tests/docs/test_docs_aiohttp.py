"""docs/aiohttp.md: its programs are run in an empty folder, and do what the page says."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from dist_content import ROOT
from raw import Run
from readme_pair import PORT, free_port, wait_for

import chansock

pytest.importorskip("aiohttp")

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

import chansock.aiohttp

TEXT = (ROOT / "docs" / "aiohttp.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.M | re.S)
FILES = {
    name: text
    for _, text in BLOCKS
    if (name := "".join(re.findall(r"^(?:# |<!-- )(\w+\.\w+)", text)[:1]))
}
Started = Callable[[str], AbstractContextManager[str]]


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    """Return started(program), which runs it beside the page's files and yields its URL."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    port = str(free_port())
    for name, text in FILES.items():
        (tmp_path / name).write_text(text.replace(PORT, port), encoding="utf-8")

    @contextmanager
    def start(program: str) -> Iterator[str]:
        process = subprocess.Popen([sys.executable, program], cwd=tmp_path)
        try:
            wait_for(int(port), process)
            yield f"http://127.0.0.1:{port}"
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()

    return start


def test_every_block_is_a_file_or_the_installation() -> None:
    assert list(FILES) == ["app.py", "index.html", "users.py", "session.py", "quiet.py"]
    others = [text for _, text in BLOCKS if text not in FILES.values()]
    assert others == ["pip install chansock aiohttp\n"]


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["ws", "ajax"])
def test_the_application_serves_its_page_and_a_chat(started: Started, transport: Any) -> None:
    with started("app.py") as url:
        with urlopen(f"{url}/") as page:
            assert page.read().decode() == FILES["index.html"]
        with urlopen(f"{url}/chsk/chansock.js") as script:
            assert script.read() == (ROOT / "js" / "chansock.js").read_bytes()
        with (
            chansock.connect_sync(f"{url}/chsk", transport=transport) as one,
            chansock.connect_sync(f"{url}/chsk", transport=transport) as two,
        ):
            one.send("chat/say", {"text": "hello"})
            for client in (one, two):
                assert client.recv(10).data == {"text": "hello"}


def test_the_log_without_queries_has_sockets_and_polls(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    names: dict[str, Any] = {}
    exec(FILES["quiet.py"], names)

    async def main() -> None:
        app = web.Application()
        chansock.aiohttp.setup(app, chansock.ChannelSocket())
        server = TestServer(app)
        await server.start_server(access_log_class=names["WithoutQuery"])
        async with TestClient(server) as client:
            async with client.get("/chsk?client-id=secret&handshake%3F=1") as answer:
                assert answer.status == 200
            async with client.ws_connect("/chsk?client-id=secret") as socket:
                await socket.receive()

    with caplog.at_level(logging.INFO, "aiohttp.access"):
        run(main())
    lines = [record.getMessage() for record in caplog.records if record.name == "aiohttp.access"]
    assert [line.rpartition(" ")[0] for line in lines] == [
        '127.0.0.1 "GET /chsk" 200',
        '127.0.0.1 "GET /chsk" 101',
    ]
    assert "secret" not in caplog.text


@pytest.mark.slow
def test_the_application_runs_with_the_log_without_queries(started: Started) -> None:
    with started("quiet.py") as url, chansock.connect_sync(f"{url}/chsk") as client:
        client.send("chat/say", {"text": "hello"})
        assert client.recv(10).data == {"text": "hello"}


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["ws", "ajax"])
def test_a_middleware_says_who_it_is(started: Started, transport: Any) -> None:
    with started("users.py") as url:
        for cookie, uid in (("session=5f2c90", "ada"), ("session=other", None)):
            fields = {"Cookie": cookie}
            with chansock.connect_sync(
                f"{url}/chsk", transport=transport, headers=fields
            ) as client:
                assert client.state.uid == uid
                assert client.send("who/am-i", timeout=60) == uid


@pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")
def test_the_hook_finds_the_session_of_aiohttp_session(run: Run) -> None:
    sessions = pytest.importorskip("aiohttp_session")
    names: dict[str, Any] = {}
    exec(FILES["session.py"], names)

    async def login(request: web.Request) -> web.Response:
        session = await sessions.get_session(request)
        session["user_id"] = "ada"
        return web.Response()

    async def main() -> None:
        app = web.Application()
        sessions.setup(app, sessions.SimpleCookieStorage())
        app.router.add_get("/login", login)
        chansock.aiohttp.setup(app, chansock.ChannelSocket(user_id=names["user_id"]))
        async with TestClient(TestServer(app)) as client:
            for uid in (":sente/nil-uid", '"ada"'):
                shaken = f"[[:chsk/handshake [{uid} nil nil]] nil]"
                async with client.get("/chsk?client-id=a&handshake%3F=1") as answer:
                    assert await answer.text() == shaken
                async with client.ws_connect("/chsk?client-id=a") as socket:
                    assert (await socket.receive()).data == shaken
                await client.get("/login")

    run(main())
