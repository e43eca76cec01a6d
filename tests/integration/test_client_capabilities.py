"""The capabilities of a channel over each transport: our client against our server, real ports."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest
from readme_pair import free_port
from sente_script import turn_until, until

from chansock._fast.events.dispatch import LATER
from chansock.channel import ChannelSocket
from chansock.client import ClientConfig, Event, connect
from chansock.config import Config
from chansock.errors import ChannelClosed, HandshakeRefused, ReplyError, ReplyTimeout
from chansock.server import serve
from chansock.target import ALL, ANONYMOUS
from chansock.values import Keyword


@pytest.fixture(params=["ws", "ajax"])
def transport(request):
    return request.param


def user(request):
    return request.headers.get("x-user")


@contextlib.asynccontextmanager
async def meeting(transport, chsk, *, uid="alice", **options):
    """Serve chsk, and open a client of it."""
    headers = {} if uid is None else {"X-User": uid}
    async with (
        serve(chsk, port=0) as listener,
        connect(listener.url, transport=transport, **{"headers": headers, **options}) as client,
    ):
        if transport == "ajax":
            await present(chsk, uid)
        yield client


async def present(chsk, uid):
    """Wait for the second GET of an Ajax client: from it on the user is connected."""
    member = ANONYMOUS if uid is None else uid
    await turn_until(lambda: member in chsk.connected.any)


def test_connect_and_handshake(run, transport):
    async def main():
        chsk = ChannelSocket(user_id=user, handshake_data=lambda request: {"motd": "hi"})
        async with meeting(transport, chsk) as client:
            state = client.state
            assert (state.open, state.type, state.uid) == (True, transport, "alice")
            assert state.handshake_data == {"motd": "hi"}
            assert "alice" in getattr(chsk.connected, transport)
            assert "alice" not in getattr(chsk.connected, "ajax" if transport == "ws" else "ws")

    run(main())


def test_auto_takes_the_websocket(run):
    async def main():
        async with meeting("auto", ChannelSocket(user_id=user)) as client:
            assert client.state.type == "ws"

    run(main())


def test_anonymous_client(run, transport):
    async def main():
        chsk = ChannelSocket()
        async with meeting(transport, chsk, uid=None) as client:
            assert client.state.uid is None
            chsk.send(ANONYMOUS, "chat/said", 1)
            assert await anext(client) == Event("chat/said", 1)

    run(main())


def test_event_from_the_client(run, transport):
    async def main():
        chsk = ChannelSocket(user_id=user)
        got = asyncio.Queue()
        chsk.on("chat/say", lambda msg: got.put_nowait((msg.uid, msg.data, msg.wants_reply)))
        async with meeting(transport, chsk) as client:
            assert (
                await client.send("chat/say", {"text": "é漢 😀", "kind": Keyword("join")}) is None
            )
            expected = {"text": "é漢 😀", "kind": Keyword("join")}
            assert await got.get() == ("alice", expected, False)
            await client.send("chat/say")
            assert await got.get() == ("alice", None, False)

    run(main())


def test_reply_to_the_client(run, transport):
    async def main():
        chsk = ChannelSocket(user_id=user)
        later = []
        chsk.on("math/double", lambda msg: msg.data * 2)
        chsk.on("math/ack", lambda msg: None)

        @chsk.on("math/slow")
        async def slow(msg):
            await asyncio.sleep(0)
            return [msg.data, None]

        @chsk.on("math/later")
        def hold(msg):
            later.append(msg)
            asyncio.get_running_loop().call_soon(msg.reply, "later")
            return LATER

        async with meeting(transport, chsk) as client:
            assert await client.send("math/double", 21, timeout=60) == 42
            assert await client.send("math/ack", 1, timeout=60) is None
            assert await client.send("math/slow", 3, timeout=60) == [3, None]
            assert await client.send("math/later", 3, timeout=60) == "later"

    run(main())


def test_handler_that_fails_or_is_missing_is_a_reply_error(run, transport):
    async def main():
        chsk = ChannelSocket(user_id=user)
        chsk.on("math/bad", lambda msg: 1 / 0)
        async with meeting(transport, chsk) as client:
            with pytest.raises(ReplyError):
                await client.send("math/bad", timeout=60)
            with pytest.raises(ReplyError):
                await client.send("math/unknown", timeout=60)
            assert client.state.open

    run(main())


def test_no_reply_in_time(run, transport):
    async def main():
        chsk = ChannelSocket(user_id=user)
        chsk.on("math/never", lambda msg: LATER)
        async with meeting(transport, chsk) as client:
            with pytest.raises(ReplyTimeout):
                await client.send("math/never", timeout=0.02)
            assert client.state.open

    run(main())


def test_push_to_a_user_to_all_and_to_one_client(run, transport):
    async def main():
        chsk = ChannelSocket(user_id=user)

        @chsk.on("chat/hello")
        def hello(msg):
            chsk.send(msg.client, "chat/you", 1)
            chsk.send(msg.uid, "chat/user", 2)
            chsk.send(ALL, "chat/all", 3)
            chsk.send("bob", "chat/other", 4)

        async with meeting(transport, chsk) as client:
            await client.send("chat/hello")
            got = [await anext(client) for _ in range(3)]
            assert got == [Event("chat/you", 1), Event("chat/user", 2), Event("chat/all", 3)]

    run(main())


def test_pushes_come_in_the_order_of_their_send(run, transport):
    async def main():
        chsk = ChannelSocket(Config(flush_delay_ajax=0.001), user_id=user)
        async with meeting(transport, chsk) as client:

            async def push():
                for i in range(500):
                    chsk.send("alice", "n/n", i)
                    if i % 7 == 0:
                        await asyncio.sleep(0)

            pushing = asyncio.create_task(push())
            for i in range(500):
                assert (await anext(client)).data == i
            await pushing
            assert chsk.stats.written == 500

    run(main())


def test_events_come_in_the_order_of_their_send(run, transport):
    async def main():
        chsk = ChannelSocket(user_id=user)
        got = []

        @chsk.on("n/n")
        async def note(msg):
            if msg.data % 5 == 0:
                await asyncio.sleep(0)
            got.append(msg.data)
            return msg.data

        async with meeting(transport, chsk) as client:
            sends = [client.send("n/n", i, timeout=60 if i % 3 else None) for i in range(200)]
            replies = await asyncio.gather(*sends)
            await client.send("n/n", 200, timeout=60)
            assert got == list(range(201))
            assert replies == [i if i % 3 else None for i in range(200)]

    run(main())


@pytest.mark.slow
def test_flood_that_a_slow_handler_holds_back_loses_nothing(run, transport):
    async def main():
        config = Config(max_inbox_events=2, poll_timeout=0.02, post_order_wait=5.0)
        chsk = ChannelSocket(config, user_id=user)
        gate, is_done = asyncio.Event(), asyncio.Event()
        got = []

        @chsk.on("n/n")
        async def note(msg):
            await gate.wait()
            got.append(msg.data)
            if len(got) == 12:
                is_done.set()

        async with meeting(transport, chsk) as client:
            sends = [asyncio.create_task(client.send("n/n", i)) for i in range(12)]
            if transport == "ajax":
                await turn_until(lambda: chsk.stats.refused.get("inbox_full"))
            else:
                await asyncio.wait(sends)  # all are written, and the first is not handled yet
            assert got == []
            gate.set()
            await asyncio.gather(*sends)
            await is_done.wait()
            assert got == list(range(12))

    run(main())


def test_large_messages_go_both_ways(run, transport):
    async def main():
        chsk = ChannelSocket(user_id=user)
        chsk.on("big/echo", lambda msg: msg.data)

        @chsk.on("big/push")
        def push(msg):
            chsk.send(msg.client, "big/pushed", msg.data)

        async with meeting(transport, chsk) as client:
            text = "0123456789" * 90_000
            assert await client.send("big/echo", text, timeout=60) == text
            await client.send("big/push", text)
            assert (await anext(client)).data == text

    run(main())


def test_presence_comes_and_goes_once(run, transport):
    async def main():
        chsk = ChannelSocket(Config(grace_ws=0.01, grace_ajax=0.01), user_id=user)
        seen = asyncio.Queue()
        chsk.on("chsk/uidport-open", lambda msg: seen.put_nowait(("open", msg.uid)))
        chsk.on("chsk/uidport-close", lambda msg: seen.put_nowait(("close", msg.uid)))
        async with serve(chsk, port=0) as listener:
            options = {"transport": transport, "headers": {"X-User": "alice"}}
            async with connect(listener.url, **options), connect(listener.url, **options):
                assert await seen.get() == ("open", "alice")
                assert "alice" in chsk.connected.any
            assert await seen.get() == ("close", "alice")
            assert "alice" not in chsk.connected.any
            assert seen.empty()

    run(main())


def test_disconnect_by_the_server_is_followed_by_a_new_handshake(run, transport):
    async def main():
        chsk = ChannelSocket(user_id=user)
        async with meeting(transport, chsk, backoff=lambda n: 0.0) as client:
            states = []
            client.on_state(states.append)
            chsk.disconnect("alice")
            chsk.send("alice", "chat/said", "within grace")
            assert await anext(client) == Event("chat/said", "within grace")
            assert [state.open for state in states] == [False, True]
            if transport == "ws":
                assert (states[0].reason.kind, states[0].reason.code) == ("clean", 1000)
            else:
                assert (states[0].reason.kind, states[0].reason.code) == ("unexpected", 503)

    run(main())


def test_authority_over_keeps_a_socket_out(run):
    async def main():
        chsk = ChannelSocket(user_id=user)
        async with meeting("ws", chsk) as client:
            chsk.disconnect("alice", code=4401, reason="logged out")
            await until(client, lambda state: not state.open)
            assert str(client.state.reason) == "refused 4401: logged out"
            with pytest.raises(ChannelClosed, match="logged out"):
                await client.send("chat/say")

    run(main())


@pytest.mark.parametrize("kind", ["ws", "ajax", "auto"])
def test_refusals_have_a_cause(run, kind):
    async def main():
        chsk = ChannelSocket(csrf_token=lambda request: "tok123")
        async with serve(chsk, port=0) as listener:
            for token in (None, "wrong"):
                with pytest.raises(HandshakeRefused) as caught:
                    await connect(listener.url, transport=kind, csrf_token=token).__aenter__()
                assert (caught.value.status, caught.value.reason) == (403, "Bad CSRF token")
            async with connect(listener.url, transport=kind, csrf_token="tok123") as client:
                assert client.state.open
        chsk = ChannelSocket(authorize=lambda request: False)
        async with serve(chsk, port=0) as listener:
            with pytest.raises(HandshakeRefused) as caught:
                await connect(listener.url, transport=kind).__aenter__()
            assert (caught.value.status, caught.value.reason) == (401, "Unauthorized request")

    run(main())


def test_login_that_ran_out_stops_the_client_until_it_has_a_new_one(run, transport):
    async def main():
        valid = {"one"}
        token = "one"
        chsk = ChannelSocket(authorize=lambda request: request.params.get("t") in valid)
        async with serve(chsk, port=0) as listener:
            async with connect(
                listener.url,
                transport=transport,
                params=lambda: {"t": token},
                backoff=lambda n: 0.0,
            ) as client:
                chsk.on("math/double", lambda msg: msg.data * 2)
                assert await client.send("math/double", 4, timeout=60) == 8
                valid.clear()
                chsk.disconnect(ANONYMOUS)
                await until(client, lambda state: not state.open and state.reason.is_final)
                assert client.state.reason.code == 401
                valid.add("two")
                token = "two"
                client.reconnect()
                await until(client, lambda state: state.open)
                assert await client.send("math/double", 5, timeout=60) == 10

    run(main())


def test_server_restart_brings_the_client_back(run, transport):
    async def main():
        first, second = ChannelSocket(user_id=user), ChannelSocket(user_id=user)
        async with contextlib.AsyncExitStack() as stack:
            port = free_port()
            listener = await stack.enter_async_context(serve(first, port=port))
            async with connect(
                listener.url,
                transport=transport,
                headers={"X-User": "alice"},
                backoff=lambda n: 0.05,
            ) as client:
                await client.send("chat/say")
                await stack.aclose()
                await until(client, lambda state: not state.open)
                async with serve(second, port=port):
                    await until(client, lambda state: state.open)
                    await present(second, "alice")
                    second.send("alice", "chat/said", 1)
                    assert await anext(client) == Event("chat/said", 1)

    run(main())


def test_reader_that_stops_is_waited_for_and_loses_nothing(run, transport):
    async def main():
        chsk = ChannelSocket(Config(flush_delay_ajax=0.001), user_id=user)
        async with meeting(transport, chsk, config=ClientConfig(max_inbox_events=5)) as client:
            for i in range(100):
                chsk.send("alice", "n/n", i)
                await asyncio.sleep(0)
            for i in range(100):
                assert (await anext(client)).data == i
            assert client.state.reason is None

    run(main())


def test_over_tls_the_certificate_is_checked(run, transport):
    tls = Path(__file__).parents[1] / "data" / "tls"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
    trust = ssl.create_default_context(cafile=tls / "cert.pem")

    async def main():
        chsk = ChannelSocket()
        chsk.on("big/echo", lambda msg: msg.data)
        async with serve(chsk, port=0, ssl=context) as listener:
            url = listener.url.replace("https", "wss")
            async with connect(url, transport=transport, ssl=trust) as client:
                text = "0123456789" * 20_000
                assert await client.send("big/echo", text, timeout=60) == text
            with pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
                await connect(url, transport=transport).__aenter__()

    run(main())
