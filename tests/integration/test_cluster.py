"""Several processes' channels joined by a real Redis: two nodes, and clients that go between them.

Both nodes run in the loop of the test, each with a server of its own; a balancer in front of them
connects each new connection to the node that the test names. No process is killed here: that is
what the soak of the cluster does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from redis_server import Server

import chansock
from chansock import ALL, ChannelSocket, Config, connect
from chansock.backplanes.redis import Redis
from chansock.errors import BackplaneError

LIMIT = 20.0  # seconds, for what should take a few milliseconds

# Of clients whose connections a test cuts time and again: a channel that lasted less than a second
# is no sign of health, so by default the fourth cut in a row costs 2 s, and the sixth 8.
PROMPT = chansock.ClientConfig(max_backoff=0.1)


async def until(is_true: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT):
        while not is_true():
            await asyncio.sleep(0.01)


class Balancer:
    """Connects each connection to a node: to `chosen`, or to one after the other."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.chosen: int | None = None
        self.is_open = True
        self.count = 0
        self.writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/chsk"
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        for writer in list(self.writers):
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        if not self.is_open:
            writer.transport.abort()
            return
        number = self.count % len(self.ports) if self.chosen is None else self.chosen
        there, back = await asyncio.open_connection("127.0.0.1", self.ports[number])
        self.writers |= {writer, back}
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        self.writers -= {writer, back}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


class Cluster:
    """Two nodes, and what their handlers got."""

    def __init__(self, redis: Server, config: Config) -> None:
        self.handled: list[Any] = []
        self.ports: list[tuple[str, Any]] = []
        self.nodes = [self.node(redis, config) for _ in range(2)]

    def node(self, redis: Server, config: Config) -> ChannelSocket:
        chsk = ChannelSocket(
            config, user_id=lambda request: request.params.get("user"), backplane=redis.url
        )

        @chsk.on("t/note")
        def note(msg: Any) -> None:
            self.handled.append((msg.data, msg.is_redelivered))

        @chsk.on("t/echo")
        def echo(msg: Any) -> Any:
            return msg.data

        @chsk.on("t/push")
        def push(msg: Any) -> str:
            for n in range(msg.data):
                chsk.send(msg.uid, "t/pushed", n)
            return "done"

        @chsk.on("chsk/uidport-open")
        def came(msg: Any) -> None:
            self.ports.append(("open", msg.data))

        @chsk.on("chsk/uidport-close")
        def left(msg: Any) -> None:
            self.ports.append(("close", msg.data))

        return chsk


class Met:
    """A cluster, its balancer, and the URL of that."""

    def __init__(self, cluster: Cluster, balancer: Balancer, url: str) -> None:
        self.cluster, self.balancer, self.url = cluster, balancer, url
        self.nodes, self.handled = cluster.nodes, cluster.handled

    @asynccontextmanager
    async def client(self, user: str, **options: Any) -> AsyncIterator[tuple[Any, list[Any]]]:
        got: list[Any] = []
        async with connect(f"{self.url}?user={user}", **options) as client:
            client.on("t/news", lambda event: got.append(event.data))
            yield client, got


@pytest.fixture
def redis():
    with Server() as server:
        yield server


@pytest.fixture(params=["ws", "ajax"])
def transport(request):
    return request.param


@asynccontextmanager
async def meeting(redis: Server, config: Config | None = None) -> AsyncIterator[Met]:
    cluster = Cluster(redis, config or Config())
    one, two = cluster.nodes
    async with chansock.serve(one, port=0) as first, chansock.serve(two, port=0) as second:
        balancer = Balancer([first.port, second.port])
        async with balancer.listening() as url:
            yield Met(cluster, balancer, url)


def test_what_one_node_sends_reaches_the_clients_of_all_in_one_order(redis, run, transport):
    async def main():
        async with meeting(redis) as met:
            async with (
                met.client("ann", transport=transport) as (_, first),
                met.client("ann", transport=transport) as (_, second),
            ):
                for n in range(200):
                    met.nodes[n % 2].send(ALL if n % 3 else "ann", "t/news", n)
                    if not n % 10:
                        await asyncio.sleep(0)
                await until(lambda: len(first) == len(second) == 200)
                assert first == second
                assert [n for n in first if n % 2] == list(range(1, 200, 2))
                assert [n for n in first if not n % 2] == list(range(0, 200, 2))

    run(main())


