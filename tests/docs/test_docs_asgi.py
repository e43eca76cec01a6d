"""docs/asgi.md and the pages of the frameworks: their programs, started and asked as they say."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from dist_content import ROOT
from raw import Run
from readme_pair import free_port, wait_for

import chansock

DOCS = ROOT / "docs"
PAGES = ("asgi", "fastapi", "starlette", "litestar", "quart")
PORT = "8000"  # uvicorn's, as the pages have it
TRANSPORTS = ("ws", "ajax")

pytestmark = pytest.mark.slow  # each test starts a server


def text(page: str) -> str:
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def blocks(page: str) -> list[tuple[str, str]]:
    """Every code block: its language and its text."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text(page), re.M | re.S)


def files(page: str) -> dict[str, str]:
    """Map each file of a page to its text: blocks that open with their name."""
    found = {}
    for _, code in blocks(page):
        if match := re.match(r"(?:# |<!-- )([\w.]+\.(?:py|html))(?: -->)?\n", code):
            found[match[1]] = code
    return found


def commands(page: str) -> list[str]:
    return [code.strip() for language, code in blocks(page) if language == "sh"]


@contextmanager
def running(page: str, module: str, folder: Path) -> Iterator[str]:
    """Write a page's files into an empty folder, and give its own command; give the address."""
    (command,) = [line for line in commands(page) if line == f"uvicorn {module}:app"]
    for name, code in files(page).items():
        (folder / name).write_text(code, encoding="utf-8")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", *command.split(), "--port", str(port)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(port, process)
        yield f"http://localhost:{port}"
    except BaseException:
        process.kill()
        assert process.stderr is not None
        print(process.stderr.read().decode())
        raise
    finally:
        process.kill()
        process.communicate()


def fetch(url: str, method: str = "GET", body: bytes = b"", **headers: str) -> tuple[str, str]:
    """Return the body of an answer, and the cookie that it sets."""
    request = Request(url, body or None, headers, method=method)
    with urlopen(request, timeout=60) as answer:
        cookie = (answer.headers.get("Set-Cookie") or "").partition(";")[0]
        return answer.read().decode(), cookie


async def fetched(*args: str, **headers: str) -> tuple[str, str]:
    return await asyncio.to_thread(fetch, *args, **headers)  # type: ignore[arg-type]


def test_every_block_of_the_pages_is_run_here() -> None:
    for page in PAGES:
        for language, code in blocks(page):
            is_file = any(code == other for other in files(page).values())
            is_command = language == "sh" and re.match(r"pip install |uvicorn |curl ", code)
            assert is_file or is_command, f"{page}.md: {code}"
        programs = [name for name in files(page) if name.endswith(".py")]
        started = {
            line.split()[1].partition(":")[0] for line in commands(page) if "uvicorn " in line
        }
        assert {name.removesuffix(".py") for name in programs} - {"test_server"} <= started


def test_what_the_pages_install_is_enough_and_is_there() -> None:
    for page in PAGES[1:]:
        (line,) = [line for line in commands(page) if line.startswith("pip install ")]
        names = [word.partition("[")[0] for word in shlex.split(line)[2:]]
        assert names[0] == "chansock"
        assert page in names
        for name in names[1:]:
            assert version(name)


async def doubled(url: str, path: str = "/chsk") -> None:
    for transport in TRANSPORTS:
        async with chansock.connect(url + path, transport=transport) as client:
            assert await client.send("math/double", 21, timeout=60) == 42
            assert client.state.type == transport


async def heard(url: str, event_id: str, call: Callable[[], Awaitable[object]]) -> list[object]:
    """Return what two clients, one on each transport, hear when something is called."""
    async with (
        chansock.connect(url + "/chsk", transport="ws") as one,
        chansock.connect(url + "/chsk", transport="ajax") as two,
    ):
        hearing = [asyncio.create_task(_next(client, event_id)) for client in (one, two)]
        await call()
        return [await each for each in hearing]


async def _next(client: chansock.Client, event_id: str) -> object:
    async for event in client:
        if event.id == event_id:
            return event.data
    raise AssertionError("expected an event")


