"""How the Python client reaches a server: all addresses of its host, and proxies."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from raw_listener import Run
from readme_pair import free_port
from sente_script import entered, scripted_in_virtual_time, turns

import chansock
from chansock import ClientConfig, ConfigError, connect
from chansock.client.arguments import Proxy, proxy_for
from chansock.client.dial import ATTEMPT_DELAY, dial

TLS = Path(__file__).parents[1] / "data" / "tls"
BOTH = pytest.mark.parametrize("transport", ["ws", "ajax"])
OVER_TLS = pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ws_proxy", "wss_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# proxies


class TestProxy:
    """A proxy that speaks CONNECT or SOCKS5, and notes where its clients want to go."""

    __test__ = False

    def __init__(self, user: bytes = b"") -> None:
        self.asked: list[str] = []
        self.port = 0
        self._user = user  # user:password; none: anybody may pass
        self._tasks: set[asyncio.Task[None]] = set()

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            first = await reader.readexactly(1)
            speak = self._speak_socks if first == b"\x05" else self._speak_http
            target = await speak(reader, writer)
            if target is None:
                return
            far_reader, far_writer = await asyncio.open_connection(*target)
            try:
                await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))
            finally:
                far_writer.transport.abort()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _speak_http(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, int] | None:
        head = "C" + (await reader.readuntil(b"\r\n\r\n"))[:].decode()
        line, *fields = head.strip().split("\r\n")
        verb, target, version = line.split(" ")
        assert (verb, version) == ("CONNECT", "HTTP/1.1")
        assert f"Host: {target}" in fields
        token = base64.b64encode(self._user).decode()
        if self._user and f"Proxy-Authorization: Basic {token}" not in fields:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return None
        self.asked.append(target)
        writer.write(b"HTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n")
        host, _, port = target.rpartition(":")
        return host, int(port)

    async def _speak_socks(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, int] | None:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        method = 2 if self._user else 0
        assert method in methods
        writer.write(bytes((5, method)))
        if self._user:  # RFC 1929
            await reader.readexactly(1)
            user = await reader.readexactly((await reader.readexactly(1))[0])
            word = await reader.readexactly((await reader.readexactly(1))[0])
            is_right = user + b":" + word == self._user
            writer.write(bytes((1, not is_right)))
            if not is_right:
                return None
        _, command, _, kind = await reader.readexactly(4)
        assert command == 1
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = socket.inet_ntop(socket.AF_INET, await reader.readexactly(4))
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        self.asked.append(f"{host}:{port}")
        writer.write(bytes((5, 0, 0, 1, 0, 0, 0, 0, 0, 0)))
        return host, port

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def proxied(user: bytes = b"") -> AsyncIterator[TestProxy]:
    proxy = TestProxy(user)
    server = await asyncio.start_server(proxy.met, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def doubling(is_secure: bool = False) -> AsyncIterator[str]:
    """Serve `math/double`; yield the URL with the name localhost."""
    chsk = chansock.ChannelSocket()
    chsk.on("math/double", lambda msg: msg.data * 2)
    context = None
    if is_secure:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    async with chansock.serve(chsk, port=0, ssl=context) as listener:
        yield f"{'https' if is_secure else 'http'}://localhost:{listener.port}/chsk"


async def doubles(url: str, **options: object) -> object:
    if url.startswith("https"):
        options["ssl"] = ssl.create_default_context(cafile=str(TLS / "cert.pem"))
    async with connect(url, **options) as client:  # type: ignore[arg-type]
        assert client.state.type == options["transport"]
        return await client.send("math/double", 21, timeout=60)


@BOTH
@OVER_TLS
@pytest.mark.parametrize("user", ["", "ada:p%40ss@"], ids=["anybody", "password"])
@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
def test_a_client_goes_through_a_proxy(
    scheme: str, user: str, is_secure: bool, transport: str, run: Run
) -> None:
    async def main() -> None:
        async with doubling(is_secure) as url, proxied(b"ada:p@ss" if user else b"") as proxy:
            port = url.rpartition(":")[2].partition("/")[0]
            way = f"{scheme}://{user}127.0.0.1:{proxy.port}"
            assert await doubles(url, transport=transport, proxy=way) == 42
            host = "127.0.0.1" if scheme == "socks5" else "localhost"
            assert set(proxy.asked) == {f"{host}:{port}"}

    run(main())


@BOTH
@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_that_refuses_is_named_in_the_error(scheme: str, transport: str, run: Run) -> None:
    async def main() -> None:
        async with doubling() as url, proxied(b"ada:right") as proxy:
            way = f"{scheme}://ada:s3cret@127.0.0.1:{proxy.port}"
            kind = "HTTP" if scheme == "http" else "SOCKS"
            with pytest.raises(ConnectionError, match=f"{kind} proxy {scheme}://127") as caught:
                await doubles(url, transport=transport, proxy=way)
            assert "s3cret" not in str(caught.value)
            if scheme == "http":
                assert "expected 200 to CONNECT, got 407 Proxy Authentic" in str(caught.value)
            assert proxy.asked == []

    run(main())


@BOTH
def test_the_environment_names_the_proxy_by_default(
    transport: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with doubling() as url, proxied() as proxy:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
            assert await doubles(url, transport=transport, proxy=None) == 42
            assert proxy.asked == []
            assert await doubles(url, transport=transport) == 42
            asked = len(proxy.asked)
            assert asked > 0
            monkeypatch.setenv("no_proxy", "localhost")
            assert await doubles(url, transport=transport) == 42
            assert len(proxy.asked) == asked

    run(main())


@pytest.mark.parametrize(
    ("variables", "is_secure", "port"),
    [
        ({}, False, None),
        ({"http_proxy": "http://p:1"}, False, 1),
        ({"http_proxy": "http://p:1"}, True, None),
        ({"http_proxy": "http://p:1", "https_proxy": "http://p:2"}, False, 2),
        ({"http_proxy": "http://p:1", "https_proxy": "http://p:2"}, True, 2),
        ({"all_proxy": "socks5://p:3"}, True, 3),
        ({"all_proxy": "socks5://p:3"}, False, 3),
        ({"wss_proxy": "http://p:4", "https_proxy": "http://p:2"}, True, 4),
        ({"https_proxy": "p:5"}, True, 5),
        ({"https_proxy": "http://p:2", "no_proxy": ".example"}, True, None),
    ],
)
def test_which_variable_names_the_proxy(
    variables: dict[str, str], is_secure: bool, port: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = proxy_for("a.example", 443, True, is_secure=is_secure)
    assert (None if found is None else found.port) == port


@pytest.mark.parametrize(
    "proxy",
    [
        "",
        "p:8080",
        "ftp://p:1",
        "http://",
        "http://p:99999",
        "http://p/path",
        False,
        5,
        b"http://p",
    ],
)
def test_a_proxy_that_cannot_be_is_refused_with_the_right_form(proxy: object) -> None:
    with pytest.raises(ConfigError, match=r"^proxy: expected .*http://host:port, socks5://"):
        connect("ws://h/chsk", proxy=proxy)  # type: ignore[arg-type]


def test_no_password_of_a_proxy_is_shown() -> None:
    assert "s3cret" not in repr(Proxy.parse("http://ada:s3cret@p:1"))
    with pytest.raises(ConfigError) as caught:
        connect("ws://h/chsk", proxy="http://ada:s3cret@p:1/path?s3cret")
    assert "s3cret" not in str(caught.value)


def test_socks_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    with pytest.raises(ConfigError, match=r"pip install 'chansock\[socks\]'"):
        connect("ws://h/chsk", proxy="socks5://p:1")


# addresses


@contextlib.contextmanager
def silent() -> Iterator[tuple[str, int]]:
    """Yield an address that answers no SYN: its queue of connections is full."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.2", 0))
        listening.listen(0)
        for _ in range(4):
            knocking = stack.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex(listening.getsockname())
        yield listening.getsockname()


