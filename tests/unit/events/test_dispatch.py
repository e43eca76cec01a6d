"""From packet to handler to reply: order, room, failures; on both transports in virtual time."""

import asyncio
import sys
import threading

import pytest

from chansock import ALL, LATER, ChannelClosed, ChannelSocket, Config, InvalidEvent, Keyword
from chansock._fast.events.fanout import Fragment
from chansock.errors import ReplyError
from chansock.packers import EDN
from chansock.testing import World, user_id

BOTH = pytest.mark.parametrize("transport", ["ws", "ajax"])


@pytest.fixture
def chsk():
    return ChannelSocket(user_id=user_id)


@pytest.fixture
def world(chsk):
    with World(chsk, raise_handler_errors=False) as world:
        yield world


def connect(world, transport, **kwargs):
    return getattr(world, transport)(uid="a", **kwargs)


# -- replies


@BOTH
def test_the_return_value_is_the_reply(chsk, world, transport):
    chsk.on("math/double", lambda msg: msg.data * 2)
    reply = connect(world, transport).ask("math/double", 21)
    world.turn()
    assert reply.value == 42


@BOTH
def test_none_is_an_ack_of_nil(chsk, world, transport):
    chsk.on("t/e", lambda msg: None)
    reply = connect(world, transport).ask("t/e")
    world.turn()
    assert reply.is_here
    assert reply.value is None


@BOTH
def test_a_coroutine_replies_when_it_ends(chsk, world, transport):
    @chsk.on("t/slow")
    async def slow(msg):
        await asyncio.sleep(3)
        return msg.data

    reply = connect(world, transport).ask("t/slow", "x")
    world.advance(2.9)
    assert not reply.is_here
    world.advance(0.2)
    assert reply.value == "x"


@BOTH
def test_later_replies_when_the_handler_says_so_and_only_once(chsk, world, transport):
    kept = []

    @chsk.on("t/later")
    def later(msg):
        kept.append(msg)
        return LATER

    reply = connect(world, transport).ask("t/later")
    world.advance(1)
    assert not reply.is_here
    assert kept[0].wants_reply
    assert kept[0].reply("now")
    assert not kept[0].reply("again")
    world.turn()
    assert reply.value == "now"


@BOTH
def test_an_explicit_reply_wins_over_the_return_value(chsk, world, transport):
    @chsk.on("t/e")
    def handler(msg):
        msg.reply("first")
        return "second"

    reply = connect(world, transport).ask("t/e")
    world.turn()
    assert reply.value == "first"


@BOTH
def test_reply_to_an_event_that_asked_for_none_is_false(chsk, world, transport):
    answers = []
    chsk.on("t/e", lambda msg: answers.append((msg.wants_reply, msg.reply(1))))
    connect(world, transport).send("t/e")
    assert answers == [(False, False)]


@BOTH
def test_a_handler_that_raises_is_logged_told_to_on_error_and_answered(
    chsk, world, transport, caplog
):
    failures = []
    chsk.on_error(lambda msg, error: failures.append((msg.id, type(error))))

    @chsk.on("t/bad")
    def bad(msg):
        raise KeyError("secret-of-the-application")

    reply = connect(world, transport).ask("t/bad")
    world.turn()
    assert reply.value == "chsk/error"
    assert failures == [("t/bad", KeyError)]
    assert "handler_error id=Keyword('t/bad') uid='a'" in caplog.text


@BOTH
def test_a_reply_that_cannot_be_written_is_the_handlers_failure(chsk, world, transport, caplog):
    chsk.on("t/e", lambda msg: object())
    reply = connect(world, transport).ask("t/e")
    world.turn()
    assert reply.value == "chsk/error"
    assert "EncodeError" in caplog.text


@pytest.mark.parametrize(
    "packet",
    [
        '[^:m [:t/e 1] "cb"]',
        '[#^{:m 1} [:t/e 1] "cb"]',
        '^:m [[:t/e 1] "cb"]',
        '^"m" (^m ^:n [:t/e 1] "cb")',
    ],
)
def test_an_event_with_metadata_is_an_event(chsk, world, packet):
    chsk.on("t/e", lambda msg: msg.data)
    client = connect(world, "ws")
    client.feed(packet)
    assert client.transport.written[-1] == b'[1 "cb"]'
    assert chsk.stats.bad_event == 0


