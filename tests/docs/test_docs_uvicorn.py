"""docs/uvicorn.md: its program under each of its commands, in an empty folder."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dist_content import ROOT
from peer import Peer
from raw import Run
from readme_pair import free_port, wait_for
from test_docs_asgi import blocks, commands, doubled, fetch, files

import chansock

PAGE = "uvicorn"
SERVES = [line for line in commands(PAGE) if not line.startswith("pip ")]
TAKEN = {  # how each is told of a port that is free
    "uvicorn": "--port={port}",
    "gunicorn": "--bind=127.0.0.1:{port}",
}


def test_every_block_of_the_page_is_run_here() -> None:
    assert list(files(PAGE)) == ["server.py", "run.py"]
    assert [line.split()[0] for line in SERVES] == ["uvicorn", "python", "gunicorn"]
    assert len(blocks(PAGE)) == len(files(PAGE)) + len(commands(PAGE))


@contextmanager
def serving(command: str, folder: Path, page: str = PAGE) -> Iterator[int]:
    port = free_port()
    program, *rest = shlex.split(command)
    for name, code in files(page).items():
        if program == "python":  # uvicorn.run has the default port
            code = code.replace("uvicorn.run(app, ", f"uvicorn.run(app, port={port}, ")
        (folder / name).write_text(code, encoding="utf-8")
    if program == "python":
        line = [sys.executable, *rest]
    else:
        module = {"gunicorn": "gunicorn.app.wsgiapp"}.get(program, program)
        line = [sys.executable, "-m", module, *rest, TAKEN[program].format(port=port)]
    process = subprocess.Popen(
        line, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE
    )
    try:
        wait_for(port, process)
        yield port
    finally:
        process.terminate()
        _, said = process.communicate(timeout=60)
        print(said.decode())


@pytest.mark.slow
@pytest.mark.parametrize("command", SERVES, ids=lambda command: command.split()[0])
def test_it_serves_as_the_page_says(
    command: str, tmp_path: Path, drive: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main(port: int) -> None:
        await doubled(f"http://localhost:{port}")
        async with await Peer.connect(port) as other:
            assert (await other.upgrade("/echo")).status == 101
            await other.say("hello")
            assert await other.text() == "hello"

    with serving(command, tmp_path) as port:
        drive(main(port))
    said = capfd.readouterr().out
    assert '"WebSocket /chsk" [accepted]' in said, "the class was in use: it knows no query"
    assert "client-id" not in said.replace("GET /chsk?", "").partition("WebSocket /chsk?")[2]


@pytest.mark.slow
def test_a_session_of_the_application_is_seen_as_without_the_class(
    tmp_path: Path, drive: Run
) -> None:
    async def main(url: str) -> None:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        _, cookie = await asyncio.to_thread(fetch, url + "/login", "POST", b"name=ada", **form)
        for headers, who in (({"Cookie": cookie}, "ada"), ({}, None)):
            async with chansock.connect(url + "/chsk", transport="ws", headers=headers) as client:
                assert await client.send("who/am-i", timeout=60) == who

    with serving(SERVES[0], tmp_path, "starlette") as port:
        drive(main(f"http://localhost:{port}"))


@pytest.mark.slow
def test_several_workers_do_not_start(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(files(PAGE)["server.py"], encoding="utf-8")
    for command, option in ((SERVES[0], "--workers 2"), (SERVES[2], "-w 2")):
        program, *rest = shlex.split(f"{command} {option}")
        module = {"gunicorn": "gunicorn.app.wsgiapp"}.get(program, program)
        line = [sys.executable, "-m", module, *rest, TAKEN[program].format(port=free_port())]
        done = subprocess.run(
            line,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "expected 1 worker process, got 2" in done.stderr
