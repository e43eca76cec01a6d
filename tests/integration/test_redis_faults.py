"""What the engine for Redis and Valkey does when the server fails, or is not what it needs.

Real servers are killed, paused, emptied, and promoted. Each test says what nodes hear of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from front import Front
from heard import Heard, kept, until
from redis_server import KINDS, Server, free_port

from chansock._core.backplane import Position
from chansock._core.engine import Item
from chansock.backplanes.redis import Redis
from chansock.errors import BackplaneDown, BackplaneError, BackplaneFull

Drive = Callable[[Awaitable[Any]], Any]


@asynccontextmanager
async def nodes(
    url: str, number: int = 2, **options: Any
) -> AsyncIterator[list[tuple[Redis, Heard]]]:
    found: list[tuple[Redis, Heard]] = []
    try:
        for _ in range(number):
            engine, heard = Redis(url, **options), Heard()
            await engine.open(heard, keep_events=1000, keep_seconds=60.0)
            engine.subscribe("a")
            await engine.home("x")
            found.append((engine, heard))
        yield found
    finally:
        for engine, _ in found:
            await engine.close(0.5)


async def send(engine: Redis, first: int, last: int) -> None:
    """Send these numbers, one in each turn."""
    for number in range(first, last):
        engine.append(kept("a", str(number)))
        await asyncio.sleep(0)


def numbers(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last)]


async def all_heard(found: list[tuple[Redis, Heard]], last: int) -> None:
    for _, heard in found:
        await until(lambda heard=heard: len(heard.entries) >= last, f"{last} entries")
        assert heard.texts() == numbers(0, last)
        assert heard.lost == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_restart_with_its_data_loses_and_doubles_nothing(
    kind: str, drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "chansock.backplane")

    async def main(server: Server) -> None:
        async with nodes(server.url) as found:
            one = found[0][0]
            start = (await one.claim("c", [], None)).read.position
            one.enter("ada")
            await send(one, 0, 100)
            server.kill()
            await send(one, 100, 200)
            await until(lambda: not one.is_up)
            with pytest.raises(BackplaneDown):
                await one.claim("c", [], None)
            with pytest.raises(BackplaneDown):
                await one.home("c")
            assert one.unstored_bytes > 0
            server.start()
            await one.stored()
            await all_heard(found, 200)
            read = (await one.claim("c", ["a"], start)).read
            assert read.is_whole
            assert [entry.envelope.decode() for entry in read.entries] == numbers(0, 200)
            for _, heard in found:
                await until(lambda heard=heard: heard.states == [True, False, True])
                assert heard.changes == [("+", "ada", one.node_id)]
        levels = [record.levelname for record in caplog.records]
        assert levels.count("ERROR") == 2  # one for each node
        assert levels.count("INFO") == 2

    with Server(kind, is_kept=True) as server:
        drive(main(server))


@pytest.mark.parametrize("kind", KINDS)
def test_a_restart_without_data_is_a_new_epoch_and_no_loss_for_who_was_there(
    kind: str, drive: Drive
) -> None:
    async def main(server: Server) -> None:
        options = {"lease_seconds": 1.5, "grace_seconds": 0.5}
        async with nodes(server.url, 3, **options) as found:
            (one, heard), (other, others), (gone, _) = found
            one.enter("ada")
            other.enter("ben")
            other.enter("ada")
            gone.enter("cid")
            await send(one, 0, 50)
            await one.stored()
            old = (await one.claim("c", [], None)).read.position
            await until(lambda: others.members == heard.members == {"ada", "ben", "cid"})
            await all_heard(found, 50)
            server.kill()
            await gone.close(0.0)
            del found[2]
            await send(one, 50, 100)
            server.start()
            await one.stored()
            await all_heard(found, 100)
            one.leave("ada")
            one.enter("dan")
            assert not (await one.claim("c", ["a"], old)).read.is_whole
            assert await other.home("c") == one.node_id
            await until(lambda: others.members == heard.members == {"ada", "ben", "dan"})
            # cid's node did not come back; who was there all the time did not enter again.
            for each in (heard, others):
                assert [change[:2] for change in each.changes[-2:]] == [("+", "dan"), ("-", "cid")]
                assert len([change for change in each.changes if change[1] == "ada"]) == 1
            assert heard.changes == others.changes
            assert one.stats.epochs == 1

    with Server(kind) as server:
        drive(main(server))


def test_a_failover_that_lost_the_end_is_no_loss_for_who_was_there(drive: Drive) -> None:
    async def main(master: Server, replica: Server, front: Front) -> None:
        async with nodes(front.url) as found:
            one, other = found[0][0], found[1][0]
            await send(one, 0, 30)
            await one.stored()
            kept_position = (await one.claim("c", ["a"], None)).read.position
            offset = master.ask("INFO", "replication")["master_repl_offset"]
            replica.wait_for(
                lambda: replica.ask("INFO", "replication")["slave_repl_offset"] >= offset, "sync"
            )
            replica.ask("REPLICAOF", "NO", "ONE")  # it hears no more: the end is lost
            await send(one, 30, 60)
            await one.stored()
            await all_heard(found, 60)
            lost_position = (await one.claim("c", ["a"], None)).read.position
            front.turn_to(replica)
            master.kill()
            await send(other, 60, 90)
            await other.stored()
            await all_heard(found, 90)
            read = (await one.claim("c", ["a"], kept_position)).read
            assert read.is_whole
            # Those that were sent again may come after newer ones of other nodes.
            found_texts = sorted(entry.envelope.decode() for entry in read.entries)
            assert found_texts == numbers(30, 90)
            assert not (await one.claim("c", ["a"], lost_position)).read.is_whole
            assert one.stats.batches_repeated > 0
            assert one.stats.epochs == 1
            assert other.stats.repeats_dropped == 30

    with Server(port=free_port()) as master:
        with Server(replicaof=f"127.0.0.1 {master.config['port']}") as replica:
            replica.wait_for(
                lambda: replica.ask("INFO", "replication")["master_link_status"] == "up", "sync"
            )

            async def with_front() -> None:
                async with Front(master) as front:
                    await main(master, replica, front)

            drive(with_front())


@pytest.mark.parametrize("kind", KINDS)
def test_connections_that_are_cut_lose_and_double_nothing(kind: str, drive: Drive) -> None:
    async def main(server: Server) -> None:
        async with nodes(server.url, 3) as found:
            one, other = found[0][0], found[1][0]
            with server.client() as client:
                for turn in range(10):
                    await asyncio.gather(
                        send(one, turn * 50, turn * 50 + 50),
                        asyncio.to_thread(client.client_kill_filter, skipme=True),
                    )
                    other.enter(f"u{turn}")
            await one.stored()
            await all_heard(found, 500)
            for _, heard in found:
                await until(lambda heard=heard: len(heard.members) == 10)
                assert len(heard.changes) == 10

    with Server(kind) as server:
        drive(main(server))


def test_a_node_hears_which_clients_went_to_others_while_it_was_cut_off(drive: Drive) -> None:
    async def main(server: Server) -> None:
        async with nodes(server.url) as found:
            (one, heard), (other, others) = found
            for client in ("c", "d", "e", "f"):
                await one.claim(client, [], None)
            await other.claim("c", [], None)
            await other.claim("d", [], None)
            other.release("d", b"left")
            await other.claim("e", [], None)
            one.forget("e")
            await other.home("e")
            with server.client() as client:
                client.client_kill_filter(skipme=True)
            await until(lambda: heard.gone)
            assert heard.gone == ["c", "d"]
            assert await one.home("f") == one.node_id
            assert others.gone == []

    with Server() as server:
        drive(main(server))


def test_a_server_that_is_paused_is_noticed_and_heals(drive: Drive) -> None:
    async def main(server: Server) -> None:
        async with nodes(server.url) as found:
            one = found[0][0]
            one.enter("ada")
            await send(one, 0, 10)
            server.pause()
            try:
                await send(one, 10, 20)
                begin = asyncio.get_running_loop().time()
                await until(lambda: not one.is_up)
                assert asyncio.get_running_loop().time() - begin < 20
            finally:
                server.go_on()
            await one.stored()
            await all_heard(found, 20)
            assert [heard.changes for _, heard in found] == [[("+", "ada", one.node_id)]] * 2

    with Server() as server:
        drive(main(server))


def test_what_cannot_be_stored_waits_up_to_a_limit(drive: Drive) -> None:
    async def main(server: Server) -> None:
        async with nodes(server.url, 1, max_unstored_bytes=10_000) as [(one, heard)]:
            server.kill()
            await until(lambda: not one.is_up)
            for _ in range(10):
                one.append([Item("a", 1, True, b"x" * 1000)])
            with pytest.raises(BackplaneFull) as caught:
                one.append([Item("a", 1, True, b"x" * 1000)])
            assert caught.value.limit == 10_000
            server.start()
            await one.stored()
            assert len(heard.entries) == 10

    with Server() as server:
        drive(main(server))


def test_a_server_without_memory_refuses_whole_and_goes_on_when_it_has_some(
    drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(server: Server) -> None:
        async with nodes(server.url) as found:
            one = found[0][0]
            await send(one, 0, 10)
            await one.stored()
            server.ask("CONFIG", "SET", "maxmemory", 1)
            await send(one, 10, 30)
            await until(lambda: not one.is_up)
            assert all(len(heard.entries) == 10 for _, heard in found)
            server.ask("CONFIG", "SET", "maxmemory", 0)
            await one.stored()
            await all_heard(found, 30)
            assert found[0][1].states == [True, False, True]
            assert found[1][1].states == [True]
        assert len([one for one in caplog.records if one.levelname == "ERROR"]) == 1

    with Server() as server:
        drive(main(server))


def test_a_dead_node_leaves_and_comes_back_under_another_name(drive: Drive) -> None:
    async def main(server: Server) -> None:
        async with Front(server) as front:
            options = {"lease_seconds": 1.2, "grace_seconds": 0.3}
            slow = Redis(front.url, **options)
            heard = Heard()
            await slow.open(heard, keep_events=100, keep_seconds=60)
            slow.subscribe("a")
            await slow.claim("c", [], None)
            slow.enter("ada")
            async with nodes(server.url, 1, **options) as [(one, others)]:
                await until(lambda: "ada" in others.members)
                old = slow.node_id
                nowhere = Server()  # was never started
                front.turn_to(nowhere)
                await until(lambda: "ada" not in others.members)
                assert others.changes[-1] == ("-", "ada", one.node_id)
                assert await one.home("c") is None
                one.append(kept("a", "meanwhile"))
                slow.append(kept("a", "waited"))
                await one.stored()
                front.turn_to(server)
                await until(lambda: heard.replaced_count)
                assert slow.node_id != old
                await until(lambda: "ada" in others.members and "ada" in heard.members)
                assert others.changes[-1] == ("+", "ada", slow.node_id)
                assert heard.changes == [
                    ("+", "ada", old),
                    ("-", "ada", one.node_id),
                    ("+", "ada", slow.node_id),
                ]
                await slow.stored()
                assert heard.texts() == ["meanwhile", "waited"]
                assert one.stats.leases_ended == 1
                one.call(slow.node_id, b"hello")
                await until(lambda: heard.calls)
            await slow.close(1.0)

    with Server() as server:
        drive(main(server))


def test_a_log_lasts_for_its_full_time_after_each_event(drive: Drive) -> None:
    keep = 1.6  # its time is renewed once in 0.1 s at most

    async def main(server: Server) -> None:
        engine, heard = Redis(server.url), Heard()
        await engine.open(heard, keep_events=1000, keep_seconds=keep)
        loop = asyncio.get_running_loop()
        for number in range(60):
            appended = loop.time()
            await send(engine, number, number + 1)
            await engine.stored()
            left = server.ask("PTTL", "chsk:{chansock}:t:a") / 1000
            assert keep <= left + loop.time() - appended
            await asyncio.sleep(0.01)
        await engine.close(0.5)
        renewed = server.ask("INFO", "commandstats")["cmdstat_pexpire"]["calls"]
        assert 2 <= renewed < 60

    with Server() as server:
        drive(main(server))


def test_entries_that_are_none_are_dropped_and_counted(
    drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(server: Server) -> None:
        async with nodes(server.url, 1) as [(one, heard)]:
            for text in ("", "x", "1:2:3", "a:b:c:d:e"):
                server.ask("PUBLISH", "chsk:{chansock}:c:a", text)
            server.ask("PUBLISH", "chsk:{chansock}:p", "1:2")
            await send(one, 0, 1)
            await one.stored()
            assert heard.texts() == ["0"]
            assert one.stats.entries_refused == 5
        assert len([one for one in caplog.records if "entry_refused" in one.message]) == 1

    with Server() as server:
        drive(main(server))


def test_entries_that_were_written_without_the_secret_are_dropped_and_counted(
    drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "sixteen bytes at least"

    async def main(server: Server) -> None:
        async with nodes(server.url, 2, secret=secret) as [(one, heard), (other, others)]:
            await send(one, 0, 1)
            await one.stored()
            assert (heard.texts(), others.texts()) == (["0"], ["0"])
            (stored,) = server.ask("LRANGE", "chsk:{chansock}:t:a", 0, -1)
            head, text = stored[:-17], stored[-17:]
            assert text.endswith("0")
            forged = head.rpartition(":")[0].rpartition(":")[0] + ":2:"
            one.subscribe("b")
            await until(lambda: server.ask("PUBSUB", "NUMSUB", "chsk:{chansock}:c:b")[1])
            for key, entry in (("a", f"{forged}1"), ("a", f"{forged}{text[:-1]}1"), ("b", stored)):
                server.ask("PUBLISH", f"chsk:{{chansock}}:c:{key}", entry)
            server.ask("PUBLISH", f"chsk:{{chansock}}:n:{one.node_id}", f"{other.node_id}:hi")
            await until(lambda: one.stats.entries_refused == 4)
            # What others wrote takes no place: the node's own event comes after it.
            await send(one, 1, 2)
            await one.stored()
            other.call(one.node_id, b"ho")
            await until(lambda: heard.calls)
            assert (heard.texts(), others.texts()) == (["0", "1"], ["0", "1"])
            assert heard.calls == [(other.node_id, b"ho")]
            await one.claim("x", ["a"], None)
            one.release("x", b"its state")
            assert (await other.claim("x", ["a"], None)).state == b"its state"
            server.ask("RPUSH", "chsk:{chansock}:t:a", f"{forged}{'x' * 17}")
            start = Position(int(head.partition(":")[0]), 0)
            read = (await other.claim("y", ["a"], start)).read
            assert [entry.envelope for entry in read.entries] == [b"0", b"1"]
        assert len([one for one in caplog.records if "entry_refused" in one.message]) == 2

    class Raw(Server):
        def client(self, **options: Any) -> Any:
            return super().client(encoding="latin-1", **options)

    with Raw() as server:
        drive(main(server))
    with pytest.raises(ValueError, match="secret: expected at least 16 bytes, got 5"):
        Redis(server.url, secret="short")


# -- what waiting cannot mend


def refused(drive: Drive, url: str, **options: Any) -> str:
    async def main() -> None:
        await Redis(url, **options).open(Heard(), keep_events=1, keep_seconds=1.0)

    with pytest.raises(BackplaneError) as caught:
        drive(main())
    return str(caught.value)


def test_an_engine_that_starts_late_is_waited_for(
    drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(server: Server) -> None:
        engine = Redis(server.url)
        opening = asyncio.ensure_future(engine.open(Heard(), keep_events=1, keep_seconds=1.0))
        await until(lambda: "backplane_down" in caplog.text)
        assert not opening.done()
        server.start()
        await opening
        assert engine.is_up
        await engine.close(1.0)

    with Server() as server:
        server.kill()
        drive(main(server))


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_password_is_said_at_open(kind: str, drive: Drive) -> None:
    with Server(kind, requirepass="right") as server:
        for url in (server.url, f"unix://:wrong@{server.path}"):
            text = refused(drive, url)
            assert "refused the login" in text and "redis://user:password@host" in text
            assert "wrong@" not in text

        async def main() -> None:
            engine = Redis(server.url, password="right")
            await engine.open(Heard(), keep_events=1, keep_seconds=1.0)
            await engine.close(1.0)

        drive(main())


def test_what_a_lost_connection_still_carries_is_not_carried_out(drive: Drive) -> None:
    """A node gives a client up, loses its connection, and claims the client again."""

    async def main(server: Server) -> None:
        async with Front(server) as front, nodes(front.url, 1) as [(one, _)]:
            await one.claim("c", [], None)
            front.hold()
            one.release("c", b"left")
            await until(lambda: front.held)
            await until(lambda: not one.is_up)
            await until(lambda: one.is_up)
            assert (await one.claim("c", [], None)).state == b"left"
            front.let_go()
            await until(lambda: not front.held)
            server.ask("PING")
            assert await one.home("c") == one.node_id

    with Server() as server:
        drive(main(server))


def test_a_policy_that_evicts_is_said_at_open(drive: Drive) -> None:
    with Server(maxmemory_policy="allkeys-lru") as server:
        text = refused(drive, server.url)
    assert "set `maxmemory-policy noeviction`" in text and "allkeys-lru" in text


def test_a_right_that_is_missing_is_said_at_open(
    drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    rights = ["~chsk:{chansock}:*", "&chsk:{chansock}:*", "+@all", "-@dangerous", "+info"]
    rights.append("+client|kill")

    async def main(server: Server) -> None:
        async with nodes(server.url, 1, username="ann", password="pw") as [(one, heard)]:
            await send(one, 0, 1)
            await one.stored()
            assert heard.texts() == ["0"]

    with Server() as server:
        server.ask("ACL", "SETUSER", "ann", "on", ">pw", *rights)
        drive(main(server))
        assert "policy_unknown" in caplog.text
        for missing in (
            *("-publish", "-rpush", "-evalsha", "-subscribe", "-client|kill", "resetchannels"),
        ):
            server.ask("ACL", "SETUSER", "ann", "reset", "on", ">pw", *rights, missing)
            text = refused(drive, server.url, username="ann", password="pw")
            assert "ACL SETUSER" in text or "permission" in text, missing


@asynccontextmanager
async def fake(answer: bytes, port: int = 0) -> AsyncIterator[str]:
    """Listen, and answer whatever comes with this."""
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read(100)
        writer.write(answer)

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0)  # the loop closes them in the next turn


@pytest.mark.parametrize(
    "answer",
    [
        b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n6.2.14\r\n",
        b"%2\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n$5\r\n7.1.0\r\n",
        b"-ERR unknown command `HELLO`, with args beginning with: `3`\r\n",
    ],
)
def test_an_old_version_is_said_at_open(answer: bytes, drive: Drive) -> None:
    async def main() -> None:
        async with fake(answer) as url:
            with pytest.raises(BackplaneError, match=r"expected Redis 7.0 or Valkey 7.2"):
                await Redis(url).open(Heard(), keep_events=1, keep_seconds=1.0)

    drive(main())


def test_an_answer_that_is_none_ends_the_connection_and_is_tried_again(drive: Drive) -> None:
    async def main(real: Server) -> None:
        async with Front(real) as front, nodes(front.url, 1) as [(one, heard)]:
            front.listener.close()
            front.cut()
            async with fake(b"HTTP/1.1 400 Bad Request\r\n\r\n", front.port):
                await until(lambda: not one.is_up)
                await send(one, 0, 5)
                await asyncio.sleep(0.2)  # time for some attempts
            front.listener = await asyncio.start_server(front.accept, "127.0.0.1", front.port)
            await one.stored()
            assert heard.texts() == numbers(0, 5)

    with Server() as real:
        drive(main(real))


def test_an_url_that_is_none_is_refused() -> None:
    for url in ("http://x", "redis+sentinel://a:1,b:2", "nonsense", "redis://x:port"):
        with pytest.raises(BackplaneError, match="URL"):
            Redis(url)


def test_nodes_that_claimed_a_client_in_vain_are_named_up_to_a_limit(drive: Drive) -> None:
    async def main(server: Server) -> None:
        async with nodes(server.url, 11) as found:
            claims = [await one.claim("c", [], None) for one, _ in found]
            ids = [one.node_id for one, _ in found]
            assert [claim.before for claim in claims] == [None, *ids[:-1]]
            assert [claim.others for claim in claims[:4]] == [(), (), (ids[0],), (ids[1], ids[0])]
            assert claims[8].others == tuple(reversed(ids[:7]))
            assert not any(claim.has_dead for claim in claims[:9])
            # Past the limit, the oldest are forgotten, but not that there were more.
            for claim in claims[9:]:
                assert len(claim.others) == 6
                assert claim.has_dead
            last = found[-1][0]
            last.opened("c")
            claim = await found[0][0].claim("c", [], None)
            assert (claim.before, claim.others, claim.has_dead) == (last.node_id, (), False)

    with Server() as server:
        drive(main(server))


def test_positions_of_two_engines_are_never_the_same(drive: Drive) -> None:
    async def main(server: Server) -> None:
        async with nodes(server.url, 1) as [(one, _)]:
            first: Position = (await one.claim("c", [], None)).read.position
            server.ask("FLUSHALL")
            await until(lambda: one.stats.epochs == 1 and one.is_up)
            second = (await one.claim("c", [], None)).read.position
            assert second.epoch > first.epoch

    with Server() as server:
        drive(main(server))