def test_a_client_that_comes_back_to_another_node_has_everything_once(redis, run, transport):
    async def main():
        config = Config(keep_events=1000)
        async with (
            meeting(redis, config) as met,
            met.client("ann", config=PROMPT, transport=transport) as (client, got),
        ):
            sent = 0
            for cut in range(6):
                met.balancer.chosen = cut % 2
                met.balancer.cut()
                for _ in range(20):
                    met.nodes[sent % 2].send("ann", "t/news", sent)
                    await client.send("t/note", sent)
                    sent += 1
                    await asyncio.sleep(0.001)
            await until(lambda: len(got) >= sent and len(met.handled) >= sent)
            assert sorted(got) == list(range(sent))
            assert met.handled == [(n, False) for n in range(sent)]
            assert sum(node.stats.gap for node in met.nodes) == 0

    run(main())


def test_polls_and_posts_may_go_to_any_node(redis, run):
    async def main():
        async with (
            meeting(redis) as met,
            met.client("ann", config=PROMPT, transport="ajax") as (client, got),
        ):
            for n in range(40):
                assert await client.send("t/echo", n, timeout=LIMIT) == n
                met.nodes[0].send("ann", "t/news", n)
                if n % 5 == 4:  # new connections, each to the other node
                    await until(lambda n=n: len(got) == n + 1)
                    met.balancer.cut()
            await until(lambda: len(got) == 40)
            assert got == list(range(40))

    run(main())


def test_a_reply_does_not_overtake_what_its_handler_sent(redis, run, transport):
    async def main():
        async with meeting(redis) as met:
            order: list[Any] = []
            async with met.client("ann", transport=transport) as (client, _):
                client.on("t/pushed", lambda event: order.append(event.data))
                for _ in range(5):
                    order.append(await client.send("t/push", 3, timeout=LIMIT))
                if transport == "ws":
                    assert order == [0, 1, 2, "done"] * 5
                else:  # the reply is the POST's answer, and the pushes are the poll's
                    await until(lambda: len(order) == 20)

    run(main())


def test_presence_is_that_of_all_nodes_and_its_handlers_run_once(redis, run, transport):
    async def main():
        async with meeting(redis, Config(grace_ws=0.2, grace_ajax=0.4)) as met:
            async with met.client("ann", transport=transport):
                async with met.client("ann", transport=transport):
                    await until(lambda: all("ann" in node.connected.any for node in met.nodes))
                    kinds = [getattr(node.connected, transport) for node in met.nodes]
                    await until(lambda: all("ann" in kind for kind in kinds))
                assert met.cluster.ports == [("open", "ann")]
            await until(lambda: not any("ann" in node.connected.any for node in met.nodes))
            await until(lambda: met.cluster.ports == [("open", "ann"), ("close", "ann")])

    run(main())


def test_a_user_of_two_transports_on_two_nodes_comes_and_goes_once(redis, run):
    async def main():
        async with meeting(redis, Config(grace_ws=0.1, grace_ajax=0.1)) as met:
            met.balancer.chosen = 0
            async with met.client("ann", transport="ajax"):
                await until(lambda: met.cluster.ports == [("open", "ann")])
                met.balancer.chosen = 1
                async with met.client("ann", transport="ws"), met.client("ben", transport="ws"):
                    for node in met.nodes:
                        await until(lambda node=node: node.connected.ws == {"ann", "ben"})
                        assert node.connected.ajax == {"ann"}
                        assert node.connected.any == {"ann", "ben"}
                for node in met.nodes:
                    await until(lambda node=node: not node.connected.ws)
                    assert node.connected.any == {"ann"}
                assert met.cluster.ports == [("open", "ann"), ("open", "ben"), ("close", "ben")]
            await until(lambda: met.cluster.ports[3:] == [("close", "ann")])

    run(main())


def test_disconnect_closes_the_clients_of_all_nodes(redis, run):
    async def main():
        async with meeting(redis) as met:
            async with met.client("ann") as (first, _), met.client("ann") as (second, _):
                met.nodes[0].disconnect("ann", code=4401)
                await until(lambda: not first.state.open and not second.state.open)

    run(main())


def test_a_restart_of_the_engine_loses_nothing_that_was_sent(run):
    with Server(is_kept=True) as redis:

        async def main():
            async with meeting(redis) as met, met.client("ann") as (client, got):
                for n in range(30):
                    met.nodes[n % 2].send("ann", "t/news", n)
                    if n == 10:
                        await met.nodes[0].stored()
                        await met.nodes[1].stored()
                        redis.kill()
                        redis.start()
                    await asyncio.sleep(0.01)
                await until(lambda: len(got) == 30)
                assert sorted(got) == list(range(30))
                assert client.state.open

        run(main())


