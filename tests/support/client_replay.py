"""A recorded Sente server, played to our own client: does it take what our client sends?

The server's half of a recording is said again, each word at its recorded time on a loop whose
time only we turn. Our client is given what the recorded one was given, does what it did, and
what it sends is compared with the recording: targets, headers, values, order, time. Where the
two may differ stands in MAY_DIFFER, and nowhere else.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import itertools
import json
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import sente_script
from readme_pair import free_port
from recorded_servers import PACKERS
from recording import FOLDER, load
from same import Mismatch, event, tree
from sente_script import BINARY, CLOSE, PING, PONG, TEXT, Connection, Request, frame, turns

from chansock.client import Client, ClientConfig, connect
from chansock.errors import ChannelClosed, HandshakeRefused, ReplyTimeout
from chansock.values import Keyword

PUSHED = ("test/echo", "test/pushed", "test/bcast")

LEFT_OUT = {
    "chromium-ajax-close-me": "Chromium did not see that its poll had ended, and stayed deaf; ours "
    "sees it, as node does (node-ajax-close-me)",
    "chromium-ajax-fin": "Chromium repeats a poll by itself, which no client in it can know",
    "chromium-ajax-same-id": "over Ajax a server cannot tell two clients of one client-id apart",
    "node-ajax-same-id": "the same",
    "jvm-ws-stall": "a middlebox held every byte back; test_client_reconnect.py has hanging peers",
    "node-ws-stall": "the same",
    "node-ws-long-outage": "Sente's ticks begin the backoff anew every 10 s; ours is capped there",
}

MAY_DIFFER = {
    "n": "our POSTs are numbered; Sente's server ignores the field",
    "why": "ours ask why data was refused; the same",
    "pos, acked, sent, try": "ours ask with a handshake to be resumed; the same",
    "params with POSTs": "ours have the application's, so that a uid from a param holds for them",
    "x-csrf-token: null": "Sente's GETs say it where there is no token; ours say nothing",
    "extensions": "ours offers none; those of browsers were declined",
    "which connection": "ours keeps one for polls and up to four for POSTs",
    "which tick pings": "ours counts its ticks from the handshake, Sente's from the first attempt; "
    "and a pong within the millisecond of its ping makes Sente's next tick ping, never ours",
    "a refused client": "ours asks once by Ajax why its WebSocket did not open, and then stops",
    "a connection that ended": "ours knows at once, and does not try a request on it first",
    "after a break": "ours comes back at once by itself; the recorded one when it was told to",
}

EARLY = 2.5  # seconds: how far the recorded clients lagged behind their own timers
LATE = 0.5  # the step of the virtual clock, twice
STEP = 0.25
PATIENCE = 60.0  # real seconds for what is under way


class VirtualLoop(sente_script.VirtualTimeLoop):
    """Time is virtual; names are looked up without a thread."""

    def time(self) -> float:
        return self.ahead

    async def getaddrinfo(self, host: Any, port: Any, **how: Any) -> Any:
        return socket.getaddrinfo(host, port, **how)  # numeric


@dataclass(eq=False)
class Line:
    """One connection from our client, as far as it was read."""

    connection: Connection
    frames: deque[tuple[sente_script.Frame, float]] = field(default_factory=deque)
    pings: deque[float] = field(default_factory=deque)  # answered as they come
    at_end: bool = False


@dataclass(eq=False)
class Asked:
    """One request of our client."""

    line: Line
    request: Request
    time: float


@dataclass(eq=False)
class Sent:
    """What the application of our client sent, and the reply that the recording has."""

    record: dict[str, Any]
    value: list[Any]
    cb: Any
    task: asyncio.Task[Any]
    expected: Any = None
    asked: Asked | None = None  # the POST
    is_answered: bool = False
    response: dict[str, Any] | None = None


@dataclass(eq=False)
class Player:
    """One of our clients, and what came to it."""

    client: Client
    entering: asyncio.Task[Client]
    got: list[Any] = field(default_factory=list)
    pushed: list[Any] = field(default_factory=list)  # in the recording
    posts: list[Sent] = field(default_factory=list)
    conn: int = 0  # in the recording: its socket
    is_off: bool = False  # after disconnect()


class ClientReplay:
    """One recording, played to as many clients as it has."""

    def __init__(self, name: str, patience: float = PATIENCE) -> None:
        self.name = name
        self.patience = patience
        self.meta, *self.records = _lines(name)
        self.packer = PACKERS[self.meta["packer"]]()
        self.loop = asyncio.get_running_loop()
        assert isinstance(self.loop, VirtualLoop)
        self.server: asyncio.Server | None = None
        self.port = 0
        self.players: dict[int, Player] = {}  # by the recorded connection
        self.all_players: list[Player] = []
        self.lines: dict[int, Line] = {}  # the same
        self.all_lines: list[Line] = []
        self.upgraded: set[int] = set()  # of these
        self.asked: dict[int, Asked] = {}  # by it: GETs that are not answered yet
        self.posted: dict[int, Sent] = {}  # and POSTs
        self.arrived: list[Asked] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.cb_ids: dict[str, str] = {}  # recorded -> ours
        self.sent: list[Sent] = []
        self.noted: list[str] = []
        self.delays = self._delays()
        self.breaks = iter(("reconnect", "break_connection"))

    # playing

    async def play(self) -> None:
        await self._listen(free_port())
        try:
            for index, record in enumerate(self.records):
                await self._turn_to(record["t"])
                try:
                    await self._step(record, index)
                except Mismatch as error:
                    where = f"{self.name} line {index + 2} at {record['t']} s"
                    raise Mismatch(f"{where}: {error}") from None
            await self._check_end()
        finally:
            await self._leave()

    async def _step(self, record: dict[str, Any], index: int) -> None:
        is_client = record.get("dir") == "c>s"
        match record["kind"]:
            case "open" | "client-state":
                pass
            case "note":
                await self._act_network(record["text"])
            case "http-request" if is_client:
                await self._match_request(record)
            case "http-response":
                await self._respond(record)
            case "ws-frame" if record["opcode"] in (PING, PONG):
                pass  # Java-WebSocket's own
            case "ws-frame" if is_client:
                await self._match_frame(record, index)
            case "ws-frame":
                self._say_frame(record)
            case "raw-bytes":
                line = self.asked.pop(record["conn"]).line
                line.connection.writer.write(bytes.fromhex(record["hex"]))
            case "close" if is_client:
                await self._match_close(record, index)
            case "close" if record["conn"] in self.upgraded:
                self.lines[record["conn"]].connection.end()
                self.players[record["conn"]].conn = 0
            case "close":
                pass  # which connection serves what is the client's affair
            case kind:
                raise ValueError(f"expected a known kind of record, got {kind!r}")

    async def _act_network(self, text: str) -> None:
        if text.startswith("answered by the middlebox"):
            return
        action = text.removeprefix("network action: ")
        if text.startswith("connection attempt during the outage"):
            return
        if action in ("fin", "down"):
            if action == "down":
                assert self.server is not None
                self.server.close()
            for line in self.all_lines:
                line.connection.end()
            for player in self.all_players:
                player.conn = 0
            self.asked.clear()
        elif action == "up":
            await self._listen(self.port)
        else:
            raise ValueError(f"expected fin, down or up, got {text!r}")
        await turns()

    # requests

    async def _match_request(self, record: dict[str, Any]) -> None:
        if record["method"] == "POST":
            self._post(record)
            return
        theirs = dict(parse_qsl(record["target"].partition("?")[2], keep_blank_values=True))
        is_upgrade = "udt" not in theirs
        player = self._player(record, theirs, is_upgrade)
        if is_upgrade:
            player.conn = record["conn"]
            self.upgraded.add(record["conn"])
        if player.is_off:
            player.is_off = False
            player.client.reconnect()
        is_handshake = "handshake?" in theirs
        if is_handshake and player.client.state.open:
            self._come_back(player)  # a browser closes the poll a moment later

        def is_it(asked: Asked) -> bool:
            query = asked.request.query
            return (
                asked.request.method == "GET"
                and query["client-id"] == theirs["client-id"]
                and ("udt" not in query) == is_upgrade
            )

        asked = await self._take(is_it, f"{record['target']}")
        if ("handshake?" in asked.request.query) != is_handshake:
            raise Mismatch(f"expected {record['target']}, got {asked.request.target}")
        self._compare_query(theirs, asked.request.query)
        self._compare_headers(record, asked.request)
        if is_handshake or is_upgrade:
            self._compare_time(record, asked.time)
        self.players[record["conn"]] = player
        self.lines[record["conn"]] = asked.line
        self.asked[record["conn"]] = asked

    def _player(self, record: dict[str, Any], query: dict[str, str], is_upgrade: bool) -> Player:
        """Find the client that asks, or make it."""
        for player in self.all_players:
            is_its = player.client.client_id == query["client-id"]
            if is_its and not (is_upgrade and player.conn):
                return player
        headers = {name.lower(): value for name, value in record["headers"]}
        own = ("client-id", "csrf-token", "udt", "handshake?")
        token = query.get("csrf-token", headers.get("x-csrf-token"))
        self.params = {name: value for name, value in query.items() if name not in own}
        client = connect(
            f"http://127.0.0.1:{self.port}{record['target'].partition('?')[0]}",
            transport=self.meta["client_type"],
            packer=self.packer,
            client_id=query["client-id"],
            csrf_token=None if token == "null" else token,
            params=lambda: self.params,
            headers={n: v for n, v in headers.items() if n == "x-rig-uid"},
            backoff=lambda _: next(self.delays),
            # what the recorded client of this scenario was told, too
            config=ClientConfig(
                ws_ping_interval=None if self.meta["scenario"] == "server-ping" else 10.0
            ),
        )
        player = Player(client, asyncio.create_task(client.__aenter__()))
        for name in PUSHED:
            client.on(name, lambda item: player.got.append(event([Keyword(item.id), item.data])))
        self.all_players.append(player)
        return player

    def _post(self, record: dict[str, Any]) -> None:
        """Have our client send what the recorded one posts here; it is matched as it comes."""
        query = dict(parse_qsl(record["target"].partition("?")[2]))
        if "binary?" in query:
            packed = _body(record)
            client_id = query["client-id"]
        else:
            form = dict(parse_qsl(record["body"], keep_blank_values=True))
            packed = form["ppstr"].encode()
            client_id = form["client-id"]
        value, cb = self.packer.unpack(memoryview(packed))
        player = next(p for p in self.all_players if p.client.client_id == client_id)
        sent = self._send(player, record, value, cb)
        player.posts.append(sent)
        self.posted[record["conn"]] = sent
        self.asked.pop(record["conn"], None)

    def _send(self, player: Player, record: dict[str, Any], value: list[Any], cb: Any) -> Sent:
        timeout = None
        if cb is not None:
            timeout = 60.0
            if value[0] == "test/no-reply":
                timeout = 1.0 if len(value) == 2 else 25.0
        data = value[1] if len(value) == 2 else None
        sending = player.client.send(value[0], data, timeout=timeout)
        sent = Sent(record, value, cb, asyncio.create_task(sending), expected=TimeoutError)
        self.sent.append(sent)
        return sent

    def _settle(self) -> None:
        """Match what has been posted, and answer what may be answered."""
        for asked in [asked for asked in self.arrived if asked.request.method == "POST"]:
            body = asked.request.body
            form = asked.request.query
            if not self.packer.binary:
                form = asked.request.form
                body = unquote_to_bytes(asked.request.body.partition(b"&ppstr=")[2])
            value, cb = self.packer.unpack(memoryview(body))
            player = next(p for p in self.all_players if p.client.client_id == form["client-id"])
            for sent in player.posts:
                if sent.asked is None and event(sent.value) == event(value):
                    break
            else:
                raise Mismatch(f"expected no POST, got {value!r:.200}")
            if tree(cb) != tree(sent.cb):
                raise Mismatch(f"expected the callback {sent.cb!r}, got {cb!r}")
            self._compare_post(sent.record, asked.request)
            sent.asked = asked
            self.arrived.remove(asked)
        for player in self.all_players:
            numbers = [self._number(sent.asked) for sent in player.posts if sent.asked is not None]
            if numbers != sorted(numbers):
                raise Mismatch(f"expected POSTs numbered in the order of send, got {numbers}")
            for sent in player.posts:
                if sent.asked is not None and sent.response is not None and not sent.is_answered:
                    sent.is_answered = True
                    _answer(sent.asked.line.connection, sent.response)

    def _number(self, asked: Asked) -> tuple[int, int]:
        form = asked.request.query if self.packer.binary else asked.request.form
        session, _, count = form["n"].partition("-")
        return int(session), int(count)

    def _compare_post(self, record: dict[str, Any], request: Request) -> None:
        path, _, query = record["target"].partition("?")
        theirs = dict(parse_qsl(query))
        ours = request.query
        if not self.packer.binary:
            form = dict(parse_qsl(record["body"], keep_blank_values=True))
            if {*request.form} - {"n", "why"} != {*form}:
                raise Mismatch(f"expected the fields {[*form]}, got {[*request.form]}")
        self._compare_query(
            theirs, {n: v for n, v in ours.items() if n not in {**self.params, "n": ""}}
        )
        if request.target.partition("?")[0] != path:
            raise Mismatch(f"expected a POST to {path}, got {request.target}")
        self._compare_headers(record, request)

    def _compare_query(self, theirs: dict[str, str], ours: dict[str, str]) -> None:
        more = {"why", "pos", "acked", "sent", "try"}
        ours = {name: value for name, value in ours.items() if name not in more}
        if {**theirs, "udt": ""} != {**ours, "udt": ""} or ("udt" in theirs) != ("udt" in ours):
            raise Mismatch(f"expected the query {theirs}, got {ours}")
        if not ours.get("udt", "1").isdecimal():
            raise Mismatch(f"expected milliseconds as udt, got {ours['udt']!r}")

    def _compare_headers(self, record: dict[str, Any], request: Request) -> None:
        theirs = {name.lower(): value for name, value in record["headers"]}
        if theirs.get("x-csrf-token") == "null":
            del theirs["x-csrf-token"]
        for name in (
            "connection",
            "content-type",
            "sec-websocket-protocol",
            "sec-websocket-version",
            "upgrade",
            "x-csrf-token",
            "x-requested-with",
            "x-rig-uid",
        ):
            is_upgrade = "sec-websocket-key" in theirs
            if name == "connection" and not is_upgrade:
                continue  # keep-alive is what HTTP/1.1 means without a word
            expected, got = theirs.get(name, ""), request.headers.get(name, "")
            if name in ("connection", "upgrade"):  # whose case is nobody's business
                expected, got = expected.lower(), got.lower()
            if expected != got:
                raise Mismatch(f"expected {name}: {expected!r}, got {got!r}")

    def _compare_time(self, record: dict[str, Any], ours: float) -> None:
        if ours > record["t"] + LATE:
            raise Mismatch(f"expected it by {record['t']} s, got it at {ours:g} s")
        if ours < record["t"] - EARLY:
            self.noted.append("early")

    # answers

    async def _respond(self, record: dict[str, Any]) -> None:
        conn = record["conn"]
        sent = self.posted.pop(conn, None)
        if sent is not None:
            sent.response = record
            if sent.cb is not None:
                sent.expected, _ = self.packer.unpack(memoryview(_body(record)))
            await self._until(lambda: sent.is_answered or self._are_places_full(sent), "a POST")
            return
        asked = self.asked.pop(conn)
        if record["status"] == 101:
            asked.line.connection.upgrade(asked.request)
            return
        if record["status"] == 200:
            value, cb = self.packer.unpack(memoryview(_body(record)))
            if cb is not None:
                raise ValueError(f"expected no callback in a poll's answer, got {cb!r}")
            self._note_pushes(self.players[conn], value)
        _answer(asked.line.connection, record)
        if record["status"] == 403 and self.meta["scenario"] == "not-admitted":
            await self._check_refused(record)

    def _are_places_full(self, sent: Sent) -> bool:
        player = next(p for p in self.all_players if sent in p.posts)
        waiting = [s for s in player.posts if s.asked is not None and not s.is_answered]
        return len(waiting) >= 4

    async def _check_refused(self, record: dict[str, Any]) -> None:
        """Our client asks once more, by Ajax, if its WebSocket was refused; then it stops."""
        (player,) = self.all_players
        if self.meta["client_type"] != "ajax":
            if self.records.index(record) > 3:
                return
            probe = await self._take(lambda a: "handshake?" in a.request.query, "an Ajax handshake")
            _answer(probe.line.connection, record)
        await self._until(player.entering.done, "the refusal")
        error = player.entering.exception()
        if not isinstance(error, HandshakeRefused) or error.status != 403:
            raise Mismatch(f"expected HandshakeRefused, got {error!r}")
        if error.reason != "Bad CSRF token":
            raise Mismatch(f"expected Sente's own words, got {error.reason!r}")
        raise _Refused

    # frames

    async def _match_frame(self, record: dict[str, Any], index: int) -> None:
        conn = record["conn"]
        player = self.players[conn]
        line = self.lines[conn]
        if record["opcode"] == CLOSE:
            await self._match_close_frame(record, index, player, line)
            return
        value, cb = self.packer.unpack(memoryview(_payload(record)))
        if value[0] == "chsk/ws-ping":
            self._match_ping(record, line)
            return
        sent = None
        if value[0] != "chsk/ws-pong":
            sent = self._send(player, record, value, cb)
        await self._until(lambda: bool(line.frames), f"the frame {value!r:.200}")
        got, when = line.frames.popleft()
        ours, our_cb = self._unpack(got)
        if event(ours) != event(value):
            raise Mismatch(f"expected {value!r:.200}, got {ours!r:.200}")
        self._match_cb(cb, our_cb)
        if sent is not None and cb is not None:
            self.cb_ids[cb] = our_cb
            sent.expected = self._reply_in_recording(conn, cb)
        self._compare_time(record, when)

    def _unpack(self, got: sente_script.Frame) -> tuple[Any, Any]:
        kind = BINARY if self.packer.binary else TEXT
        if got.opcode != kind or not got.is_last:
            raise Mismatch(f"expected a whole frame of opcode {kind}, got {got!r:.200}")
        return self.packer.unpack(memoryview(got.payload))

    def _match_cb(self, theirs: Any, ours: Any) -> None:
        if theirs is None:
            if ours is not None:
                raise Mismatch(f"expected no callback id, got {ours!r}")
        elif type(ours) is not str or len(ours) != 6 or not int(ours, 16) + 1:
            raise Mismatch(f"expected six hex characters like {theirs!r}, got {ours!r}")

    def _match_ping(self, record: dict[str, Any], line: Line) -> None:
        while line.pings and line.pings[0] < record["t"] - EARLY:
            line.pings.popleft()
            self.noted.append("a ping more")
        if line.pings:
            line.pings.popleft()
        else:
            self.noted.append("a ping less")

    def _take_frame(self, line: Line, got: sente_script.Frame) -> None:
        if got.opcode in (TEXT, BINARY):
            value, cb = self._unpack(got)
            if tree(value) == tree([Keyword("chsk/ws-ping")]):
                self._match_cb("a6f0c1", cb)
                pong = self.packer.packet("pong", cb)
                line.connection.writer.write(frame(got.opcode, pong))
                line.pings.append(self.loop.time())
                return
        line.frames.append((got, self.loop.time()))

    async def _match_close_frame(
        self, record: dict[str, Any], index: int, player: Player, line: Line
    ) -> None:
        is_ours = not any(
            r.get("opcode") == CLOSE and r["conn"] == record["conn"] and r["dir"] == "s>c"
            for r in self.records[:index]
        )
        if is_ours:
            if record["code"] == 3000:
                player.client.break_connection(record["code"])
            else:
                self._stop(player, record, index)
        await self._until(lambda: bool(line.frames), "a close frame")
        got, _ = line.frames.popleft()
        if got.opcode != CLOSE or (got.close if got.payload else (None, "")) != (
            record["code"],
            record["close_reason"],
        ):
            raise Mismatch(f"expected {record['code']} {record['close_reason']}, got {got!r:.200}")
        player.conn = 0

    def _stop(self, player: Player, record: dict[str, Any], index: int) -> None:
        """Do as the recorded application did: reconnect, if the next request comes at once."""
        client_id = player.client.client_id
        for later in self.records[index + 1 :]:
            if later["t"] > record["t"] + 0.05:
                break
            if later["kind"] == "http-request" and later["method"] == "GET":
                query = dict(parse_qsl(later["target"].partition("?")[2]))
                if query["client-id"] == client_id:
                    self._come_back(player)
                    return
        player.is_off = True
        player.client.disconnect()

    def _come_back(self, player: Player) -> None:
        if self.meta["client_type"] == "ajax" and next(self.breaks) == "break_connection":
            player.client.break_connection()
        else:
            player.client.reconnect()

    def _reply_in_recording(self, conn: int, cb: str) -> Any:
        for record in self.records:
            if record["kind"] == "ws-frame" and record["dir"] == "s>c" and record["conn"] == conn:
                if record["opcode"] == CLOSE:
                    continue
                value, its_cb = self.packer.unpack(memoryview(_payload(record)))
                if its_cb == cb:
                    return value
        return TimeoutError

    def _say_frame(self, record: dict[str, Any]) -> None:
        conn = record["conn"]
        connection = self.lines[conn].connection
        if record["opcode"] == CLOSE:
            code = record["code"]
            payload = b"" if code is None else code.to_bytes(2, "big")
            payload += record["close_reason"].encode()
            self.players[conn].conn = 0
        else:
            payload = _payload(record)
            value, cb = self.packer.unpack(memoryview(payload))
            if cb is not None and cb not in self.cb_ids:
                return  # the answer to a ping; ours had theirs as they came
            if cb is None:
                self._note_pushes(self.players[conn], value)
            else:
                payload = _with_cb(payload, cb, self.cb_ids[cb])
        connection.writer.write(frame(record["opcode"], payload))

    def _note_pushes(self, player: Player, value: Any) -> None:
        if isinstance(value, list) and all(isinstance(item, list) for item in value):
            player.pushed += [event(item) for item in value]

    # ends

    async def _match_close(self, record: dict[str, Any], index: int) -> None:
        """A client's FIN: the application's doing, if a poll was parked there or a socket open."""
        conn = record["conn"]
        if conn in self.upgraded and self.players[conn].conn == conn:
            self._stop(self.players[conn], record, index)
        asked = self.asked.pop(conn, None)
        if asked is None or "udt" not in asked.request.query or asked.line.at_end:
            return
        player = self.players[conn]
        if not player.is_off:
            self._stop(player, record, index)
        await self._until(lambda: asked.line.at_end, "the end of the poll")

    async def _check_end(self) -> None:
        await turns()
        self._settle()
        for player in self.all_players:
            player.client.disconnect()
            if player.got != player.pushed:
                raise Mismatch(
                    f"{self.name}: expected {player.pushed!r:.300}, got {player.got!r:.300}"
                )
        for sent in self.sent:
            await self._check_reply(sent)
        left = [asked.request.target for asked in self.arrived]
        left += [str(f) for line in self.all_lines for f, _ in line.frames if f.opcode != CLOSE]
        self.noted += ["a ping more" for line in self.all_lines for _ in line.pings]
        if left:
            raise Mismatch(f"{self.name}: expected no more, got {left}")

    async def _check_reply(self, sent: Sent) -> None:
        try:
            reply = await sent.task
        except (ReplyTimeout, ChannelClosed) as error:
            reply = TimeoutError if isinstance(error, ReplyTimeout) else error
        expected = sent.expected if sent.cb is not None else None
        if isinstance(expected, str) and expected == "chsk/timeout":
            expected = TimeoutError
        if reply is not expected and tree(reply) != tree(expected):
            what = f"{sent.value!r:.100}"
            raise Mismatch(f"{self.name}: {what}: expected {expected!r:.200}, got {reply!r:.200}")

    async def _leave(self) -> None:
        for player in self.all_players:
            player.entering.cancel()
            await asyncio.wait({player.entering})
            leaving = asyncio.create_task(player.client.__aexit__(None, None, None))
            while not leaving.done():
                self.loop.turn(1.0)
                await turns()
        for task in [*self.tasks, *(sent.task for sent in self.sent)]:
            task.cancel()
        if self.server is not None:
            self.server.close()
        for line in self.all_lines:
            line.connection.abort()
        await turns()

    # arrivals

    async def _listen(self, port: int) -> None:
        self.server = await asyncio.start_server(
            self._met, "127.0.0.1", port, limit=1 << 25, reuse_address=True
        )
        self.port = self.server.sockets[0].getsockname()[1]

    def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(Connection(reader, writer))
        self.all_lines.append(line)
        task = asyncio.create_task(self._read(line))
        self.tasks.add(task)

    async def _read(self, line: Line) -> None:
        connection = line.connection
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await connection.request()
                self.arrived.append(Asked(line, request, self.loop.time()))
                while "upgrade" in request.headers:
                    self._take_frame(line, await connection.frame())
        line.at_end = True

    async def _take(self, is_it: Callable[[Asked], bool], what: str) -> Asked:
        await self._until(lambda: any(map(is_it, self.arrived)), what)
        asked = next(filter(is_it, self.arrived))
        self.arrived.remove(asked)
        return asked

    async def _until(self, holds: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + self.patience
        while True:
            await turns()
            self._settle()
            if holds():
                return
            if time.monotonic() > end:
                raise Mismatch(f"expected {what}, got nothing")

    async def _turn_to(self, when: float) -> None:
        while (left := when - self.loop.time()) > 1e-9:
            await turns()
            self.loop.turn(min(left, STEP))
        await turns()

    def _delays(self) -> Iterator[float]:
        """The waits that the recorded client drew by chance."""
        signs = [
            record
            for record in self.records
            if record["kind"] in ("client-state", "note", "open")
            and "action" not in record.get("text", "")
            and "requested-disconnect" not in record.get("text", "")
        ]
        for record, later in itertools.pairwise(signs):
            if "next-in=" in record.get("text", "") and later is not self.records[-1]:
                yield later["t"] - record["t"]  # its timers were late, or a tick came first
        while True:
            yield 1000.0


class _Refused(Exception):
    """The recording was played as far as our client goes."""


def _lines(name: str) -> list[dict[str, Any]]:
    """Return the lines of a recording with what was cut made again, and fragments joined."""
    text = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.split("\n") if line]
    begun: dict[tuple[int, bool], dict[str, Any]] = {}
    joined = set()
    for record in load(name):
        line = lines[record.line - 1]
        for key in ("text", "body"):
            if key in line:
                line[key] = record.text
        for key in ("b64", "body_b64"):
            if key in line:
                line[key] = base64.b64encode(record.binary).decode()
        if record.kind != "ws-frame" or record.opcode > BINARY:
            continue
        if record.opcode == 0:
            begun[record.conn, record.client]["text"] += record.text
            joined.add(record.line - 1)
        else:
            begun[record.conn, record.client] = line
    return [line for number, line in enumerate(lines) if number not in joined]


def _payload(record: dict[str, Any]) -> bytes:
    return base64.b64decode(record["b64"]) if "b64" in record else record.get("text", "").encode()


def _body(record: dict[str, Any]) -> bytes:
    if "body_b64" in record:
        return base64.b64decode(record["body_b64"])
    return record.get("body", "").encode()


def _with_cb(payload: bytes, theirs: str, ours: str) -> bytes:
    """Put our callback id where theirs was recorded; both have six characters."""
    if payload[:1] == b"\x01":
        return b"\x01" + gzip.compress(_with_cb(gzip.decompress(payload[1:]), theirs, ours))
    at = payload.rindex(theirs.encode())
    return payload[:at] + ours.encode() + payload[at + len(ours) :]


def _answer(connection: Connection, record: dict[str, Any]) -> None:
    lines = [f"HTTP/1.1 {record['status']} {record['reason']}"]
    lines += [f"{name}: {value}" for name, value in record["headers"]]
    connection.writer.write("\r\n".join((*lines, "", "")).encode() + _body(record))


async def play(played: ClientReplay) -> list[str]:
    """Play a recording; give what was noticed on the way and is no fault."""
    with contextlib.suppress(_Refused):
        await played.play()
    return played.noted
