"""The server is killed, and started again on its port. No browser tells a page of that."""

from __future__ import annotations

from breaks import Break, record
from pulse import SLACK
from stage import Scene, scenario


@scenario("ws", "ajax", "auto", lasts=15)
async def killed(scene: Scene, transport: str) -> Break:
    """SIGKILL; a new server listens once the page has tried twice and waits again."""
    server = await scene.server()
    tab = await scene.tab(server.port, transport=transport)
    await tab.state(open=True)
    start = tab.here()

    async def pause() -> None:
        first = await tab.log.until(lambda line: _waits(line, 0), start)
        await tab.log.until(lambda line: _waits(line, first["what"]["retryAt"]), start)

    return await record(tab, server, begin=server.kill, pause=pause, end=server.start)


def _waits(line: dict, after: float) -> bool:
    return line["kind"] == "state" and (line["what"]["retryAt"] or 0) > after


def test_the_page_is_connected_by_the_next_step_of_the_backoff(killed: Break) -> None:
    assert killed.back_at <= killed.due + SLACK + killed.lag


def test_an_open_connection_ended_unexpectedly_and_attempts_since_did_not_open(
    killed: Break,
) -> None:
    first, *others = killed.reasons
    assert first == "unexpected"
    # "auto" tries Ajax after each WebSocket that does not open.
    assert set(others) <= {"unexpected", "not-opened", "downgrading-ws-to-ajax"}
    assert killed.reasons[-1] == "not-opened"


def test_no_number_is_doubled_or_overtaken(killed: Break) -> None:
    assert (killed.doubled, killed.late) == ([], [])


def test_every_number_sent_once_it_was_open_again_arrives(killed: Break) -> None:
    assert killed.missing_since == []
