"""docs/sente.md: our names in its tables exist, Sente's are all there, and its recipe runs."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, get_args

import pytest
from dist_content import ROOT

import chansock
from chansock import client, csrf, packers
from chansock.client.state import ReasonKind

TEXT = (ROOT / "docs" / "sente.md").read_text(encoding="utf-8")

ROOTS: dict[str, Any] = {
    "ChannelSocket": chansock.ChannelSocket,
    "Close": client.Close,
    "Config": chansock.Config,
    "EventMsg": chansock.EventMsg,
    "Keyword": chansock.Keyword,
    "Presence": chansock.Presence,
    "Reason": client.Reason,
    "State": client.State,
    "Stats": chansock.Stats,
    "WsClose": client.WsClose,
    "WsError": client.WsError,
    "chansock": chansock,
    "chsk": chansock.ChannelSocket,
    "client": chansock.Client,
    "connect": chansock.connect,
    "csrf": csrf,
    "event": chansock.Event,
    "msg": chansock.EventMsg,
    "packers": packers,
    "request": chansock.Request,
}

# As Sente 1.21 and 1.22 call them in their docstrings.
SENTE = {
    "server options": """
        :user-id-fn :handshake-data-fn :csrf-token-fn :bad-csrf-fn :allowed-origins :bad-origin-fn
        :authorized?-fn :unauthorized-fn :?unauthorized-fn :reject-fn :packer :ws-kalive-ms
        :ws-ping-timeout-ms :lp-timeout-ms :send-buf-ms-ajax :send-buf-ms-ws :recv-buf-or-n
        :ms-allow-reconnect-before-close-ws :ms-allow-reconnect-before-close-ajax""",
    "what the server returns": """
        :ch-recv :send-fn :connected-uids :ajax-post-fn :ajax-get-or-ws-handshake-fn""",
    "event messages": ":id :?data :event :uid :client-id :ring-req :?reply-fn",
    "client options": """
        :type :protocol :host :port :params :headers :packer :ajax-opts :wrap-recv-evs?
        :ws-kalive-ms :ws-ping-timeout-ms :ws-constructor :ws-opts :client-id :backoff-ms-fn""",
    "client functions": """
        chsk-connect! chsk-disconnect! chsk-reconnect! chsk-break-connection! chsk-send!
        cb-success? cb-error? start-client-chsk-router! start-server-chsk-router!""",
    "client state": """
        :type :open? :ever-opened? :first-open? :opened? :closed? :open-changed? :uid
        :handshake-data :csrf-token :last-ws-error :last-ws-close :last-close
        :udt-next-reconnect""",
    "close reasons": """
        :clean :unexpected :requested-disconnect :requested-reconnect :downgrading-ws-to-ajax
        :ws-ping-timeout :ws-error""",
    "events": """
        :chsk/state :chsk/handshake :chsk/recv :chsk/ws-ping :chsk/ws-pong :chsk/uidport-open
        :chsk/uidport-close :chsk/bad-event :chsk/close""",
    "callback values": ":chsk/closed :chsk/timeout :chsk/error",
}


def rows() -> Iterator[tuple[str, str]]:
    for line in TEXT.splitlines():
        if line.startswith("| ") and not line.startswith("|---"):
            theirs, ours = re.split(r" \| ", line.strip("| "))
            yield theirs, ours


def names() -> list[str]:
    """The code of the right-hand cells, as far as it begins with a name of ours."""
    codes = {code for _, ours in rows() for code in re.findall(r"`([^`]+)`", ours)}
    return sorted(code for code in codes if re.match(r"\w+[.(\[]|chansock", code))


@pytest.mark.parametrize("code", names())
def test_name_of_ours_exists(code: str) -> None:
    match = re.fullmatch(r"([\w.]+)(?:\((.*)\)|\[.*\])?", code)
    assert match is not None, code
    root, *path = match[1].split(".")
    thing = ROOTS[root]
    for name in path:
        thing = _part(thing, name)
    for name in re.findall(r"(\w+)=", match[2] or ""):
        assert name in inspect.signature(thing).parameters, f"{code}: no parameter {name}"
    for event_id in re.findall(r'"([^"]+)"', match[2] or ""):
        if event_id.startswith("chsk/"):  # raises for one that nobody can handle
            thing(_made(root), event_id, print)


def _made(root: str) -> Any:
    return chansock.ChannelSocket() if root == "chsk" else chansock.connect("ws://h/chsk")


def _part(thing: Any, name: str) -> Any:
    if dataclasses.is_dataclass(thing):
        for field in dataclasses.fields(thing):
            if field.name == name:
                return field
    return getattr(thing, name)


@pytest.mark.parametrize("what", SENTE)
def test_each_name_of_sente_is_told(what: str) -> None:
    told = " ".join(theirs for theirs, _ in rows())
    names = re.findall(r"[^\s`(){}\[\],]+", told)
    assert [name for name in SENTE[what].split() if name not in names] == []


def test_each_reason_of_ours_is_told() -> None:
    told = {word for _, ours in rows() for word in re.findall(r'`"([a-z-]+)"`', ours)}
    assert set(get_args(ReasonKind)) <= told


def test_recipe_runs(run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    body, called, arguments = code.partition("chansock.run(")
    assert arguments.startswith("chsk, port=8000)")
    namespace: dict[str, Any] = {}
    exec(body, namespace)

    async def main() -> None:
        async with (
            chansock.serve(namespace["chsk"], port=0) as listener,
            chansock.connect(listener.url, headers={"Cookie": "who=ada"}) as ada,
        ):
            said = asyncio.ensure_future(anext(ada))
            assert await ada.send("chat/say", {"text": "hi"}, timeout=60) == "ok"
            assert await said == chansock.Event("chat/said", {"from": "ada", "text": "hi"})

    assert called
    run(main())