def resolving(*addresses: tuple[str, int]) -> None:
    """Have the running loop find these addresses, whatever the name."""

    async def getaddrinfo(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", where) for where in addresses]

    asyncio.get_running_loop().getaddrinfo = getaddrinfo  # type: ignore[assignment,method-assign]


def closed_port() -> tuple[str, int]:
    return "127.0.0.1", free_port()


@pytest.mark.parametrize("transport", ["ws", "ajax"])
@scripted_in_virtual_time
async def test_a_silent_first_address_does_not_prevent_the_connection(played, transport):
    loop = asyncio.get_running_loop()
    with silent() as nowhere:
        resolving(nowhere, ("127.0.0.1", played.port))
        client = connect("ws://a.example/chsk", transport=transport)
        async with entered(played, client) as entering:
            accepting = asyncio.create_task(played.accept())
            await turns()
            assert not accepting.done()
            loop.turn(ATTEMPT_DELAY)
            connection = await accepting
            request = await connection.request()
            assert request.headers["host"] == "a.example"
            handshake = '[[:chsk/handshake ["alice" nil]] nil]'
            if transport == "ws":
                connection.upgrade(request)
                connection.send(handshake)
            else:
                connection.respond(200, handshake)
            assert (await entering).state.open


@scripted_in_virtual_time
async def test_an_address_that_refuses_is_followed_by_the_next_at_once(played):
    resolving(closed_port(), ("127.0.0.1", played.port))
    with await dial("a.example", 80) as sock:
        assert sock.getpeername() == ("127.0.0.1", played.port)


@scripted_in_virtual_time
async def test_the_error_of_the_first_address_is_raised_if_none_answers(played):
    first, second = closed_port(), closed_port()
    resolving(first, second)
    with pytest.raises(ConnectionRefusedError, match=str(first[1])):
        await dial("a.example", 80)
    resolving()
    with pytest.raises(OSError, match=r"expected an address for 'a.example', found none"):
        await dial("a.example", 80)


def test_all_silent_addresses_are_given_up_after_connect_timeout(run: Run) -> None:
    async def main() -> None:
        with silent() as one, silent() as other:
            resolving(one, other)
            config = ClientConfig(connect_timeout=0.05)
            with pytest.raises(ConnectionError, match="connect time-out"):
                await connect("ws://a.example/chsk", config, transport="ws")

    run(main())
