"""The capabilities over Ajax, by a peer that knows only RFC 9112's bytes."""

from __future__ import annotations

import asyncio

import peer
import pytest
from peer import Peer
from raw import DUMMY, POLL, SHAKE, WHO, Poll, Run, config, handshake, post, round_trip
from sente_app import serving

import chansock


def test_connect_is_a_handshake_get_answered_at_once(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            answer = await alice.ask("GET", SHAKE)
            assert (answer.status, answer.reason) == (200, "OK")
            assert answer.text == '[[:chsk/handshake ["alice" nil nil]] nil]'
            assert answer.header("content-type") == "application/edn"
            assert answer.header("x-content-type-options") == "nosniff"
            assert answer.header("cache-control") == "no-store"

    run(main())


def test_client_without_a_user_shakes_hands_as_nil_uid(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as nobody:
            answer = await nobody.ask("GET", "/chsk?client-id=abc&handshake%3F=true")
            assert answer.text == "[[:chsk/handshake [:sente/nil-uid nil nil]] nil]"

    run(main())


def test_get_of_an_unknown_client_is_a_handshake_without_being_asked(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            answer = await alice.ask("GET", POLL)
            assert answer.text == '[[:chsk/handshake ["alice" nil nil]] nil]'

    run(main())


def test_post_without_callback_is_answered_dummy_and_its_push_comes_by_the_poll(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            await handshake(alice)
            poll = await Poll.park(served)
            answer = await post(alice, "[[:test/echo {:a 1}] nil]")
            assert (answer.status, answer.text) == (200, DUMMY)
            assert await poll.text() == "[[[:test/echo {:a 1}]] nil]"

    run(main())


@pytest.mark.parametrize("flag", [":ajax", "0", "true", '"x"'])
def test_post_with_callback_is_answered_with_the_reply(flag: str, run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            await handshake(alice)
            for event in ("req", "req-slow"):
                answer = await post(alice, f"[[:test/{event} {{:x [1 2 3]}}] {flag}]")
                assert (answer.status, answer.text) == (200, "[{:x [1 2 3]} nil]")

    run(main())


def test_post_works_for_a_client_that_never_polled_and_connects_nobody(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            answer = await post(alice, "[[:test/uids] :ajax]")
            assert answer.text == "[{:ws #{}, :ajax #{}, :any #{}} nil]"

    run(main())


def test_unanswered_post_gets_timeout(run: Run) -> None:
    async def main() -> None:
        async with serving(config(poll_timeout=0.05)) as served, served.peer() as alice:
            answer = await post(alice, "[[:test/no-reply] :ajax]")
            assert (answer.status, answer.text) == (200, "[:chsk/timeout nil]")

    run(main())


def test_poll_with_nothing_to_say_gets_timeout(run: Run) -> None:
    async def main() -> None:
        async with serving(config(poll_timeout=0.05)) as served, served.peer() as alice:
            await handshake(alice)
            answer = await alice.ask("GET", POLL)
            assert (answer.status, answer.text) == (200, "[:chsk/timeout nil]")

    run(main())


def test_server_pushes_to_all_clients_of_a_user_by_their_polls(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as wire:
            polls = []
            for number in (1, 2):
                target = f"/chsk?client-id=alice%2F{number}"
                await handshake(wire, target + "&handshake%3F=1")
                polls.append(await Poll.park(served, target))
            served.chsk.send("alice", "test/note", 1)
            served.chsk.send(chansock.ALL, "test/note", 2)
            texts = [await poll.text() for poll in polls]
            assert texts == ["[[[:test/note 1] [:test/note 2]] nil]"] * 2

    run(main())


def test_push_between_handshake_and_poll_waits_for_the_poll(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            await handshake(alice)
            served.chsk.send("alice", "test/note", 1)
            answer = await alice.ask("GET", POLL)
            assert answer.text == "[[[:test/note 1]] nil]"

    run(main())


def test_presence_comes_with_the_second_get(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            told: asyncio.Queue[str] = asyncio.Queue()
            served.chsk.on("chsk/uidport-open", lambda msg: told.put_nowait(f"+{msg.uid}"))
            await handshake(alice)
            assert (await post(alice, "[[:test/uids] :ajax]")).text == (
                "[{:ws #{}, :ajax #{}, :any #{}} nil]"
            )
            poll = await Poll.park(served)
            assert await told.get() == "+alice"
            assert (await post(alice, "[[:test/uids] :ajax]")).text == (
                '[{:ws #{}, :ajax #{"alice"}, :any #{"alice"}} nil]'
            )
            await poll.drop()

    run(main())


def test_dropped_poll_is_noticed_at_once(run: Run) -> None:
    async def main() -> None:
        # the grace must outlast the time between the handshake and the poll
        async with serving(config(grace_ajax=0.2)) as served, served.peer() as alice:
            gone: asyncio.Queue[object] = asyncio.Queue()
            served.chsk.on("chsk/uidport-close", lambda msg: gone.put_nowait(msg.uid))
            await handshake(alice)
            poll = await Poll.park(served)
            await poll.drop(poll.wire.reset)
            assert await gone.get() == "alice"

    run(main())


def test_push_after_a_dropped_poll_comes_with_the_next(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            await handshake(alice)
            poll = await Poll.park(served)
            await poll.drop()
            served.chsk.send("alice", "test/note", 1)
            await handshake(alice)
            assert (await alice.ask("GET", POLL)).text == "[[[:test/note 1]] nil]"

    run(main())


def test_disconnect_ends_the_poll_with_503_and_a_new_handshake_goes_on(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            await handshake(alice)
            poll = await Poll.park(served)
            assert (await post(alice, "[[:test/close-me] nil]")).text == DUMMY
            assert (await poll.answer).status == 503
            await handshake(alice)
            await poll.wire.close()

    run(main())


def test_stop_ends_polls_503_and_held_posts_with_timeout_after_what_waited(run: Run) -> None:
    async def main() -> None:
        async with serving(config(flush_delay_ajax=60)) as served:
            alice, bob = await Peer.connect(served.port), await Peer.connect(served.port)
            await handshake(alice)
            await handshake(bob, "/chsk?client-id=bob%2F1&handshake%3F=1")
            polls = [await Poll.park(served, f"/chsk?client-id={who}%2F1") for who in WHO]
            held = asyncio.create_task(post(alice, "[[:test/no-reply] :ajax]"))
            await round_trip(served)
            served.chsk.send("alice", "test/last", 1)
        answer = await held  # its handler ran: a 503 would bring it again
        assert (answer.status, answer.text) == (200, "[:chsk/timeout nil]")
        assert await polls[0].text() == "[[[:test/last 1]] nil]"
        assert (await polls[1].answer).status == 503
        assert (served.chsk.stats.sent, served.chsk.stats.written) == (1, 1)
        for wire in (alice, bob, polls[1].wire):
            await wire.close()

    run(main())


def test_displaced_poll_stays_parked_until_its_timeout(run: Run) -> None:
    async def main() -> None:
        async with serving(config(poll_timeout=0.2)) as served, served.peer() as alice:
            await handshake(alice)
            old = await Poll.park(served)
            new = await Poll.park(served)
            served.chsk.send("alice", "test/note", 1)
            assert await new.text() == "[[[:test/note 1]] nil]"
            assert await old.text() == "[:chsk/timeout nil]"

    run(main())


def test_poll_asked_for_again_after_an_answer_with_events_is_503(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            await handshake(alice)
            # Sente's polls have no number, and two of one millisecond have the same udt.
            for number, status in (("", 200), ("", 200), ("&n=7", 200), ("&n=7", 503)):
                target = f"/chsk?udt=5&client-id=alice%2F1{number}"
                poll = asyncio.create_task(alice.ask("GET", target))
                await round_trip(served)
                served.chsk.send("alice", "test/note", 1)
                assert (await poll).status == status

    run(main())


def test_numbered_posts_are_handled_in_their_order(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as one, served.peer() as two:
            await handshake(one, "/chsk?udt=77&client-id=alice%2F1&handshake%3F=1")
            late = asyncio.create_task(post(two, "[[:test/echo 2] nil]", n="77-2"))
            await round_trip(served)
            first = await post(one, "[[:test/echo 1] nil]", n="77-1")
            assert first.text == (await late).text == DUMMY
            poll = await Poll.park(served)
            assert await poll.text() == "[[[:test/echo 1] [:test/echo 2]] nil]"

    run(main())


def test_requests_share_a_connection_in_any_mixture(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as wire:
            for _ in range(3):
                await handshake(wire)
                assert (await post(wire, "[[:test/echo 1] nil]")).text == DUMMY
                assert (await wire.ask("GET", POLL)).text == "[[[:test/echo 1]] nil]"
                assert (await post(wire, "[[:test/req 1] :ajax]")).text == "[1 nil]"

    run(main())


def test_pipelined_requests_are_answered_in_order(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as wire:
            await wire.send(
                peer.request("GET", SHAKE, host=wire.host)
                + peer.request("GET", POLL, host=wire.host)
                + peer.request("GET", "/nowhere", host=wire.host)
            )
            assert (await wire.answer()).text.startswith("[[:chsk/handshake")
            served.chsk.send("alice", "test/note", 1)
            assert (await wire.answer()).text == "[[[:test/note 1]] nil]"
            assert (await wire.answer()).status == 404

    run(main())


@pytest.mark.parametrize("size", [1, 70_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_message_of_any_size_goes_both_ways(size: int, run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            text = "é" * (size // 2) if size > 1 else "x"
            answer = await post(alice, f'[[:test/req "{text}"] :ajax]')
            assert answer.text == f'["{text}" nil]'

    run(main())


def test_chunked_form_is_read(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            form = peer.urlencoded([("client-id", "alice/1"), ("ppstr", "[[:test/req 1] :ajax]")])
            fields = [
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("Transfer-Encoding", "chunked"),
            ]
            half = len(form) // 2
            body = "".join(f"{len(s):x}\r\n{s}\r\n" for s in (form[:half], form[half:], ""))
            answer = await alice.ask("POST", "/chsk", fields, body.encode())
            assert answer.text == "[1 nil]"

    run(main())
