"""chansock.django in a project of its own: served by ASGI servers, asked over sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import django_site
import httpx
import pytest

import chansock

pytestmark = pytest.mark.slow

LIMIT = 120.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    django_site.write(folder)
    return folder


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    with django_site.served(folder) as port:
        yield port


def play(coro: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coro, LIMIT))


class Browser:
    """One cookie jar: it logs in, and opens clients with the cookies that it has."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT)
        self.token = ""

    async def __aenter__(self) -> Browser:
        await self.fetch_token()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def fetch_token(self) -> None:
        self.token = (await self.http.get("/token")).text

    async def post(self, path: str, **form: str) -> httpx.Response:
        answer = await self.http.post(path, data=form, headers={"X-CSRFToken": self.token})
        answer.raise_for_status()
        return answer

    async def login(self, name: str) -> int:
        uid = int((await self.post("/login", name=name)).text)
        await self.fetch_token()  # a login makes another secret
        return uid

    def cookie(self) -> str:
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.http.cookies.jar)

    def client(self, transport: Any = "ws", **options: Any) -> chansock.Client:
        headers = options.pop("headers", {"Cookie": self.cookie()})
        options = {"csrf_token": self.token, **options}
        url = f"http://127.0.0.1:{self.port}/chsk"
        return chansock.connect(url, transport=transport, headers=headers, **options)

    async def refusal(self, transport: Any = "ajax", **options: Any) -> tuple[int, str]:
        """Ask in vain: the status, and the text of the answer."""
        with pytest.raises(chansock.HandshakeRefused) as refused:
            async with self.client(transport, **options):
                pass
        return refused.value.status, refused.value.reason


@asynccontextmanager
async def logged_in(port: int, name: str) -> Any:
    async with Browser(port) as browser:
        await browser.login(name)
        yield browser


async def state_of(client: chansock.Client, is_so: Callable[[chansock.State], bool]) -> Any:
    while not is_so(client.state):
        await asyncio.sleep(0.01)
    return client.state


both = pytest.mark.parametrize("transport", ["ws", "ajax"])


# -- who it is


@both
def test_the_session_s_user_is_the_uid(port: int, transport: str) -> None:
    async def main() -> None:
        async with logged_in(port, "ada") as browser, browser.client(transport) as client:
            assert client.state.uid == 1
            assert await client.send("test/name", timeout=60) == "ada"
            assert await client.send("test/aname", timeout=60) == "ada"

    play(main())


@both
def test_without_a_session_a_client_is_anonymous(port: int, transport: str) -> None:
    async def main() -> None:
        async with Browser(port) as browser, browser.client(transport) as client:
            assert client.state.uid is None

    play(main())


def test_a_session_that_is_none_is_anonymous(port: int) -> None:
    async def main() -> None:
        async with Browser(port) as browser:
            browser.http.cookies["sessionid"] = "x" * 32
            async with browser.client() as client:
                assert client.state.uid is None

    play(main())


# -- what views do


@both
def test_a_synchronous_view_sends(port: int, transport: str) -> None:
    async def main() -> None:
        async with logged_in(port, "ada") as browser, browser.client(transport) as client:
            await browser.post("/say", text="hello")
            event = await anext(aiter(client))
            assert (event.id, event.data) == ("test/said", "hello")

    play(main())


def test_what_is_sent_on_commit_comes_after_what_was_sent_before(port: int) -> None:
    async def main() -> None:
        async with logged_in(port, "ada") as browser, browser.client() as client:
            await browser.post("/commit")
            events = aiter(client)
            said = [(await anext(events)).data for _ in range(2)]
            assert said == ["not yet committed", "committed"]

    play(main())


# -- when it ends


@pytest.mark.parametrize("path", ["/logout", "/alogout"])
def test_a_logout_closes_the_sockets_of_that_session_alone(port: int, path: str) -> None:
    async def main() -> None:
        async with (
            logged_in(port, "bob") as here,
            logged_in(port, "bob") as there,
            here.client() as first,
            here.client() as second,
            there.client() as third,
        ):
            await here.post(path)
            for client in (first, second):
                state = await state_of(client, lambda state: state.reason is not None)
                assert (state.reason.kind, state.reason.code) == ("refused", 4401)
                assert not state.open
                assert state.retry_at is None
            assert await third.send("test/name", timeout=60) == "bob"
            assert third.state.open

    play(main())


def test_after_a_logout_polls_come_back_without_the_user(port: int) -> None:
    async def main() -> None:
        async with logged_in(port, "bob") as browser, browser.client("ajax") as client:
            assert client.state.uid == 2
            old = browser.cookie()
            await browser.post("/logout")
            await state_of(client, lambda state: state.open and state.uid is None)
            async with browser.client(headers={"Cookie": old}) as again:
                assert again.state.uid is None

    play(main())


def test_another_login_in_the_same_browser_ends_the_former(port: int) -> None:
    async def main() -> None:
        async with logged_in(port, "bob") as browser, browser.client() as client:
            await browser.login("ada")
            state = await state_of(client, lambda state: state.reason is not None)
            assert state.reason.code == 4401
            client.reconnect()

    play(main())


