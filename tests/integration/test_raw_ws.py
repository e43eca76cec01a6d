"""The capabilities over WebSocket, by a peer that knows only RFC 6455's bytes."""

from __future__ import annotations

import asyncio
import re

import peer
import pytest
from peer import CLOSE, CONTINUATION, PING, PONG, TEXT, Peer
from raw import Run
from sente_app import serving

import chansock
from chansock import Config

ALICE = "/chsk?client-id=alice%2F1"


def test_connect_gets_101_and_the_handshake_as_first_frame(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as alice:
            answer = await alice.upgrade(ALICE)
            assert (answer.status, answer.reason) == (101, "Switching Protocols")
            assert await alice.text() == '[[:chsk/handshake ["alice" nil nil]] nil]'

    run(main())


def test_client_without_a_user_shakes_hands_as_nil_uid(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as nobody:
            await nobody.upgrade("/chsk?client-id=abc")
            assert await nobody.text() == "[[:chsk/handshake [:sente/nil-uid nil nil]] nil]"

    run(main())


def test_handshake_carries_the_handshake_data(run: Run) -> None:
    async def main() -> None:
        data = {"motd": "hi"}
        async with serving(handshake_data=lambda _: data) as served, served.peer() as alice:
            await alice.upgrade(ALICE)
            assert await alice.text() == '[[:chsk/handshake ["alice" nil {:motd "hi"}]] nil]'

    run(main())


def test_event_without_callback_is_handled_and_a_push_comes_back(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say('[[:test/echo {:a 1, :b [1.5 nil "é" #{:k}]}] nil]')
            assert await alice.text() == '[[[:test/echo {:a 1, :b [1.5 nil "é" #{:k}]}]] nil]'

    run(main())


@pytest.mark.parametrize("cb_id", ['"2c4461"', "42", "0", "true", ":k", '["a" 1]'])
def test_reply_echoes_the_callback_id_whatever_it_is(cb_id: str, run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say(f"[[:test/req {{:x [1 2 3]}}] {cb_id}]")
            assert await alice.text() == f"[{{:x [1 2 3]}} {cb_id}]"

    run(main())


@pytest.mark.parametrize(
    "packet", ["[[:test/req 1] nil]", "[[:test/req 1] false]", "[[:test/req 1]]"]
)
def test_nil_false_and_no_callback_id_ask_for_no_reply(packet: str, run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say(packet)
            await alice.say('[[:test/req 2] "b"]')
            assert await alice.text() == '[2 "b"]'

    run(main())


def test_coroutine_handler_keeps_the_order_of_replies(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            asked = ["req-slow", "req", "req-slow", "req", "req"]
            frames = [peer.frame(TEXT, f'[[:test/{id} {i}] "{i}"]') for i, id in enumerate(asked)]
            await alice.send(b"".join(frames))
            for i in range(5):
                assert await alice.text() == f'[{i} "{i}"]'

    run(main())


def test_server_pushes_to_a_user_on_all_its_sockets_and_to_nobody_else(run: Run) -> None:
    async def main() -> None:
        async with (
            serving() as served,
            served.socket("alice/1") as one,
            served.socket("alice/2") as two,
            served.socket("bob/1") as bob,
        ):
            served.chsk.send("alice", "test/note", {"n": 1})
            served.chsk.send(chansock.ALL, "test/note", 2)
            for socket in (one, two):
                assert await socket.text() == "[[[:test/note {:n 1}] [:test/note 2]] nil]"
            assert await bob.text() == "[[[:test/note 2]] nil]"

    run(main())


def test_pushes_of_one_turn_share_one_frame(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say("[[:test/push-me {:n 3}] nil]")
            batch = "[[[:test/pushed {:i 0}] [:test/pushed {:i 1}] [:test/pushed {:i 2}]] nil]"
            assert await alice.text() == batch

    run(main())


def test_push_and_reply_stand_in_the_order_made(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say('[[:test/push-then-reply 7] "c"]')
            assert await alice.text() == "[[[:test/pushed 7]] nil]"
            assert await alice.text() == '[7 "c"]'

    run(main())


def test_presence_follows_the_socket(run: Run) -> None:
    async def main() -> None:
        config = Config(allowed_origins=("*",), grace_ws=0)
        async with serving(config) as served:
            told: asyncio.Queue[str] = asyncio.Queue()
            served.chsk.on("chsk/uidport-open", lambda msg: told.put_nowait(f"+{msg.uid}"))
            served.chsk.on("chsk/uidport-close", lambda msg: told.put_nowait(f"-{msg.uid}"))
            async with served.socket("alice/1") as alice:
                await alice.say('[[:test/uids] "u"]')
                assert await alice.text() == '[{:ws #{"alice"}, :ajax #{}, :any #{"alice"}} "u"]'
                assert "alice" in served.chsk.connected.ws
                assert await alice.bye(1000, "CLOSE_NORMAL")
            assert [await told.get(), await told.get()] == ["+alice", "-alice"]
            assert len(served.chsk.connected.any) == 0

    run(main())


def test_client_ping_is_answered_pong(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.say('[[:chsk/ws-ping] "abc123"]')
            assert await alice.text() == '["pong" "abc123"]'

    run(main())


def test_protocol_ping_is_answered_with_its_payload(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.send(peer.frame(PING, "hi"))
            assert await alice.frame() == peer.Frame(PONG, b"hi")

    run(main())


def test_silent_client_is_pinged_and_then_closed(run: Run) -> None:
    async def main() -> None:
        config = Config(allowed_origins=("*",), ws_ping_interval=0.05, ws_ping_timeout=0.05)
        async with serving(config) as served, served.socket() as alice:
            assert await alice.text() == "[:chsk/ws-ping nil]"
            last = await alice.frame()
            assert (last.opcode, last.code, last.reason) == (CLOSE, 1011, "ping timeout")

    run(main())


def test_client_that_answers_the_ping_stays(run: Run) -> None:
    async def main() -> None:
        config = Config(allowed_origins=("*",), ws_ping_interval=0.05, ws_ping_timeout=0.1)
        async with serving(config) as served, served.socket() as alice:
            for _ in range(2):
                assert await alice.text() == "[:chsk/ws-ping nil]"
                await alice.say("[[:chsk/ws-pong] nil]")
            await alice.say('[[:test/req 1] "a"]')
            assert await alice.text() == '[1 "a"]'

    run(main())


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, "CLOSE_NORMAL"), (3000, "CLOSE_ABNORMAL"), (1001, ""), (None, "")]
)
def test_close_frame_is_answered_with_its_code_and_reason(
    code: int | None, reason: str, run: Run
) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            last = await alice.bye(code, reason)
            assert (last.code, last.reason) == (code, reason)
            assert await alice.rest() == b""

    run(main())


def test_server_closes_its_sockets_with_1012_when_it_stops(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            alice = await Peer.connect(served.port)
            await alice.upgrade(ALICE)
            await alice.text()
            served.chsk.send("alice", "test/last", 1)
            waiting = asyncio.create_task(_last_words(alice))
        assert await waiting == ["[[[:test/last 1]] nil]", "close 1012"]
        await alice.close()

    run(main())


async def _last_words(socket: Peer) -> list[str]:
    words = []
    while not words or not words[-1].startswith("close"):
        found = await socket.frame()
        words.append(f"close {found.code}" if found.opcode == CLOSE else found.text)
    await socket.send(peer.frame(CLOSE, peer.close_payload(1012)))
    return words


def test_same_client_id_twice_pushes_go_to_the_newer_and_the_older_gets_its_replies(
    run: Run,
) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as old, served.socket() as new:
            served.chsk.send("alice", "test/note", 1)
            assert await new.text() == "[[[:test/note 1]] nil]"
            await old.say('[[:test/req :a] "a"]')
            assert await old.text() == '[:a "a"]'

    run(main())


def test_push_into_a_gap_comes_with_the_next_socket(run: Run) -> None:
    async def main() -> None:
        async with serving() as served:
            async with served.socket() as alice:
                await alice.bye()
                await alice.rest()
            served.chsk.send("alice", "test/note", 1)
            async with served.socket() as alice:
                assert await alice.text() == "[[[:test/note 1]] nil]"

    run(main())


# -- the frames' forms


def test_fragments_with_a_ping_between_are_one_message(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            await alice.send(peer.frame(TEXT, '[[:test/req "', fin=False))
            await alice.send(peer.frame(CONTINUATION, "é".encode()[:1], fin=False))
            await alice.send(peer.frame(PING, "mid"))
            await alice.send(peer.frame(CONTINUATION, "é".encode()[1:] + b'"] "f"]'))
            assert await alice.frame() == peer.Frame(PONG, b"mid")
            assert await alice.text() == '["é" "f"]'

    run(main())


def test_frames_glued_to_the_upgrade_request_are_answered(run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.peer() as alice:
            fields = [
                ("Connection", "keep-alive, Upgrade"),
                ("Upgrade", "WebSocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ]
            head = peer.request("GET", ALICE, fields, host=alice.host)
            await alice.send(head + peer.frame(TEXT, '[[:test/req 1] "a"]'))
            answer = await alice.answer()
            assert answer.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
            assert await alice.text() == '[[:chsk/handshake ["alice" nil nil]] nil]'
            assert await alice.text() == '[1 "a"]'

    run(main())


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536, 1_000_000])
def test_message_of_each_length_form_comes_back(size: int, run: Run) -> None:
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            text = "x" * (size - len('[[:test/req ""] "a"]'))
            await alice.say(f'[[:test/req "{text}"] "a"]')
            assert await alice.text() == f'["{text}" "a"]'

    run(main())


LONG = 70_000  # characters: a reply past what is copied to be sent with others


def test_what_one_read_makes_comes_in_the_order_in_which_it_was_made(run: Run) -> None:
    # replies of plain handlers and of coroutines, short and long, pushes, pongs, errors
    async def main() -> None:
        async with serving() as served, served.socket() as alice:
            chsk = served.chsk

            @chsk.on("test/push-first")
            def _(msg: chansock.EventMsg[int]) -> int:
                chsk.send("alice", "test/pushed", msg.data)
                return msg.data

            @chsk.on("test/push-last")
            async def _(msg: chansock.EventMsg[int]) -> None:
                msg.reply(msg.data)
                chsk.send("alice", "test/pushed", msg.data)

            @chsk.on("test/long")
            async def _(msg: chansock.EventMsg[int]) -> str:
                return f"{msg.data}".ljust(LONG)

            kinds = ["req", "push-first", "ping", "req", "long", "push-last", "push-last", "nobody"]
            sent, expected = b"", []
            for i in range(48):
                kind = kinds[i % 8 if i < 24 else i * 5 % 8]
                if kind == "ping":
                    sent += peer.frame(PING, b"%d" % i)
                    expected.append((PONG, f"{i}"))
                    continue
                sent += peer.frame(TEXT, f'[[:test/{kind} {i}] "{i}"]')
                value = {"long": f'"{str(i).ljust(LONG)}"', "nobody": ":chsk/error"}
                reply = (TEXT, f'[{value.get(kind, i)} "{i}"]')
                push = (TEXT, f"[:test/pushed {i}]")
                if kind.startswith("push"):
                    expected += [push, reply] if kind == "push-first" else [reply, push]
                else:
                    expected.append(reply)
            await alice.send(sent)
            got: list[tuple[int, str]] = []
            while len(got) < len(expected):
                frame = await alice.frame()
                text = frame.payload.decode()
                if text.startswith("[[["):
                    got += [(TEXT, event) for event in re.findall(r"\[:test/pushed \d+\]", text)]
                else:
                    got.append((frame.opcode, text))
            assert [item for item in got if item[0] == TEXT] == [
                item for item in expected if item[0] == TEXT
            ]
            assert [item for item in got if item[0] == PONG] == [
                item for item in expected if item[0] == PONG
            ]

    run(main())
