"""examples/chat by two workers: a worker is killed, and the talk goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from chromium import NETWORK
from playwright.async_api import expect
from server import Server
from stage import EXAMPLES, Scene, scenario
from test_chat import Lobby, Seen, _enter

pytestmark = pytest.mark.skipif(os.name != "posix", reason="several workers need Linux")

ATTEMPTS = 30  # reloads until a tab is served by another worker; one in two is


class Workers(Server):
    """The chat by two workers."""

    async def _run(self, *arguments: str, **environment: str) -> Any:
        return await super()._run(*arguments, WORKERS="2", **environment)

    def children(self) -> set[int]:
        assert self._process is not None
        pid = self._process.pid
        return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


async def _worker(lobby: Lobby) -> int:
    return int(await lobby.page.locator("#drawer").get_attribute("data-worker") or 0)


async def _apart(one: Lobby, other: Lobby) -> None:
    """Reload a tab until another worker serves it."""
    for _ in range(ATTEMPTS):
        if await _worker(one) != await _worker(other):
            return
        await one.tab.focus()
        await one.page.reload()
        await one.is_open("ws")
    raise AssertionError(f"expected two workers within {ATTEMPTS} reloads")


@scenario(lasts=20)
async def worker_lost(scene: Scene) -> Seen:
    """Ada by WebSocket, Bob by Ajax; the worker of each is killed in turn while both write."""
    seen = Seen()
    server = await scene.exit.enter_async_context(Workers(EXAMPLES / "chat" / "server.py"))
    ada = await _enter(scene, server.port, "ws", "ada")
    bob = await _enter(scene, server.port, "ajax", "bob")
    wanted: list[str] = []
    for number, lost in enumerate((ada, bob)):
        await _apart(ada, bob)
        before = server.children()
        dead = await _worker(lost)
        assert dead in before
        os.kill(dead, signal.SIGKILL)
        for lobby in (ada, bob):
            for word in ("one", "two"):
                await lobby.say(f"{word} {number}")
        for lobby, transport in ((ada, "ws"), (bob, "ajax")):
            await expect(lobby.page.locator("#drawer")).not_to_have_attribute(
                "data-worker", str(dead), timeout=90_000
            )
            await lobby.is_open(transport)
        wanted += [f"one {number}", f"two {number}"]
        for lobby in (ada, bob):
            for name in ("ada", "bob"):
                await expect(lobby.said_by(name)).to_have_count(len(wanted), timeout=90_000)
            await expect(lobby.page.locator("#messages .pending")).to_have_count(0)
        seen.what[f"new workers {number}"] = len(server.children() - before)
    for lobby, who in ((ada, "ada"), (bob, "bob")):
        for name in ("ada", "bob"):
            texts = await lobby.said_by(name).all_text_contents()
            found = [next((word for word in wanted if word in text), text) for text in texts]
            seen.what[f"{name}'s with {who}"] = found
        await expect(lobby.people).to_have_count(2, timeout=90_000)
    cid = await _enter(scene, server.port, "ws", "cid")
    await expect(ada.people).to_have_count(3, timeout=90_000)
    dead = await _worker(cid)
    await cid.tab.close()
    os.kill(dead, signal.SIGKILL)  # before it could say that he left
    await expect(ada.person("cid")).to_have_count(0, timeout=90_000)
    seen.what["here at last"] = await ada.people.evaluate_all(
        "items => items.map((item) => item.dataset.uid)"
    )
    seen.what["wanted"] = wanted
    seen.complaints = ada.tab.complaints + bob.tab.complaints
    return seen


def test_what_is_written_while_a_worker_dies_is_said_once_and_in_order(worker_lost: Seen) -> None:
    for who in ("ada", "bob"):
        for name in ("ada", "bob"):
            assert worker_lost[f"{name}'s with {who}"] == worker_lost["wanted"]


def test_another_worker_starts_for_each_that_died(worker_lost: Seen) -> None:
    assert (worker_lost["new workers 0"], worker_lost["new workers 1"]) == (1, 1)


def test_a_user_who_goes_with_a_worker_is_on_no_list(worker_lost: Seen) -> None:
    assert worker_lost["here at last"] == ["ada", "bob"]


def test_a_lost_worker_leaves_only_failed_requests_in_the_console(worker_lost: Seen) -> None:
    """Some broke off; others came to a worker that has no session of the client, or no home yet."""
    answered = "error: Failed to load resource: the server responded with a status of"
    allowed = (*NETWORK, f"{answered} 410", f"{answered} 503")
    assert [text for text in worker_lost.complaints if not text.startswith(allowed)] == []
