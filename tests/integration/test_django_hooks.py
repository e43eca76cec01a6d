"""chansock.django's hooks without sockets: sessions of every engine, and when they are over."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic, thread_time
from typing import Any

import django
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from hypothesis import example, given
from hypothesis import strategies as st

if not settings.configured:
    settings.configure(
        SECRET_KEY="of the tests",
        ALLOWED_HOSTS=["localhost"],
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        USE_TZ=True,
    )
    django.setup()

from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core.management import call_command
from django.db import connection, transaction
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext, override_settings

import chansock
import chansock.django
from chansock._core.log_limit import LogLimit, call_later
from chansock.django import logins
from chansock.testing import World


@dataclass
class Say:
    text: str


ENGINES = ["db", "cache", "cached_db", "file", "signed_cookies"]


@pytest.fixture(scope="module", autouse=True)
def database() -> None:
    call_command("migrate", verbosity=0)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    with override_settings(SESSION_ENGINE=f"django.contrib.sessions.backends.{request.param}"):
        yield request.param


@pytest.fixture
def ada() -> Iterator[User]:
    user = User.objects.create_user("ada", password="secret")
    yield user
    User.objects.all().delete()


@pytest.fixture
def world() -> Iterator[World]:
    with World(chansock.django.channel(csrf_token=None)) as world:
        yield world


def login(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def cookie(client: Client) -> list[tuple[str, str]]:
    return [("Cookie", f"sessionid={client.cookies['sessionid'].value}")]


def uid_of(world: World, headers: Any) -> Any:
    client = world.ws(headers=headers)
    uid = client.handshake.uid
    client.close()
    return None if uid == "sente/nil-uid" else uid


# -- reading


def test_every_engine_gives_the_user(engine: str, ada: User, world: World) -> None:
    headers = cookie(login(ada))
    assert uid_of(world, headers) == ada.pk
    assert uid_of(world, [("Cookie", "sessionid=" + "x" * 32)]) is None
    assert uid_of(world, [("Cookie", "sessionid=é/../%00")]) is None


HEADER_TEXTS = st.lists(
    st.sampled_from(
        [
            "charset",
            "*=",
            "nope'en'x",
            ";",
            '"',
            "\\",
            "=",
            "a",
            ":",
            "@",
            "[",
            "]",
            "%ff",
            "csrftoken",
        ]
    )
    | st.binary(max_size=3).map(lambda text: text.decode("latin-1")),
    max_size=8,
).map(lambda pieces: "".join(pieces).encode("latin-1"))
HEADER_NAMES = ("Content-Type", "Content-Length", "Host", "Cookie", "X-CSRFToken", "X-CSRF-Token")


@pytest.mark.slow
@example(fields=[("Content-Type", b"a; charset*=nope'en'x")], query=b"")
@given(
    fields=st.lists(st.tuples(st.sampled_from(HEADER_NAMES), HEADER_TEXTS), max_size=4),
    query=HEADER_TEXTS,
)
def test_no_text_of_a_request_makes_a_hook_raise(
    fields: list[tuple[str, bytes]], query: bytes
) -> None:
    request = chansock.Request.from_fields("GET", b"/chsk?" + query, fields)
    chansock.django.http_request(request)
    chansock.django.check_host(request)
    chansock.django.csrf_token(request)


def test_to_read_a_session_changes_none(engine: str, ada: User, world: World) -> None:
    """With a fallback secret Django would give the session another key; with another password
    it would delete it."""
    client = login(ada)
    headers = cookie(client)
    with override_settings(SECRET_KEY="another", SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        for _ in range(2):
            assert uid_of(world, headers) == ada.pk
    old = ada.password
    for password, uid in (("another", None), (old, ada.pk)):
        User.objects.filter(pk=ada.pk).update(password=password)
        assert uid_of(world, headers) == uid


def test_a_user_who_is_not_active_is_none(ada: User, world: World) -> None:
    headers = cookie(login(ada))
    User.objects.filter(pk=ada.pk).update(is_active=False)
    assert uid_of(world, headers) is None


def test_of_several_cookies_of_a_name_django_s_choice_counts(ada: User, world: World) -> None:
    mine = cookie(login(ada))[0][1]
    assert uid_of(world, [("Cookie", f"{mine}; sessionid=other")]) is None
    assert uid_of(world, [("Cookie", f"sessionid=other; {mine}")]) == ada.pk


def test_without_a_cookie_the_database_is_not_asked(world: World) -> None:
    with CaptureQueriesContext(connection) as queries:
        assert uid_of(world, []) is None
    assert len(queries) == 0


def test_a_transaction_of_the_test_is_seen(world: World) -> None:
    with transaction.atomic():
        user = User.objects.create_user("bob")
        assert uid_of(world, cookie(login(user))) == user.pk
        transaction.set_rollback(True)


def test_is_authenticated_refuses_whoever_has_no_user(ada: User) -> None:
    authorize = chansock.django.is_authenticated
    with World(chansock.django.channel(csrf_token=None, authorize=authorize)) as world:
        client = login(ada)
        headers = cookie(client)
        assert uid_of(world, headers) == ada.pk
        client.logout()
        for fields in (headers, []):
            with pytest.raises(chansock.HandshakeRefused) as refused:
                world.ws(headers=fields)
            assert refused.value.status == 401


# -- the end of a session


def opened(world: World, client: Client) -> tuple[Any, Any]:
    return world.ws(headers=cookie(client)), world.ajax(headers=cookie(client))


def is_ended(ws: Any, ajax: Any) -> bool:
    return ws.close_code == 4401 and ajax.handshake.uid == "sente/nil-uid"


def is_here(ws: Any, ajax: Any, user: User) -> bool:
    return ws.is_open and ajax.handshake.uid == user.pk


def test_a_logout_ends_its_own_session(engine: str, ada: User, world: World) -> None:
    here, there = login(ada), login(ada)
    one, other = opened(world, here), opened(world, there)
    headers = cookie(here)
    here.logout()
    world.turn()
    assert is_ended(*one)
    if engine == "signed_cookies":
        assert is_ended(*other)  # which cookies were of which session nobody knows
    else:  # and within a second they would be the same again
        assert is_here(*other, ada)
        assert uid_of(world, cookie(login(ada))) == ada.pk
    assert uid_of(world, headers) is None


def test_a_logout_before_the_socket_opens_ends_it_then(ada: User) -> None:
    async def meanwhile(request: chansock.Request) -> None:
        await sync_to_async(client.logout)()
        await asyncio.sleep(2)

    client = login(ada)
    chsk = chansock.django.channel(csrf_token=None, handshake_data=meanwhile)
    with World(chsk) as world:
        ws = world.ws(headers=cookie(client))
        assert ws.handshake.uid == ada.pk
        world.advance(chsk.config.handshake_timeout + 0.5)
        assert ws.close_code == 4401


def test_a_session_whose_key_has_changed_ends_with_the_next_logout(ada: User, world: World) -> None:
    client = login(ada)
    one = opened(world, client)
    session = client.session
    session.cycle_key()
    client.cookies["sessionid"] = session.session_key
    client.logout()
    world.turn()
    assert is_ended(*one)


@pytest.mark.parametrize("what", ["password", "is_active", "delete"])
def test_a_change_of_the_user_ends_all_of_his_sessions(what: str, ada: User, world: World) -> None:
    bob = User.objects.create_user("bob")
    one, other = opened(world, login(ada)), opened(world, login(ada))
    bobs = opened(world, login(bob))
    with transaction.atomic():
        if what == "delete":
            ada.delete()
        else:
            setattr(ada, what, "other" if what == "password" else False)
            ada.save()
        world.turn()
        assert one[0].is_open  # it may still be rolled back
    world.turn()
    assert is_ended(*one)
    assert is_ended(*other)
    assert is_here(*bobs, bob)


@pytest.mark.parametrize("signal", [user_logged_in, user_logged_out])
@pytest.mark.parametrize("asked", [None, HttpRequest()])
def test_a_login_that_is_none_of_a_session_ends_nothing(
    signal: Any, asked: Any, ada: User, world: World
) -> None:
    one = opened(world, login(ada))
    signal.send(User, request=asked, user=ada)
    world.advance(10)
    assert is_here(*one, ada)


def test_a_change_that_was_rolled_back_ends_nothing(ada: User, world: World) -> None:
    one = opened(world, login(ada))
    with transaction.atomic():
        ada.set_password("other")
        ada.save()
        transaction.set_rollback(True)
    world.advance(10)
    assert is_here(*one, ada)


def test_another_change_of_the_user_asks_nothing(ada: User, world: World) -> None:
    one = opened(world, login(ada))
    ada.first_name = "Ada"
    ada.save()
    with CaptureQueriesContext(connection) as queries:
        world.advance(10)
    assert is_here(*one, ada)
    assert not any("session" in query["sql"] for query in queries[1:])


def test_a_session_that_cannot_be_read_stays(
    ada: User, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    one = opened(world, login(ada))
    ada.set_password("other")
    ada.save()
    with override_settings(SESSION_ENGINE="nowhere"):
        world.turn()
    assert isinstance(world.errors.pop(), ModuleNotFoundError)
    assert one[0].is_open
    assert any(record.getMessage().startswith("session_unread uid=") for record in caplog.records)
    world.advance(1)  # it is looked at again
    assert is_ended(*one)


def test_nothing_is_kept_of_sessions_without_clients(ada: User) -> None:
    client = login(ada)
    key = client.session.session_key
    with World(chansock.django.channel(csrf_token=None)) as world:
        opened(world, client)
        assert key in logins._logins
    del world
    gc.collect()
    assert key not in logins._logins


def test_of_ended_sessions_a_bounded_number_is_remembered(
    ada: User, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "MAX_ENDED", 3)
    for _ in range(5):
        login(ada).logout()
    assert len(logins._ended) == 3


def test_no_key_of_a_session_is_logged(
    ada: User, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    client = login(ada)
    opened(world, client)
    key = client.session.session_key
    client.logout()
    world.advance(10)
    assert key not in caplog.text


def test_a_project_without_users_saves_what_it_has(world: World) -> None:
    with override_settings(AUTH_USER_MODEL="none.User"):
        Client().session.save()


# -- the factory


def test_a_reject_hook_is_asked_after_the_host_was_checked(
    caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = LogLimit(monotonic, call_later)  # the tests before have used up the other
    monkeypatch.setattr("chansock.django.checks._log_limit", fresh)

    def reject(request: chansock.Request) -> chansock.Response | None:
        return chansock.Response(503) if "closed" in request.params else None

    with World(chansock.django.channel(csrf_token=None, reject=reject)) as world:
        assert world.ws().is_open
        with pytest.raises(chansock.HandshakeRefused) as refused:
            world.ws(params=[("closed", "1")])
        assert refused.value.status == 503
        with override_settings(ALLOWED_HOSTS=["a.example"]):
            with pytest.raises(chansock.HandshakeRefused) as refused:
                world.ws(params=[("closed", "1")])
            assert refused.value.status == 403
    assert "refused reason=host status=403: Invalid HTTP_HOST header: 'localhost'" in caplog.text


def test_while_debugging_without_allowed_hosts_localhost_will_do(world: World) -> None:
    with override_settings(DEBUG=True, ALLOWED_HOSTS=[]):
        assert world.ws().is_open
    with override_settings(DEBUG=False, ALLOWED_HOSTS=[]):
        with pytest.raises(chansock.HandshakeRefused):
            world.ws()


def test_a_config_of_one_s_own_is_honoured() -> None:
    config = chansock.Config(allowed_hosts=("a.example",), poll_timeout=7.0)
    made = chansock.django.channel(config).config
    assert made == config
    with override_settings(CSRF_TRUSTED_ORIGINS=["https://A.example"]):
        assert chansock.django.channel(config).config.allowed_origins == (
            "self",
            "https://a.example",
        )
        own = chansock.Config(allowed_origins=("https://b.example",))
        assert chansock.django.channel(own).config.allowed_origins == own.allowed_origins


@pytest.mark.parametrize("hook", ["user_id", "csrf_token", "reject", "authorize"])
def test_a_hook_that_is_no_function_is_refused(hook: str) -> None:
    with pytest.raises(chansock.ConfigError, match=f"{hook}: expected a function, got 'x'"):
        chansock.django.channel(**{hook: "x"})


def test_a_handler_with_the_database_may_be_typed() -> None:
    chsk = chansock.django.channel(csrf_token=None)

    @chsk.on("t/say")
    @chansock.django.database
    async def say(msg: chansock.EventMsg[Say]) -> str:
        return msg.data.text

    @chsk.on("t/shout", thread=True)
    @chansock.django.database
    def shout(msg: chansock.EventMsg[Say]) -> str:
        return msg.data.text.upper()

    with World(chsk) as world:
        client = world.connect("ada")
        assert client.send("t/say", {"text": "hi"}, timeout=5) == "hi"
        assert client.send("t/shout", {"text": "hi"}, timeout=5) == "HI"
        with pytest.raises(chansock.ReplyError, match="expected str, got 1"):
            client.send("t/say", {"text": 1}, timeout=5)


def test_websockets_of_other_paths_reach_an_application_that_is_more_than_django() -> None:
    seen: list[str] = []

    async def both(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any: ...

    async def main() -> None:
        chsk = chansock.django.channel()
        async with chsk:
            application = chansock.django.Middleware(both, chsk)
            for kind in ("websocket", "http"):
                await application({"type": kind, "path": "/other"}, nothing, nothing)

    asyncio.run(main())
    assert seen == ["websocket", "http"]


def test_what_is_no_channel_is_refused() -> None:
    with pytest.raises(chansock.ConfigError, match="chsk: expected a ChannelSocket, got <module"):
        chansock.django.Middleware(None, chansock)  # type: ignore[arg-type]
    with pytest.raises(ImportError, match="nowhere"):
        chansock.django.application("nowhere.chsk")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time for what is kept of sessions that ended; none at the beginning."""
    now = [0.0]
    monkeypatch.setattr(logins, "monotonic", lambda: now[0])
    monkeypatch.setattr(logins, "_ended", type(logins._ended)())
    return now


def test_sessions_that_ended_together_are_forgotten_in_linear_work(clock: list[float]) -> None:
    def forget(count: int) -> float:
        clock[0] += 1000.0
        for number in range(count):
            logins._end(f"key-{number}")
        clock[0] += 1000.0
        start = thread_time()
        logins._end("last")
        spent = thread_time() - start
        assert len(logins._ended) == 1
        return spent

    small, large = (min(forget(count) for _ in range(3)) for count in (2000, 16_000))
    assert large < 25 * small  # 8 times as many; a search from the first costs 64 times as much


def test_a_session_that_ends_again_is_refused_for_as_long_again(clock: list[float]) -> None:
    logins._end("a")
    clock[0] = 30.0
    logins._end("b")
    logins._end("a")
    clock[0] = 61.0
    logins._end("c")
    assert [logins._has_ended(key) for key in "abc"] == [True, True, True]
    clock[0] = 90.0
    logins._end("d")
    assert [logins._has_ended(key) for key in "abcd"] == [False, False, True, True]


def test_a_long_key_of_a_session_that_ended_is_not_held(clock: list[float]) -> None:
    tracemalloc.start()
    try:
        for number in range(100):
            logins._end(f"{'x' * 10_000}{number}")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 500_000