def test_of_two_replies_at_once_there_is_one():
    def answers_itself(value):
        return kept[0].reply("first")

    kept = []
    chsk = ChannelSocket(user_id=user_id, packer=EDN(default=answers_itself))
    chsk.on("t/e", lambda msg: kept.append(msg) or LATER)
    with World(chsk, raise_handler_errors=False) as own:
        client = connect(own, "ws")
        client.ask("t/e")
        before = len(client.transport.written)
        assert not kept[0].reply(object())
        own.turn()
        assert [text[:8] for text in client.transport.written[before:]] == [b'["first"']


def test_replies_within_a_reply_are_each_their_own():
    kept = []
    chsk = ChannelSocket(user_id=user_id, packer=EDN(default=lambda value: kept.pop().reply("in")))
    chsk.on("t/later", lambda msg: kept.append(msg) or LATER)
    chsk.on("t/e", lambda msg: [object(), object(), "out"])
    with World(chsk, raise_handler_errors=False) as own:
        clients = [connect(own, "ws") for _ in range(3)]
        replies = [client.ask("t/later") for client in clients[:2]]
        replies.append(clients[2].ask("t/e"))
        own.turn()
        assert [reply.value for reply in replies] == ["in", "in", [True, True, "out"]]


def test_a_packer_that_gives_no_bytes_for_a_reply_is_the_handlers_failure():
    class Packs:
        binary = False
        unpack = staticmethod(EDN().unpack)
        fragment = staticmethod(EDN().fragment)
        batch = staticmethod(EDN().batch)

        def packet(self, value, cb_id):
            return None if value == "nothing" else EDN().packet(value, cb_id)

    failures = []
    chsk = ChannelSocket(user_id=user_id, packer=Packs())
    chsk.on("t/e", lambda msg: "nothing")
    chsk.on_error(lambda msg, error: failures.append(type(error)))
    with World(chsk, raise_handler_errors=False) as world:
        client = connect(world, "ws")
        client.feed('[[:t/e 1] "cb"]')
        assert client.transport.written[-1] == b'[:chsk/error "cb"]'
        assert failures == [TypeError]


def test_an_unanswered_post_gets_chsk_timeout_after_20_s(chsk, world):
    chsk.on("t/never", lambda msg: LATER)
    reply = connect(world, "ajax").ask("t/never")
    world.advance(19.9)
    assert not reply.is_here
    world.advance(0.2)
    assert reply.value == "chsk/timeout"


def test_a_late_reply_goes_to_the_sessions_present_socket(chsk, world):
    kept = []
    chsk.on("t/later", lambda msg: kept.append(msg) or LATER)
    client = connect(world, "ws")
    reply = client.ask("t/later")
    client.cut()
    client.connect()
    assert kept[0].reply("late")
    world.turn()
    assert reply.value == "late"


def test_a_reply_to_nobody_is_counted(chsk, world):
    kept = []
    chsk.on("t/later", lambda msg: kept.append(msg) or LATER)
    client = connect(world, "ws")
    client.ask("t/later")
    client.cut()
    assert not kept[0].reply("late")
    assert chsk.stats.reply_lost == 1


# -- order and room


@BOTH
def test_a_clients_events_are_handled_one_at_a_time_in_order(chsk, world, transport):
    log = []

    @chsk.on("t/slow")
    async def slow(msg):
        log.append(f"{msg.data} begins")
        await asyncio.sleep(1)
        log.append(f"{msg.data} ends")

    chsk.on("t/quick", lambda msg: log.append(f"{msg.data} quick"))
    client = connect(world, transport)
    for number, event_id in enumerate(["t/slow", "t/quick", "t/slow", "t/quick"]):
        client.send(event_id, number)
    world.advance(5)
    assert log == ["0 begins", "0 ends", "1 quick", "2 begins", "2 ends", "3 quick"]


