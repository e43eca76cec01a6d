"""The channel's WebSocket under every server that can carry it, by a peer of bytes alone."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack

import peer
import pytest
from peer import CLOSE, PING, PONG, TEXT, Peer
from raw import Run
from servers import Served, post, target, user, who
from servers.application import LIMIT

from chansock import Keyword, packers


def test_socket_opens_with_the_handshake_as_first_message(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            me = who("alice")
            assert (await alice.upgrade(target(me))).status == 101
            assert await alice.text() == f'[[:chsk/handshake ["{user(me)}" nil nil]] nil]'

    drive(main())


def test_client_without_a_user_shakes_hands_as_nil_uid(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as nobody:
            assert (await nobody.upgrade("/chsk?client-id=abc")).status == 101
            assert await nobody.text() == "[[:chsk/handshake [:sente/nil-uid nil nil]] nil]"

    drive(main())


def test_event_is_handled_and_a_push_comes_back(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.socket(who("alice")) as alice:
            await alice.say('[[:test/echo {:a 1, :b [1.5 nil "é" #{:k}]}] nil]')
            assert await alice.text() == '[[[:test/echo {:a 1, :b [1.5 nil "é" #{:k}]}]] nil]'

    drive(main())


def test_pipelined_requests_are_answered_in_order(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.socket(who("alice")) as alice:
            kinds = ["req-slow", "req", "req-slow", "req", "req"] * 8
            frames = [peer.frame(TEXT, f'[[:test/{id} {i}] "{i}"]') for i, id in enumerate(kinds)]
            await alice.send(b"".join(frames))
            for i in range(len(kinds)):
                assert await alice.text() == f'[{i} "{i}"]'

    drive(main())


def test_push_and_reply_stand_in_the_order_made(served: Served, drive: Run) -> None:
    served.needs("packets")

    async def main() -> None:
        async with served.socket(who("alice")) as alice:
            for i in range(20):
                await alice.say(f'[[:test/push-then-reply {i}] "c{i}"]')
            for i in range(20):
                assert await alice.text() == f"[[[:test/pushed {i}]] nil]"
                assert await alice.text() == f'[{i} "c{i}"]'

    drive(main())


def test_no_reply_comes_before_what_its_handler_pushed(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.socket(who("alice")) as alice:
            for i in range(20):
                await alice.say(f'[[:test/push-then-reply {i}] "c{i}"]')
            pushes: list[int] = []
            replies = 0
            while replies < 20:
                text = await alice.text()
                if text == f'[{replies} "c{replies}"]':
                    assert replies in pushes
                    replies += 1
                else:
                    pushes += map(int, re.findall(r":test/pushed (\d+)", text))
            assert pushes == list(range(20))

    drive(main())


def test_pushes_come_in_their_order_however_they_are_flushed(served: Served, drive: Run) -> None:
    served.needs("packets")

    async def main() -> None:
        async with served.socket(who("alice")) as alice:
            await alice.say("[[:test/flush] nil]")
            assert await alice.text() == "[[[:test/pushed 1] [:test/pushed 2]] nil]"
            assert await alice.text() == "[[[:test/pushed 3]] nil]"

    drive(main())


def test_broadcast_reaches_everybody_and_a_push_all_sockets_of_its_user(
    served: Served, drive: Run
) -> None:
    async def main() -> None:
        name, other = user(who("alice")), who("bob")
        async with (
            served.socket(f"{name}/1") as one,
            served.socket(f"{name}/2") as two,
            served.socket(other) as bob,
        ):
            await bob.say(f'[[:test/push-to {{:uid "{name}", :data 1}}] nil]')
            for socket in (one, two):
                assert await socket.text() == "[[[:test/pushed 1]] nil]"
            await one.say("[[:test/bcast {:n 2}] nil]")
            for socket in (one, two, bob):
                assert await socket.text() == "[[[:test/bcast {:n 2}]] nil]"

    drive(main())


def test_a_handshake_beside_a_flood_is_its_own_users(served: Served, drive: Run) -> None:
    async def main() -> None:
        costly = "[" * 400 + "]" * 400
        flood = peer.frame(TEXT, f"[[:test/req [{costly * 70}]] nil]") * 40

        async def join(name: str) -> str:
            async with served.peer() as one:
                assert (await one.upgrade(target(name))).status == 101
                return await one.text()

        async with AsyncExitStack() as stack:
            many = [await stack.enter_async_context(served.socket(who("mallory"))) for _ in "abc"]
            sending = [asyncio.create_task(one.send(flood)) for one in many]
            for name in [who(f"guest{i}") for i in range(20)]:
                shaken = f'[[:chsk/handshake ["{user(name)}" nil nil]] nil]'
                assert await asyncio.gather(*[join(name) for _ in "ab"]) == [shaken, shaken]
            await asyncio.gather(*sending)

    drive(main())


def test_handler_that_raises_answers_error_and_the_socket_goes_on(
    served: Served, drive: Run
) -> None:
    async def main() -> None:
        async with served.socket(who("alice")) as alice:
            await alice.say('[[:test/throw] "t"]')
            assert await alice.text() == '[:chsk/error "t"]'
            await alice.say('[[:test/req 1] "a"]')
            assert await alice.text() == '[1 "a"]'

    drive(main())


def test_handlers_see_the_request_that_opened_the_socket(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            fields = [("X-Told", "by the page"), ("Cookie", "a=b; crumb=of bread")]
            assert (await alice.upgrade(target(who("alice")), fields)).status == 101
            await alice.text()
            await alice.say('[[:served/request] "r"]')
            assert await alice.text() == (
                '[["GET" "/chsk" "http" "127.0.0.1" "by the page" "of bread"] "r"]'
            )

    drive(main())


def test_offered_subprotocol_is_answered_and_its_token_is_not(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.peer() as alice:
            offer = [("Sec-WebSocket-Protocol", "chansock, csrf.token-of-the-page")]
            answer = await alice.upgrade(target(who("alice"), csrf="1"), offer)
            assert answer.status == 101
            assert answer.header("sec-websocket-protocol") == "chansock"

    drive(main())


@pytest.mark.parametrize("size", [125, 126, LIMIT // 2, LIMIT])
def test_message_up_to_the_limit_comes_back(served: Served, size: int, drive: Run) -> None:
    async def main() -> None:
        async with served.socket(who("alice")) as alice:
            text = "x" * (size - len('[[:test/req ""] "a"]'))
            await alice.say(f'[[:test/req "{text}"] "a"]')
            assert await alice.text() == f'["{text}" "a"]'

    drive(main())


def test_message_past_the_limit_closes_1009(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.socket(who("alice")) as alice:
            await alice.say(" " * (LIMIT + 1))
            last = await alice.frame()
            assert (last.opcode, last.code) == (CLOSE, served.closes(1009)[0])

    drive(main())


def test_what_is_no_packet_is_dropped_and_counted(served: Served, drive: Run) -> None:
    async def main() -> None:
        before = await served.count("bad_packet")
        async with served.socket(who("alice")) as alice:
            await alice.say("[[:test/req")
            await alice.say('[[:test/req 1] "a"]')
            assert await alice.text() == '[1 "a"]'
        assert await served.count("bad_packet") == before + 1

    drive(main())


def test_protocol_ping_is_answered_with_its_payload(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.socket(who("alice")) as alice:
            await alice.send(peer.frame(PING, "hi"))
            found = await alice.frame()
            while found.opcode == PING:  # of a server that pings, too
                found = await alice.frame()
            assert found == peer.Frame(PONG, b"hi")

    drive(main())


def test_binary_packets_of_messagepack_come_and_go(served: Served, drive: Run) -> None:
    async def main() -> None:
        packer = packers.MessagePack()
        async with served.peer("packed") as alice:
            assert (await alice.upgrade(target(who("alice"), "packed"))).status == 101
            first = await alice.frame()
            assert first.opcode == peer.BINARY
            assert packer.unpack(memoryview(first.payload))[0][0] == "chsk/handshake"
            value = {"n": 1, "bytes": b"\0\xff"}
            await alice.send(
                peer.frame(peer.BINARY, packer.packet([Keyword("test/req"), value], "cb"))
            )
            found = await alice.frame()
            assert found.opcode == peer.BINARY
            assert packer.unpack(memoryview(found.payload)) == (value, "cb")

    drive(main())


# -- how it ends


def test_close_of_the_peer_is_answered_and_its_code_is_counted(served: Served, drive: Run) -> None:
    async def main() -> None:
        for code in (1000, 3000):
            before = await served.count(f"closed.{code}")
            async with served.socket(who("alice")) as alice:
                assert (await alice.bye(code)).opcode == CLOSE
                assert await alice.rest() == b""
            served.needs("close_code")
            await served.until_count(f"closed.{code}", before + 1)

    drive(main())


@pytest.mark.parametrize("code", [1000, 4401])
def test_disconnect_closes_with_its_code_behind_what_was_sent(
    served: Served, code: int, drive: Run
) -> None:
    async def main() -> None:
        before = await served.count(f"closed.{code}")
        me = who("alice")
        async with served.socket(me) as alice:
            await alice.say(f'[[:test/push-to {{:uid "{user(me)}", :data 1}}] nil]')
            await alice.say(f'[[:served/close ["{user(me)}" {code} "so it is"]] nil]')
            assert await alice.text() == "[[[:test/pushed 1]] nil]"
            last = await alice.frame()
            assert last.opcode == CLOSE
            assert (last.code, last.reason) == served.closes(code, "so it is")
            await alice.send(peer.frame(CLOSE, last.payload))
            assert await alice.rest() == b""
        await served.until_count(f"closed.{code}", before + 1)

    drive(main())


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_socket_that_is_cut_is_counted(served: Served, how: str, drive: Run) -> None:
    async def main() -> None:
        before = await served.count("cut", "quick")
        me = who("alice")
        async with served.socket(me, "quick") as alice:
            getattr(alice, how)()
            await served.until_count("cut", before + 1, "quick")
            await served.until(f'[:served/is-in [:ws "{user(me)}"]]', "[false nil]", "quick")
            await alice.rest()

    drive(main())


def test_silent_client_is_pinged_and_then_closed_1011(served: Served, drive: Run) -> None:
    async def main() -> None:
        async with served.socket(who("alice"), "quick") as alice:
            assert await alice.text() == "[:chsk/ws-ping nil]"
            last = await alice.frame()
            assert (last.opcode, last.code) == (CLOSE, served.closes(1011)[0])

    drive(main())


# -- who is slow


def test_client_whose_handler_lags_is_not_read_and_loses_nothing(
    served: Served, drive: Run
) -> None:
    async def main() -> None:
        me = who("alice")
        async with served.socket(me) as alice:
            await alice.say('[[:served/hold "held"] "h"]')
            for i in range(200):
                await alice.say(f'[[:test/req {i}] "{i}"]')
            await served.until(f'[:served/go "{user(me)}"]', "[true nil]")
            assert await alice.text() == '["held" "h"]'
            for i in range(200):
                assert await alice.text() == f'[{i} "{i}"]'

    drive(main())


def test_client_that_does_not_read_loses_its_events_and_is_closed_1013(
    served: Served, drive: Run
) -> None:
    async def main() -> None:
        me = who("alice")
        before = await served.count("lost.too_slow", "quick")
        async with served.socket(me, "quick") as alice:
            # More than the kernel takes at both ends, and the server and its limits besides.
            count = 0
            while await served.count("lost.too_slow", "quick") == before:
                await served.ask(f'[:served/flood ["{user(me)}" 20 50000]]', "quick")
                count += 20
            await served.until(f'[:served/is-in [:ws "{user(me)}"]]', "[false nil]", "quick")
            assert count < 2000
            await alice.rest()  # a server may have broken it off by then

    drive(main())


def test_slow_reader_that_keeps_up_in_time_loses_nothing(served: Served, drive: Run) -> None:
    async def main() -> None:
        me = who("alice")
        async with served.socket(me) as alice:
            for _ in range(20):
                await served.ask(f'[:served/flood ["{user(me)}" 2 50000]]')
                got = 0
                while got < 2:
                    got += (await alice.text()).count(":served/drop")

    drive(main())


def test_the_newer_of_two_sockets_of_a_client_gets_the_pushes(served: Served, drive: Run) -> None:
    async def main() -> None:
        me = who("alice")
        async with served.socket(me) as old, served.socket(me) as new:
            await old.say("[[:test/echo 1] nil]")
            assert await new.text() == "[[[:test/echo 1]] nil]"
            await old.say('[[:test/req :a] "a"]')
            assert await old.text() == '[:a "a"]'

    drive(main())


def test_push_into_a_gap_comes_with_the_next_socket(served: Served, drive: Run) -> None:
    async def main() -> None:
        me = who("alice")
        async with served.socket(me) as alice:
            await alice.bye()
            await alice.rest()
        async with served.peer() as bob:
            packet = f'[[:test/push-to {{:uid "{user(me)}", :data 1}}] nil]'
            assert (await post(bob, who("bob"), packet)).status == 200
        async with served.socket(me) as alice:
            assert await alice.text() == "[[[:test/pushed 1]] nil]"

    drive(main())


def test_many_sockets_at_once_hear_a_broadcast_in_order(served: Served, drive: Run) -> None:
    async def main() -> None:
        peers = [await Peer.connect(served.ports["chsk"]) for _ in range(40)]
        await asyncio.gather(*(one.upgrade(target(who("many"))) for one in peers))
        await asyncio.gather(*(one.text() for one in peers))
        for i in range(5):
            await peers[i].say(f"[[:test/bcast {i}] nil]")
            for one in peers:
                assert await one.text() == f"[[[:test/bcast {i}]] nil]"
        await asyncio.gather(*(one.bye() for one in peers))
        await asyncio.gather(*(one.close() for one in peers))

    drive(main())
