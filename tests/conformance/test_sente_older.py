"""Clients of older Sente releases: one test for each thing that they write otherwise.

The bytes are what their sources write. From 1.17 on they read what is written today; up to
1.16 they read nothing without a sign before it, so they cannot be served.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
from peer import urlencoded
from raw import DUMMY, POLL, Run, assert_refusal, config, records
from sente_app import serving

from chansock import ChannelSocket, Keyword, packers, testing

each_way = pytest.mark.parametrize("kind", ["ws", "post"])

# What each release writes for an event without a callback, and for one with: the id over a
# WebSocket, the flag over POST.
WRITTEN = {
    "1.17": ("+[[:test/echo 1]]", '+[[:test/req {:a 1}] "a1b2c3"]', "+[[:test/req {:a 1}] 0]"),
    "1.18-1.20": ("[[:test/echo 1]]", '[[:test/req {:a 1}] "a1b2c3"]', "[[:test/req {:a 1}] 0]"),
    "1.21-": (
        "[[:test/echo 1] nil]",
        '[[:test/req {:a 1}] "a1b2c3"]',
        "[[:test/req {:a 1}] :ajax]",
    ),
}

each_release = pytest.mark.parametrize("release", WRITTEN)


@each_release
def test_its_events_over_a_websocket(release: str, run: Run) -> None:
    plain, asking, _ = WRITTEN[release]

    async def main() -> None:
        async with serving(config()) as served, served.socket() as alice:
            await alice.say(asking)
            assert await alice.text() == '[{:a 1} "a1b2c3"]'
            await alice.say(plain)
            assert await alice.text() == "[[[:test/echo 1]] nil]"
            assert served.chsk.stats.bad_packet == 0

    run(main())


@each_release
def test_its_events_by_post(release: str, run: Run) -> None:
    plain, _, asking = WRITTEN[release]

    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            for packet, answer in ((plain, DUMMY), (asking, "[{:a 1} nil]")):
                form = [("udt", "1"), ("client-id", "alice/1"), ("ppstr", packet)]
                found = await alice.post_form("/chsk", form)
                assert (found.status, found.text) == (200, answer)

    run(main())


@pytest.mark.parametrize("flag", ["0", "1", "true", '"x"', ":ajax", ":other", "[]", "{}"])
def test_any_truthy_flag_asks_for_a_reply_by_post(flag: str, run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            form = [("client-id", "alice/1"), ("ppstr", f"[[:test/req 7] {flag}]")]
            assert (await alice.post_form("/chsk", form)).text == "[7 nil]"

    run(main())


@pytest.mark.parametrize("flag", ["nil", "false"])
def test_nil_and_false_ask_for_none_by_post(flag: str, run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            form = [("client-id", "alice/1"), ("ppstr", f"[[:test/req 7] {flag}]")]
            assert (await alice.post_form("/chsk", form)).text == DUMMY

    run(main())


@pytest.mark.parametrize("value", ["true", "1", "false", "0", ""])
def test_handshake_is_asked_for_with_any_value(value: str, run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            target = f"{POLL}&handshake%3F={value}"
            for _ in range(2):  # also while the session is there
                found = await alice.ask("GET", target)
                assert found.text == '[[:chsk/handshake ["alice" nil nil]] nil]'

    run(main())


@pytest.mark.parametrize("where", ["form", "query"])
def test_csrf_token_and_the_application_s_params_come_with_a_post(where: str, run: Run) -> None:
    """Up to 1.20; from 1.21 on the token is a header, and the params stay away."""
    seen: list[str | None] = []

    def user_id(request: Any) -> str:
        seen.append(request.params.get("room"))
        return "alice"

    async def main() -> None:
        hooks = {"csrf_token": lambda _: "tok123", "user_id": user_id}
        async with serving(config(), **hooks) as served, served.peer() as alice:
            more = [("csrf-token", "tok123"), ("room", "a b")]
            form = [("client-id", "alice/1"), ("ppstr", "[[:test/req 7] 0]")]
            if where == "form":
                found = await alice.post_form("/chsk", [*more, *form])
            else:
                found = await alice.post_form(f"/chsk?{urlencoded(more)}", form)
            assert found.text == "[7 nil]"
            wrong = await alice.post_form("/chsk", [("csrf-token", "other"), *form])
            assert (wrong.status, wrong.text) == (403, "Bad CSRF token")

    run(main())
    assert seen == ["a b"]


def test_ping_of_1_18_is_answered_and_pong_of_1_19_is_no_bad_event(run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.socket() as alice:
            await alice.say('[[:chsk/ws-ping] "a1b2c3"]')
            assert await alice.text() == '["pong" "a1b2c3"]'
            await alice.say("[[:chsk/ws-pong]]")
            await alice.say("[[:chsk/ws-ping]]")  # 1.17 pings without a callback
            await alice.say('[[:test/req 1] "b"]')
            assert await alice.text() == '[1 "b"]'
            stats = served.chsk.stats
            assert (stats.bad_event, stats.bad_packet, stats.forged) == (0, 0, 0)

    run(main())


@each_way
def test_undecodable_packet_is_no_event_of_the_application(kind: str, run: Run) -> None:
    """1.20's server tells its application `:chsk/bad-package`; later ones and this one log it."""
    seen: list[object] = []

    async def main() -> None:
        async with serving(config()) as served, served.socket() as alice:
            for event_id in ("test/any", "chsk/ws-ping", "chsk/ws-pong"):
                served.chsk.on(event_id, seen.append)
            with pytest.raises(Exception, match="chsk/bad-package"):
                served.chsk.on("chsk/bad-package", seen.append)
            if kind == "ws":
                await alice.say("[[:test/any")
                await alice.say('[[:test/req 1] "b"]')
                assert await alice.text() == '[1 "b"]'
            else:
                async with served.peer() as wire:
                    form = [("client-id", "alice/1"), ("ppstr", "[[:test/any")]
                    assert (await wire.post_form("/chsk", form)).status == 400
            assert served.chsk.stats.bad_packet == 1

    run(main())
    assert seen == []


