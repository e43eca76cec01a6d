"""nginx and HAProxy of the system, each with a configuration of the test, on a free port.

Both run unprivileged in a folder of their own, in the foreground, and end with the
`async with`. What a test configures are the lines that it is about.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from readme_pair import free_port

UPGRADE = """
proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection "upgrade";
"""
HTTP_HOST = "proxy_set_header Host $http_host;"
LOCATION = """
location / {{
    proxy_pass http://127.0.0.1:{target};
    {lines}
}}
"""
DOCUMENTED_TARGET = "http://127.0.0.1:8000"  # what the documentation passes to
DOCS = Path(__file__).parent.parent.parent / "docs"

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {maps}
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""

HAPROXY = """
global
    maxconn 256
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
    {lines}
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    balance roundrobin
{servers}
"""


def _program(name: str) -> str:
    # /usr/sbin, where Debian has both, is not on the PATH of every user.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise FileNotFoundError(f"expected {name}, got none; ci/test.sh --full installs it")
    return found


@asynccontextmanager
async def nginx(target: int, *lines: str) -> AsyncIterator[int]:
    """Run nginx before the port `target`, with these lines in its location; yield its port."""
    location = LOCATION.format(target=target, lines="\n".join(lines))
    async with _nginx("", location) as port:
        yield port


@asynccontextmanager
async def documented_nginx(target: int, page: str) -> AsyncIterator[int]:
    """Run nginx as a page of docs/ has it, and pass on paths that it does not name as well."""
    text = (DOCS / page).read_text(encoding="utf-8")
    (block,) = re.findall(r"^```nginx\n(.*?)^```", text, re.M | re.S)
    block = block.replace(DOCUMENTED_TARGET, f"http://127.0.0.1:{target}")
    maps, location, rest = block.partition("location ")
    async with _nginx(maps, location + rest + LOCATION.format(target=target, lines="")) as port:
        yield port


@asynccontextmanager
async def _nginx(maps: str, locations: str) -> AsyncIterator[int]:
    with tempfile.TemporaryDirectory(prefix="chansock-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # started by root, nginx works as nobody, and keeps bodies in it
        port = free_port()
        path = Path(folder, "nginx.conf")
        text = NGINX.format(folder=folder, port=port, maps=maps, locations=locations)
        path.write_text(text, encoding="utf-8")
        options = ("-p", folder, "-c", str(path), "-e", f"{folder}/error.log")
        async with _running(port, _program("nginx"), *options):
            yield port


@asynccontextmanager
async def haproxy(*targets: int, lines: str = "") -> AsyncIterator[int]:
    """Run HAProxy before these ports by turns, with lines in its defaults; yield its port."""
    with tempfile.TemporaryDirectory(prefix="chansock-", ignore_cleanup_errors=True) as folder:
        port = free_port()
        path = Path(folder, "haproxy.cfg")
        servers = "\n".join(f"    server s{port} 127.0.0.1:{port}" for port in targets)
        text = HAPROXY.format(port=port, servers=servers, lines=lines)
        path.write_text(text, encoding="utf-8")
        async with _running(port, _program("haproxy"), "-db", "-f", str(path)):
            yield port


@asynccontextmanager
async def _running(port: int, *command: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        while not await _listens(port):
            if process.returncode is not None:
                assert process.stdout is not None
                said = (await process.stdout.read()).decode()
                raise RuntimeError(f"{command[0]} ended with {process.returncode}: {said}")
            await asyncio.sleep(0.02)
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