def test_a_change_of_the_password_ends_all_sessions_that_had_the_old_one(port: int) -> None:
    async def main() -> None:
        async with (
            logged_in(port, "cy") as here,
            logged_in(port, "cy") as there,
            here.client() as first,
            there.client() as second,
        ):
            await here.post("/password")
            for client in (first, second):
                state = await state_of(client, lambda state: state.reason is not None)
                assert state.reason.code == 4401
            await here.fetch_token()
            async with here.client() as client:  # its session goes on, with the new one
                assert client.state.uid == 3
            async with there.client() as client:
                assert client.state.uid is None

    play(main())


# -- whom it may come from


def test_a_host_that_is_not_allowed_is_refused(port: int) -> None:
    async def main() -> None:
        async with Browser(port) as browser:
            for name in ("evil.example", "localhost"):
                headers = {"Host": name}
                answer = await browser.http.get("/chsk?client-id=a", headers=headers)
                assert (answer.status_code, answer.text) == (403, "Unauthorized host")

    play(main())


@both
def test_a_wrong_token_is_refused(port: int, transport: str) -> None:
    async def main() -> None:
        async with logged_in(port, "ada") as browser:
            other = browser.token[::-1]
            for token in (None, "", "x" * 64, "x" * 32, other):
                found = await browser.refusal(transport, csrf_token=token)
                assert found == (403, "Bad CSRF token")

    play(main())


@both
def test_the_token_of_the_page_and_the_cookie_itself_are_taken(port: int, transport: str) -> None:
    async def main() -> None:
        async with Browser(port) as browser:
            for token in (browser.token, browser.http.cookies["csrftoken"]):
                async with browser.client(transport, csrf_token=token) as client:
                    assert client.state.open

    play(main())


def test_django_s_own_header_is_taken(port: int) -> None:
    async def main() -> None:
        async with Browser(port) as browser:
            headers = {"Cookie": browser.cookie(), "X-CSRFToken": browser.token}
            async with browser.client("ajax", csrf_token=None, headers=headers) as client:
                assert client.state.open

    play(main())


def test_another_origin_is_refused(port: int) -> None:
    async def main() -> None:
        async with Browser(port) as browser:
            headers = {"Cookie": browser.cookie(), "Origin": "https://evil.example"}
            found = await browser.refusal("ws", headers=headers)
            assert found == (403, "Unauthorized origin")

    play(main())


def test_a_websocket_elsewhere_is_refused(port: int) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            upgrade = {
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            }
            assert (await http.get("/token", headers=upgrade)).status_code == 403
            assert (await http.get("/nowhere")).status_code == 404

    play(main())


# -- settings, and servers


def test_tokens_in_sessions_trusted_origins_and_a_proxy_s_host(folder: Path) -> None:
    settings = {
        "CSRF_USE_SESSIONS": True,
        "CSRF_TRUSTED_ORIGINS": ["https://*.a.example"],
        "ALLOWED_HOSTS": [".example", "127.0.0.1"],
        "USE_X_FORWARDED_HOST": True,
        "SECURE_PROXY_SSL_HEADER": ["HTTP_X_FORWARDED_PROTO", "https"],
    }

    async def main(port: int) -> None:
        async with logged_in(port, "ada") as browser:
            assert await browser.refusal(csrf_token="x" * 64) == (403, "Bad CSRF token")
            cookie = {"Cookie": browser.cookie()}
            proxied = {
                **cookie,
                "X-Forwarded-Host": "www.example",
                "X-Forwarded-Proto": "https",
            }
            for headers, is_in in (
                (cookie, True),
                ({**cookie, "Origin": "https://b.a.example"}, True),
                ({**cookie, "Origin": "https://a.example"}, True),
                ({**cookie, "Origin": "https://nota.example"}, False),
                ({**proxied, "Origin": "https://www.example"}, True),
                ({**proxied, "Origin": "http://www.example"}, False),
                ({**proxied, "Origin": f"http://127.0.0.1:{port}"}, False),
            ):
                if is_in:
                    async with browser.client(headers=headers) as client:
                        assert client.state.uid == 1
                else:
                    found = await browser.refusal("ws", headers=headers)
                    assert found == (403, "Unauthorized origin")

    with django_site.served(folder, **settings) as port:
        play(main(port))


@pytest.mark.parametrize("server", sorted(django_site.COMMANDS.keys() - {"uvicorn"}))
def test_it_is_the_same_under_other_servers(folder: Path, server: str) -> None:
    async def main(port: int) -> None:
        async with logged_in(port, "ada") as browser:
            await browser.post("/say", text="to nobody")
            async with browser.client() as ws, browser.client("ajax") as ajax:
                await browser.post("/say", text="hello")
                for client in (ws, ajax):
                    assert client.state.uid == 1
                    assert (await anext(aiter(client))).data == "hello"
                await browser.post("/logout")
                await state_of(ws, lambda state: state.reason is not None)
                await state_of(ajax, lambda state: state.open and state.uid is None)
                assert ws.state.reason.code == 4401

    with django_site.served(folder, server) as port:
        play(main(port))