def test_one_clients_wait_holds_up_no_other(chsk, world):
    @chsk.on("t/slow")
    async def slow(msg):
        await asyncio.sleep(100)

    chsk.on("t/quick", lambda msg: "here")
    connect(world, "ws").send("t/slow")
    reply = connect(world, "ws").ask("t/quick")
    world.turn()
    assert reply.value == "here"


def test_parallel_lets_what_follows_overlap(chsk, world):
    log = []

    @chsk.on("t/slow", parallel=True)
    async def slow(msg):
        await asyncio.sleep(1)
        log.append("slow")

    chsk.on("t/quick", lambda msg: log.append("quick"))
    client = connect(world, "ws")
    client.send("t/slow")
    client.send("t/quick")
    world.advance(2)
    assert log == ["quick", "slow"]


def test_a_thread_handler_runs_elsewhere_and_keeps_the_order(chsk, world):
    log = []
    here = threading.get_ident()

    @chsk.on("t/blocking", thread=True)
    def blocking(msg):
        log.append(threading.get_ident() != here)
        return "done"

    chsk.on("t/quick", lambda msg: log.append("quick"))
    client = connect(world, "ws")
    reply = client.ask("t/blocking")
    client.send("t/quick")
    world.until(lambda: reply.is_here and len(log) == 2)
    assert log == [True, "quick"]
    assert reply.value == "done"


def test_past_max_inbox_events_the_socket_is_not_read_and_nothing_is_lost():
    chsk = ChannelSocket(Config(max_inbox_events=4), user_id=user_id)
    seen = []

    @chsk.on("t/slow")
    async def slow(msg):
        await asyncio.sleep(1)
        seen.append(msg.data)

    with World(chsk, raise_handler_errors=False) as world:
        client = connect(world, "ws")
        for number in range(12):
            client.send("t/slow", number)
        assert client.unread == 8
        assert not client.transport.is_reading
        world.advance(20)
        assert seen == list(range(12))
        assert client.unread == 0


def test_past_max_inbox_bytes_the_socket_is_not_read():
    chsk = ChannelSocket(Config(max_inbox_bytes=1300, max_message_bytes=1000), user_id=user_id)
    seen = []

    @chsk.on("t/slow")
    async def slow(msg):
        await asyncio.sleep(1)
        seen.append(len(msg.data))

    with World(chsk, raise_handler_errors=False) as world:
        client = connect(world, "ws")
        for _ in range(5):
            client.send("t/slow", "x" * 400)
        assert client.unread == 3
        world.advance(10)
        assert seen == [400] * 5


def test_posts_wait_for_room_then_get_503_and_nothing_of_them_was_taken():
    chsk = ChannelSocket(Config(max_inbox_events=2), user_id=user_id)
    seen = []

    @chsk.on("t/never")
    async def never(msg):
        seen.append(msg.data)
        await asyncio.sleep(1000)

    with World(chsk, raise_handler_errors=False) as world:
        client = connect(world, "ajax")
        replies = [client.send("t/never", number) for number in range(5)]
        assert [reply.status for reply in replies] == [200, 200, None, None, 503]
        world.advance(20.1)
        assert [reply.status for reply in replies] == [200, 200, 503, 503, 503]
        assert seen == [0]


def test_posts_that_wait_for_room_are_taken_in_order_when_there_is_some():
    chsk = ChannelSocket(Config(max_inbox_events=2), user_id=user_id)
    seen = []

    @chsk.on("t/slow")
    async def slow(msg):
        await asyncio.sleep(1)
        seen.append(msg.data)

    with World(chsk, raise_handler_errors=False) as world:
        client = connect(world, "ajax")
        for number in range(4):
            client.send("t/slow", number)
        world.advance(10)
        assert seen == [0, 1, 2, 3]


