"""In which order a recorded server took what was under way at the same time.

POSTs on several connections at once have no order of their own; the pushes that they
caused tell the server's. Pure: records in, an order out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from recording import Record
from same import event, is_batch

# Sente keeps a batch that finds no poll for another try, and later ones overtake it; ours
# come in the order of the sends. Recording -> (line of the overtaken batch, line of the
# first that overtook it). A test shows that the recording itself proves the order.
OVERTAKEN = {"chromium-ajax-values-edn": (347, 288)}


def in_order_of_send(name: str, records: list[Record]) -> list[Record]:
    """Give the records with the events of an overtaken batch where they belong."""
    if name not in OVERTAKEN:
        return records
    late, first = OVERTAKEN[name]
    of = {record.line: record.text.removeprefix("[[").removesuffix("] nil]") for record in records}
    texts = {late: "[[] nil]", first: f"[[{of[late]} {of[first]}] nil]"}
    return [replace(record, text=texts.get(record.line, record.text)) for record in records]


def client_id(record: Record) -> str:
    return parse_qs(urlsplit(record.target).query)["client-id"][0]


def is_poll(record: Record) -> bool:
    query = parse_qs(urlsplit(record.target).query)
    return "udt" in query and "handshake?" not in query


def posted(record: Record) -> bytes:
    """Give the packet of a POST: its form field, or the whole body of a binary packer."""
    if record.binary:
        return record.binary
    return parse_qs(record.text)["ppstr"][0].encode()


def ranks(records: list[Record], read: Callable[[bytes], tuple[Any, Any]]) -> dict[int, int]:
    """Line of a POSTed echo -> its place in the order in which the server took them.

    Empty where there is nothing to order.
    """
    polls = [r for r in records if r.method == "GET" and is_poll(r)]
    if len({client_id(r) for r in polls}) != 1:
        return {}
    posts: list[tuple[int, Hashable]] = []
    pushes: list[Hashable] = []
    asked: dict[int, Record] = {}
    for record in records:
        if record.kind == "http-request":
            asked[record.conn] = record
        if record.method == "POST":
            what, cb = read(posted(record))
            if cb is None:
                posts.append((record.line, event(what)))
        elif record.kind == "http-response" and is_poll(asked[record.conn]):
            batch, _ = read(record.payload)
            if is_batch(batch):
                pushes.extend(map(event, batch))
    if Counter(pushes) != Counter(what for _, what in posts):
        return {}
    places: dict[int, int] = {}
    for rank, push in enumerate(pushes):
        index = next(i for i, (_, what) in enumerate(posts) if what == push)
        places[posts.pop(index)[0]] = rank
    return places
