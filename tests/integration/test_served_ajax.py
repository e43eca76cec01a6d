"""The channel's Ajax under every server that can carry it, by a peer of bytes alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import peer
import pytest
from peer import Peer
from raw import DUMMY, Run
from servers import Served, post, target, user, who
from servers.application import LIMIT

from chansock import Keyword, packers


class Poll:
    """A GET that is parked, on a connection of its own."""

    def __init__(self, wire: Peer) -> None:
        self.wire = wire
        self.answer = asyncio.create_task(wire.answer())

    @classmethod
    async def park(cls, served: Served, client_id: str, channel: str = "chsk") -> Poll:
        """Send it, and come back when the server has it."""
        wire = await Peer.connect(served.ports[channel])
        await wire.send(peer.request("GET", target(client_id, channel), host=wire.host))
        await is_in(served, client_id, "true", channel)
        return cls(wire)

    async def text(self) -> str:
        answer = await self.answer
        await self.wire.close()
        assert answer.status == 200, answer
        return answer.text

    async def leave(self, how: str) -> None:
        """Go without an answer, by `fin` or `reset`."""
        self.answer.cancel()
        await asyncio.gather(self.answer, return_exceptions=True)
        getattr(self.wire, how)()
        rest = await self.wire.rest()
        # hypercorn sends the answer of one that left to a peer that only stopped sending.
        assert rest == b"" or rest.startswith(b"HTTP/1.1 499 ")
        await self.wire.close()


async def is_in(served: Served, client_id: str, answer: str, channel: str = "chsk") -> None:
    event = f'[:served/is-in [:ajax "{user(client_id)}"]]'
    await served.until(event, f"[{answer} nil]", channel)


def test_connect_is_a_handshake_that_is_answered_at_once(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            me = who("alice")
            answer = await alice.ask("GET", target(me, **{"handshake?": "1"}))
            assert answer.status == 200
            assert answer.text == f'[[:chsk/handshake ["{user(me)}" nil nil]] nil]'
            assert answer.header("content-type") == "application/edn"
            assert answer.header("x-content-type-options") == "nosniff"
            assert answer.header("cache-control") == "no-store"

    drive(main())


def test_connection_is_kept_for_one_request_after_the_other(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            me = who("alice")
            await served.shake(alice, me)
            for i in range(5):
                answer = await post(alice, me, f"[[:test/req {i}] :ajax]")
                assert (answer.status, answer.text) == (200, f"[{i} nil]")

    drive(main())


def test_post_without_callback_is_answered_dummy_and_its_push_comes_by_the_poll(
    served: Served, drive: Run
) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            me = who("alice")
            await served.shake(alice, me)
            poll = await Poll.park(served, me)
            answer = await post(alice, me, "[[:test/echo {:a 1}] nil]")
            assert (answer.status, answer.text) == (200, DUMMY)
            assert await poll.text() == "[[[:test/echo {:a 1}]] nil]"

    drive(main())


@pytest.mark.parametrize("event", ["req", "req-slow"])
def test_post_with_callback_is_answered_with_the_reply(
    served: Served, event: str, drive: Run
) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            me = who("alice")
            await served.shake(alice, me)
            answer = await post(alice, me, f'[[:test/{event} {{:x [1 "é & +%" 3]}}] :ajax]')
            assert (answer.status, answer.text) == (200, '[{:x [1 "é & +%" 3]} nil]')

    drive(main())


def test_handler_that_raises_answers_error(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            answer = await post(alice, who("alice"), "[[:test/throw] :ajax]")
            assert (answer.status, answer.text) == (200, "[:chsk/error nil]")

    drive(main())


def test_handlers_see_the_request_of_the_post(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            fields = [
                ("X-Told", "by the page"),
                ("Cookie", "a=b; crumb=of bread"),
                ("Content-Type", "application/x-www-form-urlencoded"),
            ]
            form = [("client-id", who("alice")), ("ppstr", "[[:served/request] :ajax]")]
            body = peer.urlencoded(form).encode()
            answer = await alice.ask("POST", "/chsk", fields, body)
            assert answer.text == (
                '[["POST" "/chsk" "http" "127.0.0.1" "by the page" "of bread"] nil]'
            )

    drive(main())


def test_pushes_of_a_client_come_in_order_over_its_polls(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice, served.peer() as wire:
            me = who("alice")
            await served.shake(alice, me)
            got: list[str] = []
            for i in range(10):
                await post(wire, me, f"[[:test/echo {i}] nil]")
            while len(got) < 10:
                answer = await alice.ask("GET", target(me))
                assert answer.status == 200, answer
                got += [event.strip(" []") for event in answer.text[2:-6].split("] [")]
            assert got == [f":test/echo {i}" for i in range(10)]

    drive(main())


def test_push_between_handshake_and_poll_waits_for_the_poll(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            me = who("alice")
            await served.shake(alice, me)
            await post(alice, who("bob"), f'[[:test/push-to {{:uid "{user(me)}" :data 1}}] nil]')
            answer = await alice.ask("GET", target(me))
            assert answer.text == "[[[:test/pushed 1]] nil]"

    drive(main())


def test_poll_with_nothing_to_say_gets_timeout(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer("quick") as alice:
            me = who("alice")
            await served.shake(alice, me, "quick")
            answer = await alice.ask("GET", target(me, "quick"))
            assert (answer.status, answer.text) == (200, "[:chsk/timeout nil]")

    drive(main())


def test_post_that_nobody_answers_gets_timeout(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer("quick") as alice:
            answer = await post(alice, who("alice"), "[[:test/no-reply] :ajax]", "quick")
            assert (answer.status, answer.text) == (200, "[:chsk/timeout nil]")

    drive(main())


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_poll_that_is_dropped_is_noticed_and_its_pushes_wait(
    served: Served, how: str, drive: Run
) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            me = who("alice")
            await served.shake(alice, me)
            poll = await Poll.park(served, me)
            await poll.leave(how)
            await served.until_all(f'[:served/polls "{me}"]', "[false nil]")
            # Had the poll taken it, it would be lost.
            packet = f'[[:test/push-to {{:uid "{user(me)}", :data 1}}] nil]'
            assert (await post(alice, who("bob"), packet)).status == 200
            answer = await alice.ask("GET", target(me))
            assert answer.text == "[[[:test/pushed 1]] nil]"

    drive(main())


def test_peer_that_leaves_its_post_costs_nobody_a_thing(served: Served, drive: Run) -> None:
    async def main() -> None:
        me = who("alice")
        async with served.peer() as alice:
            body = peer.urlencoded([("client-id", me), ("ppstr", "[[:served/hold 1] :ajax]")])
            kind = ("Content-Type", "application/x-www-form-urlencoded")
            await alice.send(peer.request("POST", "/chsk", [kind], body.encode()))
            lost = await served.count("reply_lost")
            await served.until(f'[:served/holds "{user(me)}"]', "[true nil]")
            alice.reset()
            await served.until_all("[:served/posts]", "[1 nil]")
        await served.until(f'[:served/go "{user(me)}"]', "[true nil]")
        await served.until_count("reply_lost", lost + 1)

    drive(main())


def test_body_past_the_limit_is_413(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            # Within what a percent-encoded body may have, and the packet is too long.
            packet = f'[[:test/req "{"x" * LIMIT}"] :ajax]'
            assert (await post(alice, who("alice"), packet)).status == 413
        async with served.peer() as alice:
            length = ("Content-Length", str(4 * LIMIT))
            answer = await alice.ask("POST", target(who("alice")), [length], b"x" * 4 * LIMIT)
            assert answer.status == 413

    drive(main())


async def post_raw(
    wire: Peer, client_id: str, packet: str, kind: str | None = "application/edn", **more: str
) -> peer.Answer:
    fields = [] if kind is None else [("Content-Type", kind)]
    where = target(client_id, **{"raw": "true", **more})
    return await wire.ask("POST", where, fields, packet.encode())


RAW_TYPES = [
    "application/edn",
    "application/edn; charset=utf-8",
    "application/json",
    "application/transit+json",
]


@pytest.mark.parametrize("kind", RAW_TYPES)
def test_raw_body_is_a_packet_of_a_text_packer(served: Served, kind: str, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            me = who("alice")
            answer = await post_raw(alice, me, '[[:test/req "\u6f22%&+=\u5b57"] :ajax]', kind)
            assert (answer.status, answer.text) == (200, '["\u6f22%&+=\u5b57" nil]')
            answer = await post_raw(alice, me, "[[:test/sink] nil]", kind)
            assert (answer.status, answer.text) == (200, DUMMY)

    drive(main())


def test_raw_bodies_are_numbered_as_forms_are(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            me = who("alice")
            await alice.ask("GET", target(me, udt="7", **{"handshake?": "1"}))
            packet = "[[:test/req 1] :ajax]"
            answer = await post_raw(alice, me, packet, n="7-1")
            assert (answer.status, answer.text) == (200, "[1 nil]")
            answer = await post_raw(alice, me, packet, n="7-1")
            assert (answer.status, answer.text) == (200, "[:chsk/timeout nil]")
            assert (await post_raw(alice, me, packet, n="6-1")).status == 410

    drive(main())


# What a page of any origin can send without asking first.
SIMPLE_TYPES = [
    None,
    "",
    "text/plain",
    "Text/Plain;charset=UTF-8",
    "multipart/form-data; boundary=b",
]


@pytest.mark.parametrize("kind", SIMPLE_TYPES)
def test_raw_body_that_any_page_could_send_is_415(
    served: Served, kind: str | None, drive: Run
) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            answer = await post_raw(alice, who("alice"), "[[:test/req 1] :ajax]", kind)
            if served.name == "daphne" and answer.status == 400:
                return  # Twisted parses multipart itself, and this is none
            assert answer.status == 415
            assert "application/edn" in answer.text

    drive(main())


def test_form_is_read_as_a_form_whatever_its_query_has(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            body = peer.urlencoded([("ppstr", "[[:test/req 7] :ajax]")])
            kind = "application/x-www-form-urlencoded;charset=UTF-8"
            answer = await post_raw(alice, who("alice"), body, kind)
            assert (answer.status, answer.text) == (200, "[7 nil]")

    drive(main())


def test_raw_body_past_max_message_bytes_is_413(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            me, rest = who("alice"), len('[[:test/req ""] :ajax]')
            packet = f'[[:test/req "{"x" * (LIMIT - rest)}"] :ajax]'
            assert (await post_raw(alice, me, packet)).status == 200
            assert (await post_raw(alice, me, packet + " ")).status == 413

    drive(main())


def test_chunked_body_is_taken(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            form = [("client-id", who("alice")), ("ppstr", "[[:test/req 7] :ajax]")]
            body = peer.urlencoded(form).encode()
            fields = [
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("Transfer-Encoding", "chunked"),
            ]
            await alice.send(peer.request("POST", "/chsk", fields, host=alice.host))
            for part in (body[:10], body[10:], b""):
                await alice.send(b"%x\r\n%s\r\n" % (len(part), part))
            answer = await alice.answer()
            assert (answer.status, answer.text) == (200, "[7 nil]")

    drive(main())


def test_what_is_no_packet_is_400(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            answer = await post(alice, who("alice"), "[[:test/req")
            assert answer.status == 400
            assert "expected" in answer.text

    drive(main())


def test_binary_packets_of_messagepack_come_and_go(served: Served, drive: Run) -> None:
    async def main() -> None:
        packer = packers.MessagePack()
        unpack: Callable[[bytes], object] = lambda body: packer.unpack(memoryview(body))[0]  # noqa: E731
        async with served.peer("packed") as alice:
            me = who("alice")
            found = await alice.ask("GET", target(me, "packed", **{"handshake?": "1"}))
            assert found.header("content-type") == "application/octet-stream"
            assert unpack(found.body)[0] == "chsk/handshake"  # type: ignore[index]
            value = {"n": 1, "bytes": b"\0\xff" * 1000}
            packet = packer.packet([Keyword("test/req"), value], Keyword("ajax"))
            kind = ("Content-Type", "application/octet-stream")
            where = target(me, "packed", **{"binary?": "true"})
            found = await alice.ask("POST", where, [kind], packet)
            assert found.status == 200
            assert unpack(found.body) == value

    drive(main())


def test_poll_that_does_not_wait_is_answered_at_once_and_keeps_the_session(
    served: Served, drive: Run
) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            me = who("alice")
            await served.shake(alice, me)
            for number in range(3):
                answer = await alice.ask("GET", target(me, wait="0"))
                assert (answer.status, answer.text) == (200, "[:chsk/timeout nil]")
                await is_in(served, me, "true")  # present between its polls, too
                await post(alice, me, f"[[:test/echo {number}] nil]")
                answer = await alice.ask("GET", target(me, wait="0"))
                assert (answer.status, answer.text) == (200, f"[[[:test/echo {number}]] nil]")
            poll = await Poll.park(served, me)  # and an ordinary one parks
            await post(alice, me, "[[:test/echo 7] nil]")
            assert await poll.text() == "[[[:test/echo 7]] nil]"

    drive(main())


def test_disconnect_ends_the_poll_with_503(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            me = who("alice")
            await served.shake(alice, me)
            poll = await Poll.park(served, me)
            await post(alice, who("bob"), f'[[:served/close ["{user(me)}" 1000 ""]] nil]')
            assert (await poll.answer).status == 503
            await poll.wire.close()

    drive(main())


def test_change_of_transport_keeps_the_order(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            me = who("alice")

            async def push(number: int) -> None:
                packet = f'[[:test/push-to {{:uid "{user(me)}", :data {number}}}] nil]'
                assert (await post(alice, who("bob"), packet)).status == 200

            async with served.socket(me) as socket:
                await push(1)
                assert await socket.text() == "[[[:test/pushed 1]] nil]"
                await socket.bye()
                await socket.rest()
            await push(2)
            await served.shake(alice, me)
            await push(3)
            text = (await alice.ask("GET", target(me))).text
            if served.server.processes > 1 and text == "[[[:test/pushed 2]] nil]":
                # Bob's worker was answered before the event had come back from the engine.
                answer = await alice.ask("GET", target(me))
                assert answer.text == "[[[:test/pushed 3]] nil]"
            else:
                assert text == "[[[:test/pushed 2] [:test/pushed 3]] nil]"
            await push(4)
            async with served.socket(me) as socket:
                assert await socket.text() == "[[[:test/pushed 4]] nil]"

    drive(main())