def test_asgi(tmp_path: Path, drive: Run) -> None:
    async def main(url: str) -> None:
        assert (await fetched(url + "/"))[0] == "hello"
        await doubled(url)

    with running("asgi", "server", tmp_path) as url:
        drive(main(url))
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_server.py"]
    done = subprocess.run(
        run,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_fastapi(tmp_path: Path, drive: Run) -> None:
    async def main(url: str) -> None:
        assert (await fetched(url + "/"))[0] == files("fastapi")["index.html"]
        assert "export const connect" in (await fetched(url + "/chsk/chansock.js"))[0]
        line = {"name": "ada", "text": "hello"}

        async def say() -> None:
            for transport in TRANSPORTS:
                async with chansock.connect(url + "/chsk", transport=transport) as client:
                    assert await client.send("chat/say", line, timeout=60) == "said"

        assert await heard(url, "chat/said", say) == [line, line]
        (curl,) = [line for line in commands("fastapi") if line.startswith("curl ")]
        method, address = shlex.split(curl)[2:]
        address = "http://" + address.replace("localhost:" + PORT, url.removeprefix("http://"))
        announced = {"name": "the server", "text": "hello"}
        found = await heard(url, "chat/said", lambda: fetched(address, method))
        assert found == [announced, announced]

    with running("fastapi", "server", tmp_path) as url:
        drive(main(url))


def test_fastapi_users(tmp_path: Path, drive: Run) -> None:
    async def main(url: str) -> None:
        for transport in TRANSPORTS:
            headers = {"Cookie": "session=5f2c90"}
            async with chansock.connect(url + "/chsk", transport=transport, headers=headers) as ada:
                assert await ada.send("who/am-i", timeout=60) == "ada"
                await fetched(url + "/tell/ada?text=psst", "POST")
                assert await _next(ada, "who/told") == "psst"
            async with chansock.connect(url + "/chsk", transport=transport) as nobody:
                assert await nobody.send("who/am-i", timeout=60) is None

    with running("fastapi", "users", tmp_path) as url:
        drive(main(url))


def test_starlette(tmp_path: Path, drive: Run) -> None:
    async def main(url: str) -> None:
        for transport in TRANSPORTS:
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            _, cookie = await asyncio.to_thread(fetch, url + "/login", "POST", b"name=ada", **form)
            async with chansock.connect(
                url + "/chsk", transport=transport, headers={"Cookie": cookie}
            ) as ada:
                assert await ada.send("who/am-i", timeout=60) == "ada"
                await fetched(url + "/tell/ada?text=psst", "POST")
                assert await _next(ada, "who/told") == "psst"
                async with chansock.connect(url + "/chsk", transport=transport) as nobody:
                    assert await nobody.send("who/am-i", timeout=60) is None
                states: asyncio.Queue[chansock.State] = asyncio.Queue()
                ada.on_state(states.put_nowait)
                assert (await fetched(url + "/logout", "POST", Cookie=cookie))[0] == "goodbye"
                while (await states.get()).open:
                    pass

    with running("starlette", "server", tmp_path) as url:
        drive(main(url))


def test_starlette_routes(tmp_path: Path, drive: Run) -> None:
    async def main(url: str) -> None:
        assert "export const connect" in (await fetched(url + "/live/chsk/chansock.js"))[0]
        await doubled(url, "/live/chsk")

    with running("starlette", "routed", tmp_path) as url:
        drive(main(url))


@pytest.mark.parametrize("page", ["litestar", "quart"])
def test_litestar_and_quart(page: str, tmp_path: Path, drive: Run) -> None:
    async def main(url: str) -> None:
        await doubled(url)
        found = await heard(url, "news/came", lambda: fetched(url + "/announce?text=hello", "POST"))
        assert found == [{"text": "hello"}] * 2

    with running(page, "server", tmp_path) as url:
        drive(main(url))


@pytest.mark.parametrize(
    ("page", "forged"),
    [("litestar", "session=" + "0" * 64), ("quart", "session=forged")],
    ids=["litestar", "quart"],
)
def test_users_by_the_session(page: str, forged: str, tmp_path: Path, drive: Run) -> None:
    async def main(url: str) -> None:
        assert "export const connect" in (await fetched(url + "/chsk/chansock.js"))[0]
        _, cookie = await fetched(url + "/login/ada", "POST")
        for transport in TRANSPORTS:
            for given, who in ((cookie, "ada"), (forged, None), ("", None)):
                headers = {"Cookie": given} if given else {}
                async with chansock.connect(
                    url + "/chsk", transport=transport, headers=headers
                ) as client:
                    assert await client.send("who/am-i", timeout=60) == who

    with running(page, "users", tmp_path) as url:
        drive(main(url))