def test_without_the_engine_clients_are_refused_and_served_once_it_is_there(run):
    with Server() as redis:

        async def main():
            async with meeting(redis) as met:
                redis.kill()
                await until(lambda: not any(node.is_ready for node in met.nodes))
                with pytest.raises(chansock.HandshakeRefused, match="503"):
                    async with met.client("ann"):
                        pass
                redis.start()
                async with asyncio.timeout(LIMIT):
                    for node in met.nodes:
                        await node.ready()
                async with met.client("ann") as (client, _):
                    assert await client.send("t/echo", 1, timeout=LIMIT) == 1

        run(main())


def test_a_channel_waits_for_an_engine_that_starts_late(run, caplog):
    async def main(redis: Server):
        (chsk, _) = Cluster(redis, Config()).nodes
        serving = chansock.serve(chsk, port=0)
        starting = asyncio.ensure_future(serving.__aenter__())
        await until(lambda: "backplane_down" in caplog.text)
        chsk.send("ann", "t/news", 0)  # waits
        assert not chsk.is_ready
        redis.start()
        listener = await starting
        await chsk.ready()
        async with connect(f"http://127.0.0.1:{listener.port}/chsk?user=ann") as client:
            assert await client.send("t/echo", 1, timeout=LIMIT) == 1
        await serving.__aexit__(None, None, None)

    with Server() as redis:
        redis.kill()
        run(main(redis))


def test_a_client_without_positions_gets_what_waited_for_it_on_another_node(redis, run, transport):
    async def main():
        async with meeting(redis) as met:
            met.balancer.chosen = 0
            async with met.client("ann", config=PROMPT, resume=False, transport=transport) as (
                client,
                got,
            ):
                met.nodes[1].send("ann", "t/news", 0)
                await until(lambda: got == [0])
                met.balancer.is_open = False
                met.balancer.cut()
                await until(lambda: not client.state.open)
                met.nodes[1].send("ann", "t/news", 1)
                await met.nodes[1].stored()
                met.balancer.is_open, met.balancer.chosen = True, 1
                await until(lambda: client.state.open)
                met.nodes[0].send("ann", "t/news", 2)
                await until(lambda: got == [0, 1, 2])
                assert met.nodes[0].stats.lost.moved == 1

    run(main())


def test_a_wrong_address_is_told_at_the_start(run):
    async def main():
        with pytest.raises(BackplaneError):
            ChannelSocket(backplane="http://127.0.0.1")
        assert ChannelSocket(backplane=Redis("redis://127.0.0.1:1")).is_ready is False

    run(main())


PACKERS = {
    "EdnPacker": chansock.packers.EDN(),
    "JSON": chansock.packers.JSON(),
    "Gzip(EdnPacker)": chansock.packers.Gzip(chansock.packers.EDN()),
}


@pytest.mark.parametrize(("one", "another"), [("EdnPacker", "JSON"), ("JSON", "Gzip(EdnPacker)")])
def test_a_process_with_another_packer_is_no_part_of_the_channel(redis, run, caplog, one, another):
    """Two channels that have one name by mistake: neither hears the other, and both say so."""

    async def main():
        channels = [
            ChannelSocket(
                user_id=lambda request: request.params.get("user"),
                packer=PACKERS[name],
                backplane=redis.url,
            )
            for name in (one, another)
        ]
        got: list[list[Any]] = [[], []]
        async with AsyncExitStack() as stack:
            for name, chsk, heard in zip((one, another), channels, got, strict=True):
                served = await stack.enter_async_context(chansock.serve(chsk, port=0))
                url = f"http://127.0.0.1:{served.port}/chsk?user=ann"
                client = await stack.enter_async_context(connect(url, packer=PACKERS[name]))
                client.on("t/news", lambda event, heard=heard: heard.append(event.data))
            for number, chsk in enumerate(channels):
                chsk.send("ann", "t/news", number)
                await chsk.stored()
            for number, chsk in enumerate(channels):
                chsk.send(ALL, "t/news", 10 + number)
            await until(lambda: got == [[0, 10], [1, 11]])

    run(main())
    refused = {record.getMessage() for record in caplog.records if "entry_refused" in record.msg}
    said = "entry_refused: expected an envelope of the packer"
    assert refused == {f"{said} {one}, got {another}", f"{said} {another}, got {one}"}