# Up to 1.16: `-` before a bare event, `+` before one with its callback id

SENTENCE = "expected Sente 1.17 or later, got a client of 1.16 or before"


def test_1_16_is_refused_over_a_websocket_with_one_sentence_in_the_log(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with (
            serving(config()) as served,
            served.socket("alice/1") as alice,
            served.socket("bob/1") as bob,
        ):
            for _ in range(3):
                await alice.say("-[:chsk/ws-ping]")
            await alice.say("-[:test/echo 1]")
            await bob.say("-[:test/echo 1]")
            for wire in (alice, bob):
                await wire.say('[[:test/req 1] "b"]')
                assert await wire.text() == '[1 "b"]'
            stats = served.chsk.stats
            assert (stats.bad_packet, stats.bad_event) == (5, 0)

    caplog.set_level(logging.INFO)
    run(main())
    assert records(caplog, "bad_packet") == 2  # once for each connection
    assert sum(SENTENCE in record.getMessage() for record in caplog.records) == 2


def test_1_16_is_refused_by_post_with_the_sentence_as_its_answer(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.peer() as alice:
            form = [("client-id", "alice/1"), ("ppstr", "-[:test/echo 1]")]
            found = await alice.post_form("/chsk", form)
            assert_refusal(found, 400)
            assert found.text == SENTENCE

    caplog.set_level(logging.INFO)
    run(main())
    assert sum(SENTENCE in record.getMessage() for record in caplog.records) == 1


@each_way
@pytest.mark.parametrize("text", ["+", "-", "++[[:test/req 1]]", "+5", "-5", "+ [[:test/req 1]]"])
def test_sign_without_a_packet_behind_it_is_no_packet(text: str, kind: str, run: Run) -> None:
    async def main() -> None:
        async with serving(config()) as served, served.socket() as alice, served.peer() as wire:
            if kind == "ws":
                await alice.say(text)
                await alice.say('[[:test/req 1] "b"]')
                assert await alice.text() == '[1 "b"]'
            else:
                form = [("client-id", "alice/1"), ("ppstr", text)]
                assert (await wire.post_form("/chsk", form)).status == 400
            assert served.chsk.stats.bad_packet == 1

    run(main())


EDN = packers.EDN()
TEXTS = {
    "edn": EDN,
    "transit": packers.Transit(),
    "transit-verbose": packers.Transit(verbose=True),
    "json": packers.JSON(),
}


def replies(packer: Any, *packets: bytes) -> list[Any]:
    """What a client is answered that sends these messages."""
    chsk = ChannelSocket(packer=packer)
    chsk.on("test/req", lambda msg: msg.data)
    with testing.World(chsk, packer=packer) as world:
        alice = world.ws()
        alice.feed(*packets, is_text=not packer.binary)
        world.turn()
        assert (chsk.stats.bad_packet, chsk.stats.bad_event) == (0, 0)
        return alice.stray


@pytest.mark.parametrize("name", TEXTS)
def test_sign_of_1_17_is_taken_off_text_of_any_packer(name: str) -> None:
    packer = TEXTS[name]
    whole = packer.packet([Keyword("test/req"), 7], "a1")
    alone = whole.replace(b',"a1"]', b"]").replace(b' "a1"]', b"]")
    assert len(alone) == len(whole) - 5
    assert replies(packer, b"+" + alone, alone, b"+" + whole, whole) == [[7, "a1"], [7, "a1"]]


def test_what_looks_like_the_sign_is_left_on_bytes() -> None:
    """A flag other than 1 in front of gzip's packets means that the rest is plain."""
    packet = EDN.packet([Keyword("test/req"), 7], "a1")
    assert replies(packers.Gzip(EDN), b"+" + packet) == [[7, "a1"]]