def test_a_post_does_not_overtake_those_that_wait_for_room():
    chsk = ChannelSocket(Config(max_inbox_events=2), user_id=user_id)
    seen = []

    @chsk.on("t/slow")
    async def slow(msg):
        await asyncio.sleep(1)

    @chsk.on("t/quick")
    def quick(msg):
        seen.append(msg.data)
        if msg.data == 1:
            # Room was made in this turn, and 2 is let in at its end.
            client.send("t/quick", 3)

    with World(chsk, raise_handler_errors=False) as world:
        client = connect(world, "ajax")
        for number, event_id in enumerate(["t/slow", "t/quick", "t/quick"]):
            client.send(event_id, number)
        world.advance(10)
        assert seen == [1, 2, 3]


def test_posts_without_a_session_are_bounded_too():
    chsk = ChannelSocket(Config(max_inbox_events=2), user_id=user_id)
    seen = []

    @chsk.on("t/never")
    async def never(msg):
        seen.append(msg.data)
        await asyncio.sleep(1000)

    with World(chsk, raise_handler_errors=False) as world:
        client = connect(world, "ajax", is_polling=False)
        world.advance(6)  # its grace is over: no session
        replies = [client.ask("t/never", number) for number in range(5)]
        world.turn()
        assert seen == [0]
        assert [reply.status for reply in replies] == [None, None, None, None, 503]


def test_past_max_connections_a_post_without_a_session_gets_503():
    chsk = ChannelSocket(Config(max_connections=2), user_id=user_id)
    chsk.on("t/later", lambda msg: LATER)
    with World(chsk, raise_handler_errors=False) as world:
        connect(world, "ws")
        stray = connect(world, "ajax", is_polling=False)
        world.advance(6)
        held, refused = stray.ask("t/later"), stray.ask("t/later")
        assert (held.status, refused.status) == (None, 503)


def test_later_posts_hold_their_room_until_they_are_answered():
    chsk = ChannelSocket(Config(max_inbox_events=1), user_id=user_id)
    kept = []
    chsk.on("t/later", lambda msg: kept.append(msg) or LATER)
    chsk.on("t/e", lambda msg: "room")
    with World(chsk, raise_handler_errors=False) as world:
        client = connect(world, "ajax")
        client.ask("t/later")
        waiting = client.ask("t/e")
        world.advance(1)
        assert not waiting.is_here
        kept[0].reply()
        world.turn()
        assert waiting.value == "room"


def test_later_events_of_a_socket_hold_no_room():
    chsk = ChannelSocket(Config(max_inbox_events=1), user_id=user_id)
    chsk.on("t/later", lambda msg: LATER)
    chsk.on("t/e", lambda msg: "room")
    with World(chsk, raise_handler_errors=False) as world:
        client = connect(world, "ws")
        client.ask("t/later")
        reply = client.ask("t/e")
        world.turn()
        assert reply.value == "room"


BAD_CB_ID = b"[[:t/e 1] :a\xc2\xa0b]"  # Clojure reads it; no reader takes it back


@pytest.mark.parametrize("is_async", [False, True])
def test_a_callback_id_that_cannot_be_written_costs_only_its_reply(is_async):
    chsk = ChannelSocket(Config(max_inbox_events=2), user_id=user_id)
    seen = []

    async def wait(msg):
        seen.append(msg.data)

    chsk.on("t/e", wait if is_async else lambda msg: seen.append(msg.data))
    with World(chsk, raise_handler_errors=False) as world:
        client = connect(world, "ws")
        for _ in range(5):
            client.feed(BAD_CB_ID)
            client.feed(b"[[:chsk/ws-ping] :a\xc2\xa0b]", b"[[:t/unknown] :a\xc2\xa0b]")
            world.turn()
        assert seen == [1] * 5
        assert client.is_open
        assert client.ask("t/e", 2) is not None
        world.turn()
        assert seen[-1] == 2
        assert chsk.stats.reply_lost == 15


