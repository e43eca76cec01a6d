"""Writes the five messages of the edn benches; run it to write the same bytes again."""

from __future__ import annotations

import random
from pathlib import Path

HERE = Path(__file__).parent
WORDS = ("a", "channel", "is", "one", "pipe", "for", "events", "and", "comes", "back", "again")
ROLES = (":admin", ":guest", ":member")
STATES = (":new", ":paid", ":packed", ":sent", ":returned")

TINY = "[[:chat/typing {:room 7}] nil]"
CHAT = (
    '[[:chat/said {:id 48213, :room "general", :from {:id 1042, :name "Ada"}, '
    ':at 1714979289123, :text "Has anybody seen what \\"sort\\" does with an empty list? '
    'It looks like a real bug to me."}] nil]'
)


def chance() -> random.Random:
    return random.Random(20240506)


def seat(rng: random.Random) -> str:
    return (
        f'{{:user/id {rng.randrange(10**6)}, :name "{rng.choice(WORDS)}", '
        f":role {rng.choice(ROLES)}, :online {rng.choice(('true', 'false'))}, "
        f":at {{:x {rng.randrange(999)}, :y {rng.randrange(999)}, "
        f":zoom {rng.randrange(1, 40) / 8}}}}}"
    )


def nested() -> str:
    rng = chance()
    seats = ", ".join(f":seat-{n} {seat(rng)}" for n in range(18))
    return (
        '[[:app/state {:version 7, :room {:id 42, :title "general", :topic nil, '
        ":settings {:limits {:message 4000, :upload 1048576}, :muted [], :theme :dark}, "
        f":seats {{{seats}}}}}}}] nil]"
    )


def order(rng: random.Random, n: int) -> str:
    return (
        f'{{:order/id {n}, :buyer "{rng.choice(WORDS)} {rng.choice(WORDS)}", '
        f":total {rng.randrange(10**5) / 100}, :state {rng.choice(STATES)}, "
        f":line-count {rng.randrange(1, 20)}, "
        f":gift-wrapped {rng.choice(('true', 'false', 'nil'))}}}"
    )


def maps() -> str:
    rng = chance()
    return f"[[:orders/all [{' '.join(order(rng, n) for n in range(1000))}]] nil]"


def numbers() -> str:
    rng = chance()
    kinds = (
        lambda: rng.randrange(100),
        lambda: -rng.randrange(10**6),
        lambda: rng.randrange(10**12),
        lambda: rng.randrange(10**5) / 100,
        lambda: -rng.randrange(10**15, 10**17) / 10**17,
    )
    return f"[{' '.join(str(rng.choice(kinds)()) for _ in range(2000))}]"


MESSAGES = {"tiny": TINY, "chat": CHAT, "nested": nested(), "maps": maps(), "numbers": numbers()}


if __name__ == "__main__":
    for name, text in MESSAGES.items():
        (HERE / f"{name}.edn").write_text(text + "\n", encoding="utf-8")
