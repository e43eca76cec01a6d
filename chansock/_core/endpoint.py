"""The one door for every edge: admit a request, open it, take what it brings.

Every hook and check runs in `admit`, before a 101 or a body is answered. What an edge
does with bytes and sockets is its own business; what a session is, the hub's.

A poll with `wait=0` is answered at once: with the events that wait, or with
`[:chsk/timeout nil]`. It is for our clients in browsers with many Ajax tabs, which share six
connections to a host. In all else it is an ordinary poll: presence, grace, and the rule for a
lost answer are the same, so the next one must come within `grace_ajax`. Sente's clients never
send `wait`.

It is a little past 400 lines, since every edge calls these few methods of one object.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from chansock._core import guard, wire
from chansock._core.backplane import Backplane
from chansock._core.homes import Homes, Opening
from chansock._core.hub import Hub
from chansock._core.lending import Lending, Lent
from chansock._core.log_limit import LogLimit
from chansock._core.posts import OTHER_PROCESS, STOPPING, PostOrder, Posts, Refusal
from chansock._core.request_fields import lost_fields, wants_upgrade
from chansock._core.resume import MALFORMED, TOO_FAR, Asked, Resume, Was
from chansock._core.session import Session
from chansock._core.session_state import Polls
from chansock._fast.events.dispatch import Connection, Dispatch, Inbox, is_awaitable
from chansock._fast.events.packet import Packer, Packet
from chansock._fast.http.request import Admission, site_of
from chansock._fast.io.tasks import start
from chansock._fast.io.timers import TimerQueue
from chansock._fast.io.transport import Incoming, Transport
from chansock.config import Config
from chansock.errors import BackplaneDown, ConfigError
from chansock.request import Request, Response
from chansock.target import ClientTarget, UserId, is_user_id
from chansock.values import short_repr

__all__ = ["Admission", "Endpoint", "Hook", "Hooks"]

log = logging.getLogger("chansock.endpoint")

MAX_UNTOLD: Final = 10_000  # users that came or went, behind a presence handler that waits
MAX_SITES: Final = 256  # that passed the checks, and are not asked again

_NOT_ALLOWED: Final = Response(405, "expected GET or POST", headers=(("Allow", "GET, POST"),))
_NO_HANDSHAKE: Final = Response(503, "expected a handshake first")
_PROXY_LINES: Final = (
    "nginx needs: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
    'proxy_set_header Connection "upgrade";'
)

T = TypeVar("T")
Hook: TypeAlias = Callable[[Request], T | Awaitable[T]]
_Steps: TypeAlias = Generator[Awaitable[Any], Any, "Admission | Response"]


@dataclass(slots=True)
class Came:
    """In an Admission's `handshake`: a client that this process becomes the home of.

    `asked` None: it does not resume; `data` is that of its handshake.
    """

    opening: Opening
    asked: Asked | None
    data: object


@dataclass(frozen=True, slots=True)
class Hooks:
    """The application's functions, each plain or async; None: not asked for."""

    user_id: Hook[UserId | None] | None = None
    handshake_data: Hook[object] | None = None
    authorize: Hook[bool] | None = None
    reject: Hook[Response | None] | None = None
    csrf_token: Hook[str | guard.Skip | None] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            hook = getattr(self, field.name)
            if hook is not None and not callable(hook):
                raise ConfigError(f"{field.name}: expected a function, got {hook!r:.80}")