@pytest.mark.parametrize("answers", ["value", "reply", "later", "coroutine"])
def test_a_handler_is_not_blamed_for_a_callback_id_that_cannot_be_written(answers, caplog):
    chsk = ChannelSocket(Config(max_inbox_events=2), user_id=user_id)
    kept = []

    async def wait(msg):
        return msg.data

    handlers = {
        "value": lambda msg: msg.data,
        "reply": lambda msg: kept.append(msg.reply(msg.data)),
        "later": lambda msg: kept.append(msg) or LATER,
        "coroutine": wait,
    }
    chsk.on("t/e", handlers[answers])
    with World(chsk, raise_handler_errors=False) as world:
        client = connect(world, "ws")
        for _ in range(5):
            client.feed(BAD_CB_ID)
            world.turn()
            if answers == "later":
                assert kept[-1].reply(1) is False
                assert kept[-1].wants_reply is False
        assert answers != "reply" or kept == [False] * 5
        assert chsk.stats.reply_lost == 5
        assert not [record for record in caplog.records if "handler_error" in record.message]
        assert "expected a callback id that can be written" in caplog.text
        chsk.on("t/ok", lambda msg: msg.data)
        reply = client.ask("t/ok", 7)
        world.turn()
        assert reply.value == 7


def test_a_plain_handler_that_raises_cancelled_error_has_failed_like_any(chsk, world):
    @chsk.on("t/e")
    def handler(msg):
        raise asyncio.CancelledError

    client = connect(world, "ws")
    replies = [client.ask("t/e") for _ in range(40)]
    world.turn()
    assert [reply.value for reply in replies] == ["chsk/error"] * 40


def number(client, k, data):
    packet = client.world.packer.packet([Keyword("t/e"), data], None)
    return client.post(packet, [("n", f"77-{k}")])


def test_numbered_posts_wait_for_those_missing_each_time_anew(chsk, world):
    seen = []
    chsk.on("t/e", lambda msg: seen.append(msg.data))
    client = connect(world, "ajax", is_polling=False)
    client.shake_hands("77")
    client.poll()
    number(client, 2, 2)
    number(client, 1, 1)
    world.advance(0.95)
    number(client, 4, 4)
    world.advance(0.1)
    number(client, 3, 3)
    assert seen == [1, 2, 3, 4]
    number(client, 6, 6)
    world.advance(0.9)
    assert seen[-1] == 4
    world.advance(0.2)
    assert seen[-1] == 6


def test_a_post_sent_again_while_it_waits_for_its_turn_takes_the_place_of_the_first(chsk, world):
    seen = []
    chsk.on("t/e", lambda msg: seen.append(msg.data))
    client = connect(world, "ajax", is_polling=False)
    client.shake_hands("77")
    client.poll()
    first, again = number(client, 2, 2), number(client, 2, 2)
    number(client, 1, 1)
    assert (first.status, again.status) == (503, 200)
    assert seen == [1, 2]


def test_a_post_that_a_browser_sends_again_by_itself_is_handled_once(chsk, world):
    seen = []
    chsk.on("t/e", lambda msg: seen.append(msg.data))
    client = connect(world, "ajax", is_polling=False)
    client.shake_hands("77")
    client.poll()
    answers = [number(client, k, k) for k in (1, 1, 2, 1)]
    assert [answer.status for answer in answers] == [200] * 4
    assert seen == [1, 2]


def test_a_post_that_broke_before_its_turn_is_handled_when_it_is_sent_again(chsk, world):
    seen = []
    chsk.on("t/e", lambda msg: seen.append(msg.data))
    client = connect(world, "ajax", is_polling=False)
    client.shake_hands("77")
    number(client, 2, 2)
    client.drop()
    number(client, 1, 1)
    assert number(client, 2, 2).status == 200
    assert number(client, 3, 3).status == 200
    assert seen == [1, 2, 3]


def test_a_post_numbered_by_a_handshake_that_is_over_is_410_and_not_handled(chsk, world):
    seen = []
    chsk.on("t/e", lambda msg: seen.append(msg.data))
    client = connect(world, "ajax", is_polling=False)
    early = number(client, 1, 1)
    client.shake_hands("76")
    client.shake_hands("77")
    client.poll()
    packet = world.packer.packet([Keyword("t/e"), 2], None)
    old = client.post(packet, [("n", "76-1")])
    assert [early.status, old.status, number(client, 1, 3).status] == [410, 410, 200]
    assert seen == [3]


