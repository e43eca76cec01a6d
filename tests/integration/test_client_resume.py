"""Clients that come back to a server of ours: nothing is missed, nothing comes twice."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from cutting import cutting
from sente_script import turn_until, turns, until

from chansock.channel import ChannelSocket
from chansock.client import ClientConfig, connect, connect_sync
from chansock.config import Config
from chansock.errors import ChannelClosed, ConnectionLost, ReplyTimeout
from chansock.server import serve
from chansock.target import ALL


class Server:
    """A channel that notes what it handles."""

    def __init__(self, config: Config | None = None) -> None:
        self.chsk = ChannelSocket(config or Config(), user_id=lambda request: "alice")
        self.handled: list[object] = []
        self.redelivered: list[object] = []
        self.gate = asyncio.Event()
        self.gate.set()

        @self.chsk.on("t/note")
        def note(msg):
            self.handled.append(msg.data)
            if msg.is_redelivered:
                self.redelivered.append(msg.data)

        @self.chsk.on("t/double")
        async def double(msg):
            self.handled.append(("double", msg.data))
            await self.gate.wait()
            return msg.data * 2


@pytest.fixture(params=["ws", "ajax"])
def transport(request):
    return request.param


class Meeting:
    def __init__(self, server, proxy, client):
        self.server = server
        self.proxy = proxy
        self.client = client
        self.got: list[object] = []
        self.was: list[object] = []
        client.on("t/push", lambda event: self.got.append(event.data))
        client.on("chsk/state", self._state)

    def _state(self, event):
        _, new, is_open_changed = event.data
        if is_open_changed and new.open:
            self.was.append(new.resumed)
            self.got.append(new.resumed)  # among the events, in order

    @property
    def pushed(self):
        return [item for item in self.got if isinstance(item, int)]


@contextlib.asynccontextmanager
async def meeting(transport="ws", server=None, **options):
    server = server or Server()
    options = {"backoff": lambda n: 0.01, **options}
    async with serve(server.chsk, port=0) as listener, cutting(listener.port) as proxy:
        client = connect(proxy.url, transport=transport, **options)
        met = Meeting(server, proxy, client)
        async with client:
            await present(met)
            yield met


async def present(met):
    """Wait until the server takes the client for connected: over Ajax with its first poll."""
    await turn_until(lambda: "alice" in met.server.chsk.connected.any)


async def back(met, count=1):
    """Wait until the client has come back."""
    await turn_until(lambda: len(met.was) > count)


async def exchange(met):
    """Send and receive a few things; check that each came once and in order."""
    client, server = met.client, met.server
    for number in range(3):
        await client.send("t/note", number)
    asking = asyncio.create_task(client.send("t/double", 21, timeout=60))
    for number in range(3):
        server.chsk.send("alice", "t/push", number)
        await asyncio.sleep(0)
    await client.send("t/note", 3)
    assert await asking == 42
    server.chsk.send("alice", "t/push", 3)
    await turn_until(lambda: len(met.pushed) >= 4 and len(server.handled) >= 5)
    assert met.pushed == [0, 1, 2, 3]
    assert server.handled == [0, 1, 2, ("double", 21), 3]
    assert set(met.was) <= {"fresh", "resumed"}
    assert met.was.count("fresh") == 1


# Cuts


def test_a_first_connection_is_fresh(run, transport):
    async def main():
        async with meeting(transport) as met:
            await exchange(met)
            assert met.client.state.resumed == "fresh"
            assert met.was == ["fresh"]

    run(main())


@pytest.mark.slow
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_cut_after_any_byte_costs_and_doubles_nothing(drive, transport, way):
    async def one(at):
        async with meeting(transport) as met:
            met.proxy.arm(**{way: at})
            await exchange(met)
            return met.proxy.cuts

    async def main():
        at, step = 1, 1 if transport == "ws" else 23
        while await one(at):
            at += step
        assert at > 100  # else the exchange was over before the first cut

    drive(main())


def test_a_cut_costs_nothing_on_each_loop(run, transport):
    async def main():
        for way in ("up", "down"):
            for at in (1, 40, 100):
                async with meeting(transport) as met:
                    met.proxy.arm(**{way: at})
                    await exchange(met)
                    assert met.was == ["fresh", "resumed"]

    run(main())


def test_many_cuts_in_a_row_cost_nothing(run, transport):
    async def main():
        async with meeting(transport) as met:
            sent, pushed = 0, 0
            for _ in range(8):
                for _ in range(5):
                    await met.client.send("t/note", sent)
                    sent += 1
                    met.server.chsk.send("alice", "t/push", pushed)
                    pushed += 1
                met.proxy.cut()
                met.server.chsk.send("alice", "t/push", pushed)
                pushed += 1
                await met.client.send("t/note", sent)
                sent += 1
            await turn_until(lambda: len(met.server.handled) == sent)
            await turn_until(lambda: len(met.pushed) == pushed)
            assert met.server.handled == list(range(sent))
            assert met.pushed == list(range(pushed))
            assert set(met.was[1:]) == {"resumed"}

    run(main())


def test_what_is_pushed_while_the_client_is_away_follows_the_handshake(run, transport):
    async def main():
        async with meeting(transport) as met:
            met.client.disconnect()
            for number in range(10):
                met.server.chsk.send("alice", "t/push", number)
            met.client.reconnect()
            await turn_until(lambda: len(met.pushed) == 10)
            assert met.got == ["fresh", "resumed", *range(10)]

    run(main())


# Requests


def test_a_request_gets_its_reply_over_the_next_connection(run, transport):
    async def main():
        async with meeting(transport) as met:
            met.server.gate.clear()
            asking = asyncio.create_task(met.client.send("t/double", 4, timeout=60))
            await turn_until(lambda: met.server.handled)
            met.proxy.cut()
            await back(met)
            met.server.gate.set()
            assert await asking == 8
            assert met.server.handled == [("double", 4)]

    run(main())


def test_a_reply_that_was_lost_comes_again(run, transport):
    async def main():
        async with meeting(transport) as met:
            met.proxy.hold()
            asking = asyncio.create_task(met.client.send("t/double", 4, timeout=60))
            await turn_until(lambda: met.server.handled)
            await asyncio.sleep(0.05)  # the reply is on its way
            met.proxy.cut()
            assert await asking == 8
            assert met.server.handled == [("double", 4)]

    run(main())


def test_a_request_ends_with_its_own_time_out_and_is_still_delivered(run, transport):
    async def main():
        async with meeting(transport) as met:
            target, met.proxy.target = met.proxy.target, 1  # nobody listens there
            met.proxy.cut()
            await until(met.client, lambda state: not state.open)
            with pytest.raises(ReplyTimeout):
                await met.client.send("t/double", 4, timeout=0.01)
            await met.client.send("t/note", 5)
            assert met.server.handled == []
            met.proxy.target = target
            await turn_until(lambda: len(met.server.handled) == 2)
            assert met.server.handled == [("double", 4), 5]

    run(main())


def test_requests_end_when_the_client_closes(run, transport):
    async def main():
        async with meeting(transport) as met:
            met.server.gate.clear()
            asking = asyncio.create_task(met.client.send("t/double", 4, timeout=60))
            await turn_until(lambda: met.server.handled)
            met.client.disconnect()
            with pytest.raises(ConnectionLost):
                await asking
            with pytest.raises(ChannelClosed, match="requested-disconnect"):
                await met.client.send("t/note", 1)
            met.server.gate.set()

    run(main())


# Other transports, other servers


def test_a_change_of_transport_costs_nothing(run):
    async def main():
        server = Server()
        async with serve(server.chsk, port=0) as listener, cutting(listener.port) as proxy:
            proxy.blocks_websockets = True
            met = Meeting(server, proxy, connect(proxy.url, backoff=lambda n: 0.01))
            async with met.client as client:
                await present(met)
                assert client.state.type == "ajax"
                server.gate.clear()
                asking = asyncio.create_task(client.send("t/double", 4, timeout=60))
                await turn_until(lambda: server.handled)
                await client.send("t/note", 1)
                server.chsk.send(ALL, "t/push", 1)
                proxy.blocks_websockets = False
                client.reconnect()
                server.chsk.send(ALL, "t/push", 2)
                await client.send("t/note", 2)
                await back(met)
                assert client.state.type == "ws"
                server.gate.set()
                assert await asking == 8
                await client.send("t/note", 3)
                await turn_until(lambda: len(server.handled) == 4 and len(met.pushed) == 2)
                assert server.handled == [("double", 4), 1, 2, 3]
                assert met.pushed == [1, 2]
                assert met.was == ["fresh", "resumed"]

    run(main())


@contextlib.asynccontextmanager
async def restarting(server, transport, **options):
    """Yield a Meeting, and a function that restarts its server, or another one in its place."""
    async with contextlib.AsyncExitStack() as stack, cutting(0) as proxy:
        opened = contextlib.AsyncExitStack()
        proxy.target = (await opened.enter_async_context(serve(server.chsk, port=0))).port
        met = Meeting(
            server,
            proxy,
            connect(proxy.url, transport=transport, backoff=lambda n: 0.01, **options),
        )

        async def restart(other=None, meanwhile=None):
            nonlocal opened
            proxy.target = 1
            await opened.aclose()
            proxy.cut()
            if meanwhile is not None:
                await meanwhile
            met.server = other or met.server
            opened = contextlib.AsyncExitStack()
            proxy.target = (await opened.enter_async_context(serve(met.server.chsk, port=0))).port

        stack.push_async_callback(lambda: opened.aclose())
        async with met.client:
            await present(met)
            yield met, restart


def test_a_restart_of_the_same_channel_costs_nothing(run, transport):
    async def main():
        server = Server()
        async with restarting(server, transport) as (met, restart):
            await met.client.send("t/note", 1)
            server.chsk.send("alice", "t/push", 1)
            await restart(meanwhile=met.client.send("t/note", 2))
            server.chsk.send("alice", "t/push", 2)
            await met.client.send("t/note", 3)
            await turn_until(lambda: len(server.handled) == 3 and len(met.pushed) == 2)
            assert server.handled == [1, 2, 3]
            assert server.redelivered == []
            assert met.got == ["fresh", 1, "resumed", 2]

    run(main())


def test_another_channel_is_told_as_a_gap_before_any_event(run, transport):
    async def main():
        server, other = Server(), Server()
        async with restarting(server, transport) as (met, restart):
            await met.client.send("t/note", 1)
            await turn_until(lambda: server.handled == [1])
            server.chsk.send("alice", "t/push", 1)
            await turn_until(lambda: met.pushed == [1])
            await restart(other, meanwhile=met.client.send("t/note", 2))
            await turn_until(lambda: 2 in other.handled)
            other.chsk.send("alice", "t/push", 2)
            await turn_until(lambda: len(met.pushed) == 2)
            assert met.got == ["fresh", 1, "gap", 2]
            assert met.client.state.resumed == "gap"
            # What the first one may have handled is marked; what was sent later is not.
            assert other.handled in ([2], [1, 2])
            assert set(other.redelivered) <= {1}

    run(main())


def test_a_server_that_does_not_resume_gets_what_was_not_sent_yet(run, transport):
    async def main():
        server, other = Server(), Server(Config(resume=False))
        async with restarting(server, transport) as (met, restart):
            await met.client.send("t/note", 1)
            server.gate.clear()
            asking = asyncio.create_task(met.client.send("t/double", 4, timeout=60))
            await turn_until(lambda: len(server.handled) == 2)
            server.gate.set()
            met.proxy.hold()
            met.proxy.target = 1
            met.proxy.cut()
            await until(met.client, lambda state: not state.open)
            later = asyncio.create_task(met.client.send("t/double", 5, timeout=60))
            await restart(other, meanwhile=met.client.send("t/note", 2))
            with pytest.raises(ConnectionLost, match="does not resume"):
                await asking
            assert await later == 10
            await met.client.send("t/note", 3)
            await turn_until(lambda: len(other.handled) == 3)
            assert other.handled == [("double", 5), 2, 3]
            assert met.was[-1] is None
            assert met.client.state.resumed is None

    run(main())


# Switched off


@pytest.mark.parametrize("side", ["client", "server"])
def test_without_resume_a_closed_channel_takes_nothing(run, transport, side):
    async def main():
        server = Server(Config(resume=side != "server"))
        options = {} if side == "server" else {"resume": False}
        async with meeting(transport, server, **options) as met:
            assert met.client.state.resumed is None
            await met.client.send("t/note", 1)
            assert await met.client.send("t/double", 2, timeout=60) == 4
            met.proxy.target = 1
            met.proxy.cut()
            await until(met.client, lambda state: not state.open)
            with pytest.raises(ChannelClosed, match="expected an open channel"):
                await met.client.send("t/note", 2)

    run(main())


# Two clients of one client-id


def test_a_client_whose_id_another_one_takes_goes_on_under_a_new_one(run):
    async def main():
        async with meeting("ws", client_id="same") as met:
            await met.client.send("t/note", 1)
            twin = connect(met.proxy.url, transport="ws", client_id="same")
            async with twin:
                await back(met)
                assert met.client.client_id != "same"
                assert twin.client_id == "same"
                assert met.was == ["fresh", "gap"]
                await met.client.send("t/note", 2)
                await twin.send("t/note", 3)
                await turn_until(lambda: {2, 3} <= set(met.server.handled))
                # Nobody knows any more that 1 was handled; the server marks it.
                assert sorted(met.server.handled) in ([1, 2, 3], [1, 1, 2, 3])
                assert set(met.server.redelivered) <= {1}
                assert twin.state.open

    run(main())


def test_two_clients_of_one_id_that_poll_part(run):
    async def main():
        async with meeting("ajax", client_id="same") as met:
            await met.client.send("t/note", 1)
            async with connect(met.proxy.url, transport="ajax", client_id="same") as twin:
                await turn_until(lambda: met.client.client_id != twin.client_id)
                assert "same" in (met.client.client_id, twin.client_id)
                await met.client.send("t/note", 2)
                await twin.send("t/note", 3)
                await turn_until(lambda: {2, 3} <= set(met.server.handled))
                assert sorted(met.server.handled) in ([1, 2, 3], [1, 1, 2, 3])
                counts = met.server.chsk.stats.fresh, met.server.chsk.stats.gap
                for n in range(4, 24):  # neither ends the other's poll any more
                    await (met.client if n % 2 else twin).send("t/note", n)
                    await turn_until(lambda n=n: n in met.server.handled)
                assert (met.server.chsk.stats.fresh, met.server.chsk.stats.gap) == counts

    run(main())


def test_after_another_client_with_its_id_a_client_has_a_gap_and_its_repeats_are_marked(
    run, transport
):
    async def main():
        async with meeting(transport, client_id="same") as met:
            await met.client.send("t/note", 1)
            met.client.disconnect()
            async with connect(met.proxy.url, transport=transport, client_id="same") as twin:
                await twin.send("t/note", 2)
                await twin.send("t/note", 3)
            met.client.reconnect()
            await met.client.send("t/note", 4)
            await back(met)
            await turn_until(lambda: 4 in met.server.handled)
            assert met.server.handled in ([1, 2, 3, 4], [1, 2, 3, 1, 4])
            assert list(met.server.redelivered) == [1] * (met.server.handled.count(1) - 1)
            assert met.was == ["fresh", "gap"]

    run(main())


# Limits


def test_at_the_limit_send_waits_until_the_server_is_back(run, transport):
    async def main():
        config = ClientConfig(max_unacked_events=3)
        async with meeting(transport, config=config) as met:
            target, met.proxy.target = met.proxy.target, 1
            met.proxy.cut()
            await until(met.client, lambda state: not state.open)
            for number in range(3):
                await met.client.send("t/note", number)
            waits = [asyncio.create_task(met.client.send("t/note", n)) for n in (3, 4)]
            await turns()
            assert not any(task.done() for task in waits)
            met.proxy.target = target
            await asyncio.gather(*waits)
            await turn_until(lambda: len(met.server.handled) == 5)
            assert met.server.handled == [0, 1, 2, 3, 4]

    run(main())


@pytest.mark.parametrize("limit", [{"max_unacked_bytes": 20_000}, {"max_unacked_events": 2}])
def test_many_events_pass_through_a_small_buffer(run, transport, limit):
    async def main():
        async with meeting(transport, config=ClientConfig(**limit)) as met:
            for number in range(300):
                await met.client.send("t/double" if number % 50 == 49 else "t/note", number)
            await turn_until(lambda: len(met.server.handled) == 300)

    run(main())


def test_a_handler_of_pings_does_not_answer_one_that_asks_what_is_handled(run, transport):
    async def main():
        server = Server()
        pings = []
        server.chsk.on("chsk/ws-ping", lambda msg: pings.append(msg.wants_reply))
        config = ClientConfig(max_unacked_events=2)
        async with meeting(transport, server, config=config) as met:
            for number in range(20):
                await met.client.send("t/note", number)
            await turn_until(lambda: len(met.server.handled) == 20)
            assert pings and not any(pings)

    run(main())


def test_a_sync_client_resumes(drive):
    async def main():
        server = Server()
        async with serve(server.chsk, port=0) as listener, cutting(listener.port) as proxy:

            def script():
                with connect_sync(proxy.url, transport="ws") as client:
                    client.send("t/note", 1)
                    client.break_connection()
                    client.send("t/note", 2)
                    assert client.send("t/double", 2, timeout=60) == 4
                    assert client.state.resumed == "resumed"

            await asyncio.to_thread(script)
            assert server.handled == [1, 2, ("double", 2)]

    drive(main())