class Endpoint:
    """Takes requests, sockets, polls and POSTs from the edges.

    Interface for edges: `admit`, `open`, `receive`, `post`, `drained`, `closed`, `settles`,
    `give_up`, `answer_fields`, `check_host` for other paths, and `log_limit` for their log
    lines. All are called on the loop's thread, and none raises for what a peer did.
    """

    def __init__(
        self,
        config: Config,
        hooks: Hooks,
        packer: Packer,
        hub: Hub,
        dispatch: Dispatch,
        timers: TimerQueue,
        presence_inbox: Inbox,
        *,
        takes_anonymous: bool = True,
        backplane: Backplane | None = None,
    ) -> None:
        self._config = config
        self._presence_inbox = presence_inbox  # who came or went, until the handler has run
        self._takes_anonymous = takes_anonymous
        self.log_limit: LogLimit = timers.log_limit
        self.hooks = hooks  # the test kit puts its own `user_id` before the application's
        self._packer = packer
        self._hub = hub
        self._dispatch = dispatch
        self.refused: dict[str, int] = {}
        # Hosts and origins that passed their checks: most requests come from one of a few pages.
        self._sites: set[bytes | None] = set()
        self._loopback_sites: set[bytes | None] = set()
        # POSTs work without a session too; while they are under way they share an inbox.
        self._stray_inboxes: WeakValueDictionary[tuple[UserId | None, str], Inbox] = (
            WeakValueDictionary()
        )
        self._posts = Posts(config, packer, dispatch, timers, self.refuse)
        self._resume: Resume | None = None
        if backplane is not None:
            self._resume = Resume(backplane, packer, hub, dispatch, self._posts)
        self.homes: Homes | None = None  # with an engine for several processes
        self.lending: Lending | None = None
        self.is_stopping: bool = False
        self._is_stopped = False
        self.incoming: Incoming = Incoming(config.max_total_incoming_bytes)  # shared with the edges

    # -- admitting

    def admit(
        self, request: Request, *, is_upgrade: bool | None = None, is_loopback: bool = False
    ) -> Admission | Response | Awaitable[Admission | Response]:
        """Run every check and hook. A Response refuses; hooks that wait make it awaitable.

        A POST is admitted once its body is read, since its form may hold the token.
        `is_upgrade` is for edges whose framework hides the upgrade's fields; `is_loopback`
        tells that the edge listens on a loopback address only. A CORS preflight is answered
        here too, without hooks: it carries nobody's cookies.
        """
        method = request.method
        if method == "POST":
            kind = "post"
        elif method != "GET":
            return self._other_method(request, is_loopback)
        else:
            if is_upgrade is None:
                is_upgrade = wants_upgrade(request)
            if not is_upgrade and (lost := lost_fields(request)):
                return self._refuse_stripped(lost)
            kind = "ws" if is_upgrade else "poll"
        steps = self._steps(request, kind, is_loopback)
        try:
            found, is_end = start(steps)
        except Exception:
            return self._hook_failed(request)
        return found if is_end else self._await_steps(steps, found, request)

    async def _await_steps(
        self, steps: _Steps, pending: Awaitable[Any], request: Request
    ) -> Admission | Response:
        try:
            while True:
                try:
                    value = await pending
                except Exception as error:
                    pending = steps.throw(error)
                else:
                    pending = steps.send(value)
        except StopIteration as done:
            return self._still(done.value)
        except Exception:
            return self._hook_failed(request)

    def _still(self, result: Admission | Response) -> Admission | Response:
        """Check again, after hooks that waited, what may have changed meanwhile."""
        if isinstance(result, Response):
            return result
        if self.is_stopping:
            return self.refuse(*STOPPING)
        session = self._hub.table.find(result.uid, result.client_id)
        if result.kind != "post" or session is None:
            why = self._has_room(result.uid, result.client_id)
            if why is not None:
                return self.refuse("full", 503, why)
        return result

    def _has_room(self, uid: UserId | None, client_id: str) -> str | None:
        """Return why there is no room for one more connection of this client, or None."""
        if (
            self._presence_inbox.events >= MAX_UNTOLD
            and self._hub.table.find(uid, client_id) is None
        ):
            # Each is kept with its connection and its request until its handler has run.
            return f"expected at most {MAX_UNTOLD} events that wait for a presence handler"
        return self._hub.has_room(uid, client_id)

    def _steps(self, request: Request, kind: str, is_loopback: bool) -> _Steps:
        # A generator, so that hooks may be plain or async and a plain one costs no task.
        hooks, config = self.hooks, self._config
        if self.is_stopping:
            return self.refuse(*STOPPING)
        if hooks.reject is not None:
            response = hooks.reject(request)
            if is_awaitable(response):
                response = yield response
            if response is not None:
                self._count("reject")
                return _checked(response, Response, "reject")
        if why := guard.check_client_id(request):
            return self.refuse("client_id", 400, why)
        sites = self._loopback_sites if is_loopback else self._sites
        site = site_of(request)
        is_known = site in sites
        if not is_known and (
            why := guard.check_host(request, config.allowed_hosts, is_loopback=is_loopback)
        ):
            return self.refuse("host", 403, "Unauthorized host", why)
        if hooks.csrf_token is not None:
            token = hooks.csrf_token(request)
            if is_awaitable(token):
                token = yield token
            if why := guard.check_token(request, token):
                return self.refuse("csrf", 403, "Bad CSRF token", why)
        if not is_known:
            if why := guard.check_origin(request, config.allowed_origins):
                return self.refuse("origin", 403, "Unauthorized origin", why)
            if site is not None:
                if len(sites) >= MAX_SITES:
                    sites.clear()
                sites.add(site)
        if why := guard.check_cookies(request, kind, config.allowed_origins):
            return self.refuse("origin", 403, "Unauthorized origin", why)
        if hooks.authorize is not None:
            is_authorized = hooks.authorize(request)
            if is_awaitable(is_authorized):
                is_authorized = yield is_authorized
            if not is_authorized:
                return self.refuse("authorize", 401, "Unauthorized request")
        uid: UserId | None = None
        if hooks.user_id is not None:
            found = hooks.user_id(request)
            if is_awaitable(found):
                found = yield found
            if found is not None and not is_user_id(found):
                self.log_limit.error(
                    log,
                    "bad_user_id expected str of 1 to 256 characters, int, UUID or None, got %s",
                    short_repr(found),
                )
                return self.refuse("uid", 500, "internal server error")
            uid = found
        if uid is None and not self._takes_anonymous:
            why = "expected a user id of user_id, got None (anonymous=False)"
            return self.refuse("anonymous", 401, "Unauthorized request", why)
        client_id = request.params["client-id"]
        if self.homes is not None:
            return (yield from self._shared_steps(request, kind, uid, client_id, self.homes))
        if kind == "post" and self._hub.table.find(uid, client_id) is not None:
            return Admission(kind, request, uid, client_id)
        if why := self._has_room(uid, client_id):
            return self.refuse("full", 503, why)
        if kind == "post":
            return Admission(kind, request, uid, client_id)
        if kind == "poll" and not self._needs_handshake(request, uid, client_id):
            return Admission(kind, request, uid, client_id)
        resume = self._resume if "pos" in request.params else None
        if kind == "poll" and resume is not None and "handshake?" not in request.params:
            # A poll does not say enough for a handshake.
            return self.refuse("no_session", 503, "expected a handshake first")
        data: object = None
        if hooks.handshake_data is not None:
            data = hooks.handshake_data(request)
            if is_awaitable(data):
                data = yield data
        packet = Packet(self._packer.packet(wire.handshake(uid, data), None), self._packer.binary)
        if resume is None:
            return Admission(kind, request, uid, client_id, packet)
        asked = Asked.parse(request, uid, data)
        if asked is None:
            return self.refuse("resume", 400, MALFORMED)
        if resume.is_late(asked, ClientTarget(uid, client_id)):
            # It would end the connection that the newer one opened.
            text = "a newer handshake of this client came first"
            return self.refuse("late_handshake", 409, text)
        return Admission(kind, request, uid, client_id, asked)

    def _shared_steps(
        self, request: Request, kind: str, uid: UserId | None, client_id: str, homes: Homes
    ) -> _Steps:
        """Find the home of a client among several processes, or become it."""
        client = ClientTarget(uid, client_id)
        is_known = self._hub.table.find(uid, client_id) is not None and homes.is_home(client)
        try:
            if kind == "post" and is_known:
                return Admission(kind, request, uid, client_id)
            if kind != "ws" and "handshake?" not in request.params and not is_known:
                home = yield homes.elsewhere(client)
                if home is not None:
                    return Admission(kind, request, uid, client_id, Lent(home))
            if why := self._has_room(uid, client_id):
                return self.refuse("full", 503, why)
            if kind == "post":
                return Admission(kind, request, uid, client_id)
            if kind == "poll" and not self._needs_handshake(request, uid, client_id):
                return Admission(kind, request, uid, client_id)
            resumes = "pos" in request.params and self._resume is not None
            if kind == "poll" and resumes and "handshake?" not in request.params:
                return self.refuse("no_session", 503, "expected a handshake first")
            data: object = None
            if self.hooks.handshake_data is not None:
                data = self.hooks.handshake_data(request)
                if is_awaitable(data):
                    data = yield data
            if not resumes:
                opening = yield homes.open(client, None)
                return Admission(kind, request, uid, client_id, Came(opening, None, data))
            asked = Asked.parse(request, uid, data)
            if asked is None:
                return self.refuse("resume", 400, MALFORMED)
            opening = yield homes.open(client, asked.position, asked.attempt)
        except BackplaneDown:
            return self.refuse("backplane", 503, "the backplane is not heard")
        state = opening.state
        if (
            opening.is_over
            or (state is not None and 0 < asked.attempt < state.attempt)
            or (self._resume is not None and self._resume.is_late(asked, client))
        ):
            return self.refuse("late_handshake", 409, "a newer handshake of this client came first")
        asked.source = opening
        return Admission(kind, request, uid, client_id, Came(opening, asked, data))

    def _other_method(self, request: Request, is_loopback: bool) -> Response:
        config = self._config
        if not guard.is_preflight(request):
            return _NOT_ALLOWED
        if refused := self.check_host(request, is_loopback=is_loopback):
            return refused
        # Without a list no browser asks on behalf of the one origin that may come.
        if why := guard.check_origin(request, config.allowed_origins or ()):
            return self.refuse("origin", 403, "Unauthorized origin", why)
        return Response(204, headers=guard.preflight_fields(request))

    def _refuse_stripped(self, lost: list[str]) -> Response:
        # Parked as a poll, it would swallow the next events, and its client would wait for a 101.
        text = f"expected {' and '.join(lost)} in the request for a WebSocket: a proxy removed it"
        response = self.refuse("stripped_upgrade", 426, text, f"{text}. {_PROXY_LINES}")
        return replace(response, headers=(("Upgrade", "websocket"),))

    def answer_fields(self, request: Request) -> guard.Fields:
        """Return the fields that an edge adds to each answer of the channel, refusals too."""
        return guard.cors_fields(request, self._config.allowed_origins)

    def _needs_handshake(self, request: Request, uid: UserId | None, client_id: str) -> bool:
        if "handshake?" in request.params:
            return True
        session = self._hub.table.find(uid, client_id)
        if session is not None and session.has_ajax:
            return False
        self.log_limit.info(
            log,
            "poll_without_session client=%r: the session of this poll is over%s",
            client_id[:8],
            OTHER_PROCESS,
        )
        return True

    @property
    def resume_counts(self) -> dict[Was, int]:
        """How often clients came back, by how they did."""
        return {} if self._resume is None else self._resume.counts

    def _count(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def refuse(self, reason: str, status: int, text: str, why: str | None = None) -> Response:
        """Count and log that a request is refused, and make its answer; edges may too.

        `why` is for the log alone: both sides of a check, and the setting that would mend it.
        """
        self._count(reason)
        kind, line = f"refused reason={reason} status={status}", "refused reason=%s status=%d: %s"
        self.log_limit.warning(log, line, reason, status, why or text, kind=kind)
        return Response(status, text)

    def _hook_failed(self, request: Request) -> Response:
        self._count("hook")
        self.log_limit.exception(log, "hook_error path=%.80r", request.path)
        return Response(500, "internal server error")

    def check_host(self, request: Request, *, is_loopback: bool = False) -> Response | None:
        """Return the refusal of a request whose host is not allowed, or None. No hook runs."""
        allowed = self._config.allowed_hosts
        if why := guard.check_host(request, allowed, is_loopback=is_loopback):
            return self.refuse("host", 403, "Unauthorized host", why)
        return None

    # -- sockets and polls

    def open(self, admission: Admission, transport: Transport) -> Connection | None:
        """Open what was admitted: a socket after its 101, or a GET.

        The handshake is written first. None: a GET that has its answer already.
        """
        hub = self._hub
        handshake, was, opening = admission.handshake, None, None
        if type(handshake) is Lent and self.lending is not None:
            return self.lending.lend(admission, handshake.home, transport)
        session = hub.table.find_or_add(admission.uid, admission.client_id)
        if type(handshake) is Came and self.homes is not None:
            opening = handshake.opening
            handshake = self._arrive(session, handshake)
        if type(handshake) is Asked and self._resume is not None:
            streams = admission.kind == "ws"
            handshake, was = self._resume.open(session, handshake, streams=streams)
        elif handshake is not None and session.inbox.numbers is not None and self._resume:
            self._resume.end(session)
        if opening is not None and self.homes is not None:
            self.homes.opened(opening, was)
        connection = self._connection(admission, transport, session, session.inbox)
        if handshake is not None:
            if admission.kind == "ws":
                hub.open_ws(session, connection, handshake)
            else:
                udt = admission.request.params.get("udt", "")
                session.posts = PostOrder(udt, session.inbox.numbers)
                hub.open_ajax(session)
                transport.write([handshake])
            if was is not None:
                inbox = self._presence_inbox
                self._dispatch.announce(wire.RESUME, was, connection, inbox)
            return connection if admission.kind == "ws" else None
        if not session.has_ajax:
            # Gone while its hooks waited. An error brings every client back with a handshake.
            if session.inbox.numbers is None:
                hub.open_ajax(session)
            transport.refuse(_NO_HANDSHAKE)
            return None
        number = admission.request.params.get("n", "")
        if session.inbox.numbers is not None and self._resume is not None:
            is_repeated = bool(number) and number == session.polled
            refusal = self._resume.poll(session, admission.request, is_repeated=is_repeated)
            if refusal is not None:
                transport.refuse(refusal)
                return None
        elif session.polls is Polls.ANSWERED and number and number == session.polled:
            # A browser asks again by itself if the answer broke off: its events are lost, and
            # an error has the client tell so. Only our clients number their polls; the udt of
            # two polls of Sente's may be the same millisecond.
            transport.refuse(Response(503, "the answer to this poll was lost"))
            return None
        session.polled = number
        if session.has_gap or not hub.park(session, connection):
            # Cut between two polls, maybe, where no 1013 could tell it: a gap lies at a break.
            transport.refuse(TOO_FAR)
            return None
        if session.poll is connection and admission.request.params.get("wait") == "0":
            hub.end_poll(connection)
            return None
        return connection

    def _arrive(self, session: Session, came: Came) -> Asked | Packet:
        """Return the handshake of a client that comes from another process, or what it takes."""
        if came.asked is not None:
            return came.asked
        if waiting := came.opening.waiting():
            session.put_first(waiting)
        packet = self._packer.packet(wire.handshake(session.uid, came.data), None)
        return Packet(packet, self._packer.binary)

    def _connection(
        self,
        admission: Admission,
        transport: Transport,
        session: Session | None,
        inbox: Inbox,
        is_post: bool = False,
    ) -> Connection:
        return Connection(
            self._dispatch,
            transport,
            admission.request,
            admission.uid,
            admission.client_id,
            session,
            inbox,
            is_post,
        )

    def receive(self, connection: Connection, view: Any, *, is_text: bool = True) -> bool:
        """Take one message from an edge in Python. False: no room; give it again, and what
        follows, after the transport was told `set_reading(True)`."""
        connection.transport.heard = True
        return connection.receive(view, is_text)

    def drained(self, connection: Connection) -> None:
        """Go on writing to a connection whose backlog is gone."""
        if connection.outbox is not None:
            connection.outbox.drained()

    def closed(self, connection: Connection, code: int) -> None:
        """Note the end of a socket, a parked poll or a POST; `code` 1006: nobody closed it."""
        if self.lending is not None and self.lending.gone(connection):
            return
        if connection.is_post:
            connection.forget()
        else:
            connection.leave()
            self._hub.closed(connection, code)

    def post(self, admission: Admission, body: Any, transport: Transport) -> Connection | None:
        """Take one packet: the form field `ppstr`, or the body if the query has `binary?` or `raw`.

        Answers through the transport, at once or when the handler has replied.
        None: it has its answer already.
        """
        if type(admission.handshake) is Lent and self.lending is not None:
            return self.lending.lend(admission, admission.handshake.home, transport, bytes(body))
        session = self._hub.table.find(admission.uid, admission.client_id)
        if session is not None:
            inbox = session.inbox
        else:
            key = (admission.uid, admission.client_id)
            inbox = self._stray_inboxes.setdefault(key, Inbox())
        connection = self._connection(admission, transport, session, inbox, is_post=True)
        self._posts.take(connection, body, None if session is None else session.posts)
        return None if connection.is_answered else connection

    # -- closing one connection

    def connections(self, to: UserId | ClientTarget) -> list[Connection]:
        """Return what is open of a user or a client: sockets and parked polls."""
        return self._hub.connections_of(to)

    def end(self, connection: Connection, code: int, reason: str) -> None:
        """Close one connection, after what waits for it; a poll ends with 503."""
        hub = self._hub
        if connection in hub.connections:
            connection.session.flush_now()
        if connection in hub.connections:  # a poll may be answered now
            hub.close(connection, code, reason)

    # -- stopping

    def give_up(self, connection: Connection, refusal: Refusal = STOPPING) -> None:
        """End a poll, or a POST; where nothing of the POST was taken, by this refusal."""
        if connection.is_post:
            self._posts.end(connection, refusal)
        else:
            connection.transport.close(1012, "service restart")
            self._hub.closed(connection, 1012)

    def settles(self, connection: Connection, call: Callable[[], object]) -> bool:
        """Take nothing more from a connection, and call once what was taken is handled.

        Returns False, and does not call, if nothing of it is being handled.
        """
        connection.is_ending = True
        if self._dispatch.is_stopped:
            return False
        return self._dispatch.settle(connection.inbox, call)

    def pause(self) -> None:
        """Admit nobody, and take nothing more; what was taken is handled and answered."""
        self.is_stopping = self._dispatch.is_stopping = True
        self._posts.refuse_waiting()

    def stop(self) -> None:
        """Admit nobody any more, close every connection 1012, end polls and POSTs with 503.

        Events that were taken and have not reached their handler are dropped and counted.
        """
        if self._is_stopped:
            return
        self.pause()
        self._is_stopped = True
        dropped, running = self._dispatch.stop()
        if dropped or running:
            log.warning("events_unhandled dropped=%d running=%d", dropped, running)
        self._hub.stop(1012, "service restart")
        self._posts.stop()
        self.incoming.stop()


def _checked(value: Any, kind: type[T], hook: str) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"expected a {kind.__name__} or None from {hook}, got {value!r:.80}")
    return value