def test_a_post_that_found_no_room_is_not_overtaken_by_those_behind_it():
    chsk = ChannelSocket(Config(max_inbox_events=2), user_id=user_id)
    seen = []
    gate = []

    @chsk.on("t/e")
    async def handler(msg):
        seen.append(msg.data)
        while not gate:
            await asyncio.sleep(1)

    with World(chsk, raise_handler_errors=False) as world:
        client = connect(world, "ajax", is_polling=False)
        client.shake_hands("77")
        client.is_polling = True
        client.poll()
        for k in (1, 2, 3):
            reply = number(client, k, k)
        world.advance(5)
        behind = number(client, 4, 4)
        world.advance(15.1)
        assert (reply.status, behind.status) == (503, 503)
        gate.append(True)
        world.advance(2)
        for k in (4, 3):
            number(client, k, k)
        world.advance(2)
        assert seen == [1, 2, 3, 4]


def test_sends_of_a_thread_that_come_too_late_for_the_stop_are_counted_lost(chsk):
    with World(chsk, raise_handler_errors=False) as world:
        connect(world, "ws")
        for to in ("a", ALL):
            thread = threading.Thread(target=chsk.send, args=(to, "t/e"))
            thread.start()
            thread.join()
        chsk.stop()
        world.turn()
        stats = chsk.stats
        assert (stats.sent, stats.lost.stopped, stats.waiting_bytes) == (2, 2, 0)


def test_a_send_that_comes_too_late_for_the_stop_empties_no_outbox_but_its_own():
    def calls(others: int) -> int:
        count = 0

        def note(*_: object) -> None:
            nonlocal count
            count += 1

        chsk = ChannelSocket(user_id=user_id)
        with World(chsk, raise_handler_errors=False) as world:
            connect(world, "ws")
            for number in range(others):
                world.ws(uid=number)
            chsk.stop()
            world.turn()
            sys.setprofile(note)
            try:  # as the loop does for a thread that sent before the stop
                chsk._core.deliver("a", (Fragment(b"[:t/e]"),))
            finally:
                sys.setprofile(None)
            assert chsk.stats.lost.stopped == 1
        return count

    assert calls(2) == calls(200)


# -- unclaimed


@BOTH
def test_an_unclaimed_event_is_counted_warned_of_once_and_answered(chsk, world, transport, caplog):
    client = connect(world, transport)
    replies = [client.ask("t/unknown") for _ in range(3)]
    world.turn()
    assert [reply.value for reply in replies] == [["chsk/error", "unclaimed"]] * 3
    assert chsk.stats.unclaimed == 3
    assert caplog.text.count("unclaimed_event") == 1


@BOTH
def test_a_client_can_tell_an_unclaimed_event_from_a_handler_that_failed(chsk, world, transport):
    @chsk.on("t/fails")
    def fail(msg):
        raise RuntimeError

    client = connect(world, transport)
    for event_id, reason in (("t/unknown", "unclaimed"), ("t/fails", None)):
        with pytest.raises(ReplyError) as caught:
            client.send(event_id, timeout=5)
        assert caught.value.reason == reason


@BOTH
def test_to_sentes_clients_an_unclaimed_event_is_the_error_that_they_know(world, transport):
    client = connect(world, transport, params={"why": "0"})
    reply = client.ask("t/unknown")
    world.turn()
    assert reply.value == Keyword("chsk/error")


def test_the_iterator_gets_what_no_handler_claims_and_can_reply(chsk, world):
    async def read():
        async for msg in chsk:
            msg.reply(msg.data + 1)
            if msg.data == 3:
                return

    task = world.loop.create_task(read())
    world.turn()
    client = connect(world, "ws")
    replies = [client.ask("t/unknown", number) for number in (1, 2, 3)]
    world.turn()
    assert [reply.value for reply in replies] == [2, 3, 4]
    assert task.done()
    assert chsk.stats.unclaimed == 0


