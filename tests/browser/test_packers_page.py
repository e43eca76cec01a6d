"""Each packer in a browser, over each transport: values, order, and what travels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from chromium import Tab
from stage import Scene, scenario

NAMES = {"json": "JSON", "msgpack": "MessagePack"}  # the page's and the server's
BURST = 100

# In the page: what comes back of each value, beside what was sent, as edn.
ECHO = """import("/chsk/chansock.js").then(async ({ write, keyword, Instant, UUID }) => {
  const values = [
    null, true, -1, 1.5, 2 ** 53 - 1, "é 漢字 😀", [1, [2, []]], [{ a: { "b/c": 1 } }, { a: 2 }],
  ];
  if (options.packer.binary) {
    values.push(
      keyword("a/b"), 2n ** 62n, new Set([keyword("b")]), new Map([[1, "x"], ["y", { a: 1 }]]),
      new UUID("6f3a8b1e-5a2f-4e7c-9a57-0d6c6d2b9f11"), new Instant("2024-02-29T12:34:56.123456Z"),
      Uint8Array.of(1, 2, 255),
    );
  }
  const texts = [];
  for (const value of values) {
    texts.push([write(value), write(await client.send("test/echo", value, { timeout: 60 }))]);
  }
  return texts;
})"""


@dataclass
class Carried:
    packer: str
    transport: str
    tab: Tab
    echoes: list[list[str]]
    marks: list[int]
    loaded: list[str]


@scenario(*itertools.product(NAMES, ("ws", "ajax")), lasts=8)
async def carried(scene: Scene, param: tuple[str, str]) -> Carried:
    """A page has a packer: it sends, gets, asks, loses its server and has it back."""
    name, transport = param
    server = await scene.server(packer=NAMES[name])
    tab = await scene.tab(server.port, "ada", transport=transport, packer=name)
    await tab.state(open=True)
    echoes = await tab.eval(ECHO)
    await tab.eval(f"client.send('test/stream', {{ count: {BURST}, every: 0 }})")
    await tab.hear("number", BURST - 1)
    await tab.eval(f"marks.burst({BURST})")
    await tab.eval("marks.send(60)")  # with a reply: those before it have been handled
    start = tab.here()
    await server.kill()
    await tab.state(start, open=False)
    start = tab.here()
    await server.start()
    await tab.state(start, open=True)
    await tab.eval("marks.send(60)")
    marks = server.marks(await tab.eval("client.clientId"))
    entries = "performance.getEntriesByType('resource').map(({ name }) => new URL(name).pathname)"
    return Carried(name, transport, tab, echoes, marks, await tab.eval(entries))


def test_values_come_back_as_they_were_sent(carried: Carried) -> None:
    assert len(carried.echoes) == (8 if carried.packer == "json" else 15)
    for sent, got in carried.echoes:
        assert got == sent


def test_pushes_and_events_keep_their_order(carried: Carried) -> None:
    assert carried.tab.told("number") == list(range(BURST))
    assert carried.marks == list(range(BURST + 2))


def test_the_user_is_known(carried: Carried) -> None:
    assert {state["uid"] for state in carried.tab.states() if state["open"]} == {"ada"}


def test_what_travels_is_of_that_packer(carried: Carried) -> None:
    packets = carried.tab.told("packet")
    kind = str if carried.packer == "json" else list
    assert {type(packet["packet"]) for packet in packets} == {kind}
    # After a break the client asks over HTTP first, whatever the transport.
    sent = {packet["type"] for packet in packets if packet["direction"] == "out"}
    assert sent == {carried.transport}


def test_the_console_stays_empty_but_for_the_break(carried: Carried) -> None:
    complaints = carried.tab.complaints
    assert [
        text
        for text in complaints
        if not any(told in text for told in ("ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "/chsk"))
    ] == []


def test_no_other_packer_is_loaded(carried: Carried) -> None:
    modules = {path for path in carried.loaded if path.endswith(".js") and "/chsk/" in path}
    assert modules == {"/chsk/chansock.js", f"/chsk/{carried.packer}.js"}
