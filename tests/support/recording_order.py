"""In which order a recorded server took what was under way at the same time.

POSTs on several connections at once have no order of their own; the pushes that they
caused tell the server's. Pure: records in, an order out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from recording import Record
from same import event, is_batch


def client_id(record: Record) -> str:
    return parse_qs(urlsplit(record.target).query)["client-id"][0]


def is_poll(record: Record) -> bool:
    query = parse_qs(urlsplit(record.target).query)
    return record.method == "GET" and "udt" in query and "handshake?" not in query


def posted(record: Record) -> bytes:
    """Return the packet of a POST: its form field, or the whole body of a binary packer."""
    if "binary?" in parse_qs(urlsplit(record.target).query):
        return record.payload
    return parse_qs(record.text)["ppstr"][0].encode()


@dataclass(frozen=True, slots=True)
class Order:
    """`ranks`: line of a POSTed echo -> its place in the order in which the server took
    them. `batches`: line of a poll's answer -> the lines of those whose events belong
    there. Both empty where there is nothing to order."""

    ranks: dict[int, int]
    batches: dict[int, list[int]]


@dataclass(frozen=True, slots=True)
class _Batch:
    line: int
    posts: list[int]  # that caused its events
    answered: int  # line of their last answer


def order_of_send(records: list[Record], read: Callable[[bytes], tuple[Any, Any]]) -> Order:
    """Return the order in which the recorded server was sent what it pushed.

    Sente keeps a batch that finds no poll for another try, and later ones overtake it. A
    batch whose POSTs were all answered when one of another's was sent belongs before it.
    """
    polls = [r for r in records if is_poll(r)]
    if len({client_id(r) for r in polls}) != 1:
        return Order({}, {})
    posts: list[tuple[int, Hashable]] = []
    answers: dict[int, int] = {}
    pushes: list[tuple[int, list[Hashable]]] = []
    asked: dict[int, Record] = {}
    for record in records:
        if record.kind == "http-request":
            asked[record.conn] = record
        if record.method == "POST":
            what, cb = read(posted(record))
            if cb is None:
                posts.append((record.line, event(what)))
        elif record.kind == "http-response":
            answers[asked[record.conn].line] = record.line
            batch, _ = read(record.payload) if is_poll(asked[record.conn]) else (None, None)
            if is_batch(batch):
                pushes.append((record.line, [event(item) for item in batch]))
    if Counter(e for _, events in pushes for e in events) != Counter(e for _, e in posts):
        return Order({}, {})
    ordered: list[_Batch] = []
    for line, events in pushes:
        lines = [_take(posts, each) for each in events]
        found = _Batch(line, lines, max(answers[each] for each in lines))
        place = (k for k, other in enumerate(ordered) if found.answered < max(other.posts))
        ordered.insert(next(place, len(ordered)), found)
    batches: dict[int, list[int]] = {line: [] for line, _ in pushes}
    earliest = max(batches, default=0)
    for found in reversed(ordered):
        earliest = min(earliest, found.line)
        batches[earliest].insert(0, found.line)
    taken = [line for found in ordered for line in found.posts]
    return Order({line: rank for rank, line in enumerate(taken)}, batches)


def _take(posts: list[tuple[int, Hashable]], wanted: Hashable) -> int:
    index = next(i for i, (_, what) in enumerate(posts) if what == wanted)
    return posts.pop(index)[0]