def test_a_full_iterator_stops_the_reading_and_drops_nothing():
    chsk = ChannelSocket(Config(max_inbox_events=3), user_id=user_id)
    seen = []

    async def read():
        async for msg in chsk:
            seen.append(msg.data)
            await asyncio.sleep(1)

    with World(chsk, raise_handler_errors=False) as world:
        task = world.loop.create_task(read())
        world.turn()
        client = connect(world, "ws")
        for number in range(10):
            client.send("t/unknown", number)
        assert client.unread == 7
        world.advance(20)
        assert seen == list(range(10))
        task.cancel()
        world.turn()


def test_what_a_reader_leaves_behind_is_unclaimed_and_holds_no_room():
    chsk = ChannelSocket(Config(max_inbox_events=2), user_id=user_id)

    async def read():
        async for msg in chsk:
            msg.reply("read")
            await asyncio.sleep(1)
            break

    chsk.on("t/known", lambda msg: "room")
    with World(chsk, raise_handler_errors=False) as world:
        task = world.loop.create_task(read())
        world.turn()
        client = connect(world, "ws")
        replies = [client.ask("t/unknown") for _ in range(3)]
        last = client.ask("t/known")
        world.advance(5)
        assert task.done()
        unclaimed = ["chsk/error", "unclaimed"]
        assert [reply.value for reply in replies] == ["read", unclaimed, unclaimed]
        assert last.value == "room"
        assert chsk.stats.unclaimed == 2


def test_two_iterators_share_the_events_and_both_end(chsk):
    async def read():
        return [msg.data async for msg in chsk]

    with World(chsk, raise_handler_errors=False) as world:
        tasks = [world.loop.create_task(read()) for _ in range(2)]
        world.turn()
        client = connect(world, "ws")
        for number in range(10):
            client.send("t/unknown", number)
            world.turn()
    assert sorted(number for task in tasks for number in task.result()) == list(range(10))


def test_the_iterator_ends_when_the_channel_stops(chsk):
    async def read():
        return [msg.data async for msg in chsk]

    with World(chsk, raise_handler_errors=False) as world:
        task = world.loop.create_task(read())
        world.turn()
        connect(world, "ws").send("t/unknown", 1)
    assert task.result() == [1]


# -- the channel's own events


def test_a_forged_event_is_counted_answered_and_never_handled(chsk, world, caplog):
    heard = []
    chsk.on("chsk/uidport-open", lambda msg: heard.append(msg.data))
    client = connect(world, "ws")
    client.feed('[[:chsk/uidport-open "evil"] nil]', '[[:chsk/whatever] "cb"]')
    world.turn()
    assert heard == ["a"]
    assert chsk.stats.forged == 2
    assert client.stray == [["chsk/error", "cb"]]
    assert caplog.text.count("forged_event") == 1


@BOTH
@pytest.mark.parametrize(
    "text",
    [f"0x{'f' * 3571}", "[" * 490 + "]" * 490, "#{" * 490 + "}" * 490],
    ids=["integer", "vectors", "sets"],
)
def test_a_bad_event_is_logged_whatever_it_holds(chsk, world, caplog, transport, text):
    was = sys.get_int_max_str_digits()
    client = connect(world, transport)
    packet = f"[[{text}] {':ajax' if transport == 'ajax' else '7'}]"
    sys.set_int_max_str_digits(640)
    try:
        reply = client.post(packet) if transport == "ajax" else client.feed(packet)
        world.turn()
    finally:
        sys.set_int_max_str_digits(was)
    if transport == "ajax":
        assert (reply.status, reply.value) == (200, "chsk/error")
    assert client.state == "open"
    assert caplog.text.count("bad_event") == 1
    assert not caplog.records[0].exc_info
    assert chsk.stats.bad_event == 1


def test_a_ping_is_answered_with_the_string_pong_and_may_be_handled(chsk, world):
    heard = []
    chsk.on("chsk/ws-ping", lambda msg: heard.append(msg.id))
    client = connect(world, "ws")
    reply = client.ping()
    world.turn()
    assert reply.value == "pong"
    assert client.stray == []  # answered once
    assert type(reply.value) is str
    assert heard == ["chsk/ws-ping"]


# -- send


