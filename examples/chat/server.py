"""A lobby to chat in, at http://127.0.0.1:8000/: what a channel socket does, to be looked at.

`Names` says who someone is, `Lobby` is the channel's side (who is here, what was said, who
is typing), `Door` is HTTP: the page's files, and the form that takes a name. A name is no
account: whoever picks one speaks under it, in two tabs as one user with two clients.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import secrets
import sqlite3
import stat
import tempfile
import time
import unicodedata
from collections import deque
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

import chansock

log = logging.getLogger("chat")

HERE: Final = Path(__file__).parent
COOKIE: Final = "chat-name"
COOKIE_AGE: Final = 30 * 24 * 3600
MAX_NAME: Final = 24  # characters; what fits beside a message on a phone
MAX_TEXT: Final = 500  # characters; some sentences, no essay
MAX_KEY: Final = 64
KEPT: Final = 50  # messages, for those who come later
BURST: Final = 5  # messages at once, and then one each second: more is no talk

# What the page may do: run its own files and talk to us. Nothing inline, nothing foreign.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
FIELDS: Final = (
    ("Content-Security-Policy", POLICY),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Referrer-Policy", "same-origin"),
)
# A path is looked up here, never joined to a folder: what is not listed is not there.
FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/chat.css": ("chat.css", "text/css; charset=utf-8"),
    "/chat.js": ("chat.js", "text/javascript; charset=utf-8"),
    "/rtt.js": ("rtt.js", "text/javascript; charset=utf-8"),
    "/talk.js": ("talk.js", "text/javascript; charset=utf-8"),
    "/theme.js": ("theme.js", "text/javascript; charset=utf-8"),
    "/wire.js": ("wire.js", "text/javascript; charset=utf-8"),
    "/words.js": ("words.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


class Names:
    """Signs a name into a cookie, and reads it back: nobody else can make one."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, name: str) -> str:
        """Return the cookie's value: the name, percent-encoded, a dot, and its signature."""
        quoted = quote(name, safe="")
        return f"{quoted}.{self._signature(quoted)}"

    def user_id(self, request: chansock.Request) -> str | None:
        """Return the name in the request's cookie; None if there is none, or not one of ours."""
        quoted, _, given = request.cookies.get(COOKIE, "").rpartition(".")
        # As bytes: compare_digest takes no str that is not ASCII.
        if hmac.compare_digest(given.encode(), self._signature(quoted).encode()):
            return unquote(quoted)
        return None

    def _signature(self, quoted: str) -> str:
        return hmac.digest(self._secret, f"chat-name:{quoted}".encode(), "sha256").hex()


def clean_name(text: str) -> str:
    """Return a name as it will be shown. Raises ValueError, in words for whoever typed it."""
    name = unicodedata.normalize("NFC", " ".join(text.split()))
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"A name has 1 to {MAX_NAME} characters; this one has {len(name)}.")
    if not name.isprintable():
        raise ValueError("A name is made of characters that can be seen.")
    return name


class Allowance:
    """What one user may still send: BURST at once, one more each second."""

    def __init__(self, now: float) -> None:
        self._left = float(BURST)
        self._seen = now

    def left(self, now: float) -> float:
        return min(float(BURST), self._left + now - self._seen)

    def take(self, now: float) -> bool:
        """Use one up; False if none is left."""
        left = self.left(now)
        if left < 1:
            return False
        self._left, self._seen = left - 1, now
        return True


