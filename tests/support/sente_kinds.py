"""One question to the channel in each of Sente's three ways, for tests that hold for all:
the upgrade to a WebSocket, an Ajax GET that shakes hands, and a POST.
"""

from __future__ import annotations

from collections.abc import Sequence

from peer import Answer, Fields, Peer, urlencoded

KINDS = ("ws", "get", "post")

Pairs = Sequence[tuple[str, str]]


async def ask(
    port: int, kind: str, params: Pairs = (), fields: Fields = (), *, client_id: str = "a/1"
) -> Answer:
    """Ask on a connection of its own; the params stand where Sente's clients put them."""
    own = [("client-id", client_id), *params] if client_id else [*params]
    async with await Peer.connect(port) as wire:
        if kind == "ws":
            return await wire.upgrade(f"/chsk?{urlencoded(own)}", fields)
        if kind == "get":
            own = [("udt", "1"), *own, ("handshake?", "1")]
            return await wire.ask("GET", f"/chsk?{urlencoded(own)}", fields)
        form = [("udt", "1"), *own, ("ppstr", "[[:test/req 1] :ajax]")]
        return await wire.post_form("/chsk", form, fields)


def is_in(answer: Answer) -> bool:
    """Return whether the channel let it in."""
    return answer.status in (101, 200)