@pytest.mark.parametrize(
    ("to", "event_id", "words"),
    [
        ("a", "said", "namespaced"),
        ("a", ":chat/said", "namespaced"),
        ("a", "/said", "namespaced"),
        ("a", "chsk/close", "outside the namespace chsk"),
        ("a", 7, "expected an event id"),
        ("a", "a/b/c", "that edn can spell"),
        ("a", "a/b c", "that edn can spell"),
        (None, "t/e", "msg.client"),
        (True, "t/e", "user id"),
        (1.5, "t/e", "user id"),
        ("", "t/e", "user id"),
        ("x" * 257, "t/e", "user id"),
    ],
)
def test_a_bad_send_raises_where_it_is_made(chsk, world, to, event_id, words):
    with pytest.raises(InvalidEvent, match=words):
        chsk.send(to, event_id, 1)


@pytest.mark.parametrize("event_id", ["said", "a/b/c", "chsk/close", "chsk/handshake", 7])
def test_a_handler_of_an_id_that_cannot_come_is_refused(chsk, event_id):
    with pytest.raises(InvalidEvent):
        chsk.on(event_id, print)


def test_a_second_handler_of_an_id_is_refused(chsk):
    chsk.on("t/e", print)
    with pytest.raises(InvalidEvent, match="got a second"):
        chsk.on("t/e", print)


@pytest.mark.parametrize(
    "code", [0, -1, 999, 1004, 1005, 1006, 1015, 2999, 5000, True, "x", 1e3, 10**12]
)
def test_a_close_code_that_may_not_be_sent_raises_before_anything_closes(chsk, world, code):
    clients = [connect(world, "ws"), connect(world, "ajax")]
    with pytest.raises(InvalidEvent, match="close code"):
        chsk.disconnect("a", code=code)
    world.turn()
    assert clients[0].is_open
    assert clients[1].parked is not None


def test_an_event_larger_than_the_backlog_limit_raises(chsk, world):
    with pytest.raises(InvalidEvent, match="max_backlog_bytes"):
        chsk.send("a", "t/e", "x" * (1 << 20))


def test_send_before_start_and_after_stop_raises(chsk):
    with pytest.raises(ChannelClosed, match="not started"):
        chsk.send("a", "t/e")
    with World(chsk, raise_handler_errors=False):
        pass
    with pytest.raises(ChannelClosed, match="stopped"):
        chsk.send("a", "t/e")


def test_the_value_may_be_changed_after_send(chsk, world):
    client = connect(world, "ws")
    value = {"n": 1}
    chsk.send("a", "t/e", value)
    value["n"] = 2
    world.turn()
    assert client.take() == [("t/e", {"n": 1})]


def test_sends_from_a_thread_arrive_in_their_order(chsk, world):
    client = connect(world, "ws")

    def work():
        for number in range(100):
            chsk.send("a", "t/e", number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    world.turn()
    assert [event.data for event in client.take()] == list(range(100))


def test_a_push_and_a_reply_stand_in_the_order_in_which_they_were_made(chsk, world):
    @chsk.on("t/e")
    def handler(msg):
        chsk.send("a", "t/push", 1)
        msg.reply("reply")
        chsk.send("a", "t/push", 2)

    client = connect(world, "ws")
    client.ask("t/e")
    assert client.transport.arrived[1:] == [
        b"[[[:t/push 1]] nil]",
        b'["reply" "000002"]',
        b"[[[:t/push 2]] nil]",
    ]
    assert client.transport.writes == [1, 3]  # all of one read in one send


def test_what_no_handler_may_catch_does_not_hold_what_comes_behind_it(chsk, world):
    class Ours(BaseException):
        pass

    handled = []

    @chsk.on("t/bad")
    async def bad(msg):
        raise Ours

    @chsk.on("t/good")
    async def good(msg):
        handled.append(msg.data)

    client = connect(world, "ws")
    with pytest.raises(Ours):
        client.send("t/bad")
    again = connect(world, "ws", client_id=client.client_id)
    again.send("t/good", 1)
    world.turn()
    assert handled == [1]