class Said:
    """The last messages, oldest first; gone with the process."""

    def __init__(self) -> None:
        self._said: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def all(self) -> list[dict[str, Any]]:
        return list(self._said)

    def find(self, sender: object, key: str) -> dict[str, Any] | None:
        """Return the message of this sender with this key, or None."""
        for said in self._said:
            if said["key"] == key and said["from"] == sender:
                return said
        return None

    def add(self, sender: object, text: str, key: str) -> dict[str, Any]:
        """Keep a message; its time is in ms, and never the same twice: it is its name as well."""
        at = max(time.time_ns() // 1_000_000, self._said[-1]["at"] + 1 if self._said else 0)
        said = {"from": sender, "text": text, "key": key, "at": at}
        self._said.append(said)
        return said


class SharedSaid(Said):
    """The last messages of several workers, in a file of SQLite.

    A channel shares events and presence among its workers, and nothing else: what an application
    keeps needs a place that all of them reach. On one host, a file is enough. One transaction
    gives a message its time, so no two workers take the same one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own: sqlite3.Connection | None = None

    def all(self) -> list[dict[str, Any]]:
        rows = self._file().execute("SELECT sender, text, key, at FROM said ORDER BY at").fetchall()
        return [_said(row) for row in rows]

    def find(self, sender: object, key: str) -> dict[str, Any] | None:
        query = "SELECT sender, text, key, at FROM said WHERE sender = ? AND key = ?"
        row = self._file().execute(query, (sender, key)).fetchone()
        return None if row is None else _said(row)

    def add(self, sender: object, text: str, key: str) -> dict[str, Any]:
        file = self._file()
        now = time.time_ns() // 1_000_000
        insert = (
            "INSERT OR IGNORE INTO said (sender, text, key, at) "
            "SELECT ?, ?, ?, max(?, coalesce(max(at) + 1, 0)) FROM said"
        )
        file.execute(insert, (sender, text, key, now))
        old = "DELETE FROM said WHERE at NOT IN (SELECT at FROM said ORDER BY at DESC LIMIT ?)"
        file.execute(old, (KEPT,))
        said = self.find(sender, key)
        assert said is not None
        return said

    def _file(self) -> sqlite3.Connection:
        if self._own is None:  # not before the fork: a connection belongs to one process
            self._own = sqlite3.connect(self._path, timeout=10.0, isolation_level=None)
            self._own.execute("PRAGMA synchronous = OFF")  # it need not outlive the host
            self._own.execute(
                "CREATE TABLE IF NOT EXISTS said "
                "(at INTEGER PRIMARY KEY, sender, text, key, UNIQUE (sender, key))"
            )
        return self._own


def _said(row: tuple[Any, ...]) -> dict[str, Any]:
    sender, text, key, at = row
    return {"from": sender, "text": text, "key": key, "at": at}


class Lobby:
    """One room, and the channel that leads to it.

    Those without a name may read. `said` keeps the last messages; several workers share one.
    """

    def __init__(self, names: Names, said: Said | None = None) -> None:
        self.chsk = chansock.ChannelSocket(
            chansock.Config(max_message_bytes=16 * 1024),  # a text, and room for its spelling
            user_id=names.user_id,
            handshake_data=self.welcome,
        )
        self.said = Said() if said is None else said
        self.people: list[dict[str, Any]] = []  # as everybody was told last
        self._allowances: dict[tuple[str, object], Allowance] = {}
        self.chsk.on("chat/say", self.say)
        self.chsk.on("chat/typing", self.typing)
        self.chsk.on("chat/ping", self.ping)
        self.chsk.on("chsk/uidport-open", self.look)
        self.chsk.on("chsk/uidport-close", self.look)

    def welcome(self, _request: chansock.Request) -> dict[str, Any]:
        """Return what stands in each handshake, so that nobody has to ask for it."""
        limits = {"name": MAX_NAME, "text": MAX_TEXT}
        shown: dict[str, Any] = {
            "people": self._here(),
            "messages": self.said.all(),
            "limits": limits,
        }
        if isinstance(self.said, SharedSaid):
            shown["worker"] = os.getpid()  # the page shows it in its drawer
        return shown

    def say(self, msg: chansock.EventMsg[Any]) -> dict[str, Any]:
        """Pass on what was said: `{:text "hi", :key "5f2c"}`; reply with `:at`, or with `:error`
        (and `:retry`, if the same may be sent again).

        The key is the sender's own. What comes twice, since its sender never saw the reply,
        is passed on once.
        """
        if msg.uid is None:
            return {"error": "Choose a name first: only those with a name can speak."}
        data = msg.data if isinstance(msg.data, dict) else {}
        text, key = data.get("text"), data.get("key")
        if type(text) is not str or type(key) is not str or not 1 <= len(key) <= MAX_KEY:
            return {"error": "Expected a text and a key."}
        text = text.strip()
        if not text:
            return {"error": "There is nothing in this message."}
        if len(text) > MAX_TEXT:
            return {"error": f"Too long: {len(text)} characters, and {MAX_TEXT} is the limit."}
        if (said := self.said.find(msg.uid, key)) is not None:
            if msg.is_redelivered:
                # The worker that kept it may have died before it was sent. Pages show it once.
                self.chsk.send(chansock.ALL, "chat/said", said)
            return {"at": said["at"]}
        if not self._may("say", msg.uid):
            return {"error": "Too fast: wait a second, then send it again.", "retry": True}
        said = self.said.add(msg.uid, text, key)
        self.chsk.send(chansock.ALL, "chat/said", said)
        return {"at": said["at"]}

    def typing(self, msg: chansock.EventMsg[Any]) -> None:
        """Pass on that someone types (`true`) or no longer does. Who lags needs the last only."""
        if msg.uid is not None and self._may("type", msg.uid):
            hint = {"from": msg.uid, "on": msg.data is True}
            self.chsk.send(chansock.ALL, "chat/typing", hint, latest=("typing", msg.uid))

    def ping(self, msg: chansock.EventMsg[Any]) -> None:
        """Answer, for whoever measures the way; and look who is here.

        That a user changed from one transport to another is no event, so it is looked for.
        """
        self.look(msg)

    def look(self, _msg: chansock.EventMsg[Any]) -> None:
        """Send everybody the list of who is here and how, if it has changed."""
        people = self._here()
        if people != self.people:
            self.people = people
            self.chsk.send(chansock.ALL, "chat/people", people, latest="presence")

    def _here(self) -> list[dict[str, Any]]:
        here = self.chsk.connected
        names = sorted(uid for uid in here.any if isinstance(uid, str))
        return [{"name": uid, "ws": uid in here.ws, "ajax": uid in here.ajax} for uid in names]

    def _may(self, what: str, uid: object) -> bool:
        now = asyncio.get_running_loop().time()
        if len(self._allowances) > 1000:  # whoever has the whole of it again needs no entry
            kept = {key: one for key, one in self._allowances.items() if one.left(now) < BURST}
            self._allowances = kept
        return self._allowances.setdefault((what, uid), Allowance(now)).take(now)


class Door:
    """Answers every path but the channel's: the files of the page, and `POST /name`."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def answer(self, request: chansock.Request) -> chansock.Response | None:
        if request.path == "/name":
            return self._take_name(request)
        if request.path not in FILES:
            return None  # 404
        if request.method not in ("GET", "HEAD"):
            return _refuse(405, "expected GET or HEAD", ("Allow", "GET, HEAD"))
        name, kind = FILES[request.path]
        body = (HERE / name).read_bytes()  # each time, so that an edit shows at a reload
        # no-cache, not no-store: the page may be kept, and come back as it was left.
        fields = (("Cache-Control", "no-cache"), *FIELDS)
        return chansock.Response(body=body, content_type=kind, headers=fields)

    def _take_name(self, request: chansock.Request) -> chansock.Response:
        if request.method != "POST":
            return _refuse(405, "expected POST", ("Allow", "POST"))
        if not _is_from_our_page(request):
            # Else a foreign page could have its visitors speak here under a name of its own.
            return _refuse(403, "A name can only be chosen on the page itself.")
        try:
            name = clean_name(request.params.get("name", ""))
        except ValueError as error:
            return _refuse(400, str(error))
        cookie = f"{COOKIE}={self._names.sign(name)}; Max-Age={COOKIE_AGE}; Path=/"
        cookie += "; HttpOnly; SameSite=Lax" + "; Secure" * (request.scheme == "https")
        return chansock.Response(204, headers=(("Set-Cookie", cookie), *FIELDS))


def _is_from_our_page(request: chansock.Request) -> bool:
    """Return whether no browser says that this comes from elsewhere, as the channel does."""
    origins = request.headers.getall("origin")
    if origins:
        host = request.headers.get("host", "")
        return origins in ([f"http://{host}"], [f"https://{host}"])  # TLS may end before us
    return request.headers.get("sec-fetch-site", "none") in ("same-origin", "none")


def _refuse(status: int, text: str, *fields: tuple[str, str]) -> chansock.Response:
    return chansock.Response(status, text, headers=(*fields, *FIELDS))


def find_secret() -> bytes:
    """Return what signs the names: CHAT_SECRET, else a file of this user's own.

    It is kept, so that a server that comes back still knows those who are there. Where
    no file can be trusted or made, it lasts as long as the process.
    """
    given = os.environ.get("CHAT_SECRET")
    if given:
        return given.encode()
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        path = Path(cache, "chansock-chat", "secret")
        return _read_secret(path) if path.exists() else _make_secret(path)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: there is no home
        log.warning("secret_not_kept %s", error)
        return secrets.token_bytes()


def _read_secret(path: Path) -> bytes:
    with path.open("rb") as file:
        about = os.fstat(file.fileno())
        secret = file.read()
    if about.st_uid != os.geteuid() or about.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ValueError(f"expected a file that only its owner can read and write: {path}")
    if len(secret) < 32:
        raise ValueError(f"expected at least 32 bytes, got {len(secret)}: {path}")
    return secret


def _make_secret(path: Path) -> bytes:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Whole or not at all, under its name: another server may start at this moment.
    with tempfile.NamedTemporaryFile(dir=path.parent) as file:  # 0600
        file.write(secrets.token_bytes(32))
        file.flush()
        try:
            os.link(file.name, path)
        except FileExistsError:
            pass
    return _read_secret(path)


def main() -> None:
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
    names = Names(find_secret())
    if port:
        name = f"[{host}]" if ":" in host else host
        print(f"open http://{name}:{port}/, and once more in a second tab", flush=True)
    door, workers = Door(names), int(os.environ.get("WORKERS", "1"))
    if workers == 1:
        chansock.run(Lobby(names).chsk, host, port, fallback=door.answer)
        return
    with tempfile.TemporaryDirectory(prefix="chansock-chat-") as folder:
        lobby = Lobby(names, SharedSaid(Path(folder, "said")))
        chansock.run(lobby.chsk, host, port, fallback=door.answer, workers=workers)


if __name__ == "__main__":
    main()
