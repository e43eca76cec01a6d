"""examples/cluster: each of its load balancers before two servers and a Redis.

Its images are not built.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis_server import Server, free_port

import chansock

ROOT = Path(__file__).parent.parent.parent
CLUSTER = ROOT / "examples" / "cluster"
LIMIT = 60.0  # seconds, on a machine that is busy


def test_the_compose_file_has_what_chansock_needs_of_redis() -> None:
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((CLUSTER / "compose.yaml").read_text())["services"]
    assert set(services) == {"one", "two", "redis", "nginx"}
    assert "--maxmemory-policy noeviction" in services["redis"]["command"]
    assert "--maxmemory " in services["redis"]["command"]
    for name in ("one", "two"):
        assert "/ready" in services[name]["healthcheck"]["test"][-1]
        assert services[name]["environment"] == {"CHANSOCK_BACKPLANE": "redis://redis:6379/0"}


@asynccontextmanager
async def running(*command: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*command, env=os.environ | environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def is_ready(port: int) -> None:
    """Wait until the health check of the compose file succeeds."""
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                line = await reader.readline()
                writer.close()
                if b" 200 " in line:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.02)


async def hears(client: Any, wanted: list[str]) -> None:
    heard: list[str] = []
    async for event in client:
        if event.id == "demo/said":
            heard.append(event.data)
            if len(heard) == len(wanted):
                break
    assert heard == wanted


def configured(name: str, ports: tuple[int, int, int], folder: Path) -> list[str]:
    """Write the configuration of a load balancer for these ports; return how to start it."""
    one, two, front = ports
    own = {
        "nginx.conf": {
            "listen 80;": f"listen 127.0.0.1:{front};",
            "events {}": f"pid {folder}/pid;\ndaemon off;\nevents {{}}",
            "http {": f"http {{\n  access_log off;\n  client_body_temp_path {folder};",
        },
        "haproxy.cfg": {"bind :80": f"bind 127.0.0.1:{front}"},
        "Caddyfile": {":80 {": f"{{\n\tadmin off\n}}\n\n:{front} {{"},
    }
    text = (CLUSTER / name).read_text()
    servers = {"one:8000": f"127.0.0.1:{one}", "two:8000": f"127.0.0.1:{two}"}
    for old, new in (servers | own[name]).items():
        assert old in text
        text = text.replace(old, new)
    path, log = folder / name, folder / "log"
    path.write_text(text)
    log.touch()
    folder.chmod(0o755)
    command = {
        "nginx.conf": ["nginx", "-c", path, "-e", log, "-p", folder],
        "haproxy.cfg": ["haproxy", "-db", "-f", path],
        "Caddyfile": ["caddy", "run", "--config", path, "--adapter", "caddyfile"],
    }[name]
    program = shutil.which(str(command[0]), path=os.environ["PATH"] + ":/usr/sbin")
    assert program is not None, f"expected {command[0]}; ci/test.sh --full installs it"
    return [program, *map(str, command[1:])]


async def play(name: str, folder: Path, redis: Server) -> None:
    one, two, front = ports = (free_port(), free_port(), free_port())
    balancer = configured(name, ports, folder)
    common = {"CHANSOCK_BACKPLANE": redis.url, "HOST": "127.0.0.1", "PYTHONPATH": str(ROOT)}
    async with AsyncExitStack() as stack, asyncio.timeout(LIMIT):
        servers = []
        for port in (one, two):
            command = (sys.executable, str(CLUSTER / "server.py"))
            servers.append(
                await stack.enter_async_context(running(*command, PORT=str(port), **common))
            )
            await is_ready(port)
        await stack.enter_async_context(running(*balancer, HOME=str(folder)))
        await is_ready(front)
        url = f"http://127.0.0.1:{front}/chsk"
        ws = await stack.enter_async_context(chansock.connect(url, transport="ws"))
        ajax = await stack.enter_async_context(chansock.connect(url, transport="ajax"))
        listening = [asyncio.create_task(hears(each, list("abcdefgh"))) for each in (ws, ajax)]
        for letter in "abcd":
            await (ws if letter in "ac" else ajax).send("demo/say", letter, timeout=LIMIT)
        servers[0].terminate()
        await servers[0].wait()
        for letter in "efgh":
            await (ws if letter in "eg" else ajax).send("demo/say", letter, timeout=LIMIT)
        await asyncio.gather(*listening)


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.parametrize("name", ["nginx.conf", "haproxy.cfg", "Caddyfile"])
def test_both_transports_go_on_behind_a_load_balancer_when_a_server_stops(
    name: str, tmp_path: Path
) -> None:
    with Server() as redis:
        asyncio.run(play(name, tmp_path, redis))
