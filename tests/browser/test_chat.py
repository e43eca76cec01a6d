"""examples/chat, as those who use it see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from chromium import NETWORK, Tab
from playwright.async_api import Locator, Page, expect
from stage import Scene, scenario


@dataclass
class Seen:
    """What was looked at, by a name; and what the consoles held."""

    what: dict[str, Any] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Any:
        return self.what[name]


class Lobby:
    """The page of the chat in one tab."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.page: Page = tab.page
        self.state = self.page.locator("#state")
        self.text = self.page.locator("#text")
        self.people = self.page.locator("#people li")
        self.messages = self.page.locator("#messages li")
        self.typing = self.page.locator("#typing")

    async def go(self, port: int) -> None:
        await self.tab.focus()
        await self.page.goto(f"http://127.0.0.1:{port}/")

    async def is_open(self, transport: str) -> None:
        await expect(self.state).to_have_attribute("data-type", transport, timeout=90_000)
        await expect(self.state).to_have_attribute("data-open", "true", timeout=90_000)

    async def choose(self, transport: str) -> None:
        await self.page.locator("#transport select").select_option(transport)
        await self.is_open(transport)

    async def join(self, name: str) -> None:
        await self.page.locator("#name").fill(name)
        await self.page.locator("#name").press("Enter")
        await expect(self.page.locator("#compose")).to_be_visible()

    async def say(self, text: str) -> None:
        await self.text.fill(text)
        await self.text.press("Enter")

    async def resumed(self) -> tuple[str | None, str | None]:
        """Return how the drawer says that the connection was resumed, as a word and in words."""
        drawer = self.page.locator("#drawer")
        words = await self.page.locator("#resumed").text_content()
        return await drawer.get_attribute("data-resumed"), words

    async def note_resumed(self) -> None:
        """Note from now on how the drawer says each time that the connection was resumed."""
        await self.page.evaluate("""() => {
          globalThis.told = [];
          const [drawer, words] = ["drawer", "resumed"].map((id) => document.getElementById(id));
          const note = () => {
            const { resumed } = drawer.dataset;
            if (resumed) told.push([resumed, words.textContent]);
          };
          new MutationObserver(note).observe(drawer, { attributeFilter: ["data-resumed"] });
        }""")

    async def first_resumed(self) -> tuple[str, str]:
        """Return the first of what was noted: on a slow machine, others may follow."""
        word, words = await self.page.evaluate("() => told[0]")
        return word, words

    def said_by(self, name: str) -> Locator:
        return self.page.locator(f'#messages li[data-from="{name}"]')

    def person(self, name: str) -> Locator:
        return self.page.locator(f'#people li[data-uid="{name}"]')


async def _enter(scene: Scene, port: int, transport: str, name: str) -> Lobby:
    lobby = Lobby(await scene.blank())
    await lobby.go(port)
    await lobby.choose(transport)
    await lobby.join(name)
    return lobby


@scenario(lasts=15)
async def talk(scene: Scene) -> Seen:
    """Ada by WebSocket and Bob by Ajax talk; then Bob closes his tab."""
    seen = Seen()
    server = await scene.example("chat")
    ada = await _enter(scene, server.port, "ws", "ada")
    bob = await _enter(scene, server.port, "ajax", "bob")
    for lobby, other in ((ada, "bob"), (bob, "ada")):
        await expect(lobby.person(other)).to_be_visible()
        seen.what[f"people of {other}'s friend"] = await lobby.people.evaluate_all(
            "items => items.map((item) => [item.dataset.uid, item.dataset.how])"
        )
    await ada.text.press_sequentially("hel")
    await expect(bob.typing).to_contain_text("ada")
    seen.what["typing of ada"] = await bob.typing.text_content()
    await ada.say("hello bob")
    await expect(bob.said_by("ada")).to_have_count(1)
    await expect(bob.typing).to_have_text("")
    await bob.text.press_sequentially("hel")
    await expect(ada.typing).to_contain_text("bob")
    seen.what["typing of bob"] = await ada.typing.text_content()
    await bob.say("hello ada")
    await expect(ada.said_by("bob")).to_have_count(1)
    seen.what["with ada"] = await ada.messages.all_text_contents()
    seen.what["with bob"] = await bob.messages.all_text_contents()
    await bob.tab.close()
    await expect(ada.person("bob")).to_have_count(0, timeout=90_000)
    await expect(ada.person("ada")).to_have_count(1)
    seen.complaints = ada.tab.complaints + bob.tab.complaints
    return seen


def test_two_users_see_each_other_and_how_each_is_connected(talk: Seen) -> None:
    here = [["ada", "ws"], ["bob", "ajax"]]
    assert talk["people of bob's friend"] == here
    assert talk["people of ada's friend"] == here


def test_each_sees_that_the_other_types(talk: Seen) -> None:
    assert (talk["typing of ada"], talk["typing of bob"]) == ("ada is typing", "bob is typing")


def test_each_sees_the_messages_of_both_in_one_order(talk: Seen) -> None:
    for messages in (talk["with ada"], talk["with bob"]):
        assert len(messages) == 2
        assert "hello bob" in messages[0]
        assert "hello ada" in messages[1]


def test_a_talk_leaves_nothing_in_the_console(talk: Seen) -> None:
    assert talk.complaints == []


@scenario("ws", "ajax", lasts=20)
async def server_lost(scene: Scene, transport: str) -> Seen:
    """The chat's server is killed; a message is written meanwhile; it is back."""
    seen = Seen()
    server = await scene.example("chat")
    ada = await _enter(scene, server.port, transport, "ada")
    bob = await _enter(scene, server.port, transport, "bob")
    await ada.say("before")
    await expect(bob.said_by("ada")).to_have_count(1)
    await server.kill()
    await expect(ada.state).to_have_attribute("data-open", "false")
    await expect(ada.page.locator("#countdown")).not_to_have_text("")
    seen.what["reason"] = await ada.state.get_attribute("data-reason")
    seen.what["why"] = await ada.page.locator("#state-why").text_content()
    await ada.say("meanwhile")
    for lobby in (ada, bob):
        await lobby.note_resumed()
    await server.start()
    await ada.is_open(transport)
    await bob.is_open(transport)
    await ada.say("after")
    for lobby in (ada, bob):
        await expect(lobby.messages.filter(has_text="after")).to_have_count(1)
        await expect(lobby.page.locator("#messages .pending")).to_have_count(0)
    for name, lobby in (("ada", ada), ("bob", bob)):
        seen.what[name] = [
            word
            for text in await lobby.messages.all_text_contents()
            for word in ("before", "meanwhile", "after")
            if word in text
        ]
        seen.what[f"{name} was told"] = await lobby.first_resumed()
    seen.complaints = ada.tab.complaints + bob.tab.complaints
    return seen


def test_a_page_that_lost_its_server_says_why(server_lost: Seen) -> None:
    assert server_lost["reason"] in ("unexpected", "not-opened")
    assert server_lost["why"]


def test_a_message_written_while_the_server_was_gone_is_said_once(server_lost: Seen) -> None:
    """The server has forgotten what was said before, so the pages show it no longer."""
    assert server_lost["ada"] == ["meanwhile", "after"]
    assert server_lost["bob"] == ["meanwhile", "after"]


def test_a_page_is_told_of_the_gap_that_a_new_server_leaves(server_lost: Seen) -> None:
    gap = ("gap", "Gap: something may have been missed; all was loaded anew.")
    assert (server_lost["ada was told"], server_lost["bob was told"]) == (gap, gap)


def test_a_lost_server_leaves_only_network_errors_in_the_console(server_lost: Seen) -> None:
    others = [text for text in server_lost.complaints if not text.startswith(NETWORK)]
    assert others == []


@scenario("ws", "ajax", lasts=12)
async def reloaded(scene: Scene, transport: str) -> Seen:
    """Ada reloads her page while Bob talks."""
    seen = Seen()
    server = await scene.example("chat")
    ada = Lobby(await scene.blank())
    await ada.go(server.port)
    await ada.is_open("ws")
    seen.what["at first"] = await ada.resumed()
    await ada.choose(transport)
    await ada.join("ada")
    bob = await _enter(scene, server.port, transport, "bob")
    await bob.say("one")
    await expect(ada.said_by("bob")).to_have_count(1)
    await ada.tab.focus()
    await ada.page.reload()
    await ada.is_open(transport)
    seen.what["after a reload"] = await ada.resumed()
    await expect(ada.said_by("bob")).to_have_count(1)
    await bob.say("two")
    await expect(ada.said_by("bob")).to_have_count(2)
    return seen


def test_a_reload_of_the_page_resumes(reloaded: Seen) -> None:
    assert reloaded["at first"] == ("fresh", "Fresh: the first connection of this tab.")
    assert reloaded["after a reload"] == ("resumed", "Resumed: nothing was missed.")


@scenario(lasts=15)
async def keyboard(scene: Scene) -> Seen:
    """Everything by keys: join, speak, look at the wire, change the transport, disconnect."""
    seen = Seen()
    server = await scene.example("chat")
    lobby = Lobby(await scene.blank())
    await lobby.go(server.port)
    press, write = lobby.page.keyboard.press, lobby.page.keyboard.type
    await lobby.is_open("ws")
    await expect(lobby.page.locator("#name")).to_be_focused()
    await write("ada")
    await press("Enter")
    await expect(lobby.text).to_be_focused()
    await write("hello")
    await press("Enter")
    await expect(lobby.said_by("ada")).to_have_count(1)
    seen.what["after a message"] = await _focus(lobby)

    seen.what["stops"] = await _walk(lobby, press)
    await _walk_to("drawer-toggle", lobby, press)
    await press("Enter")
    await expect(lobby.page.locator("#drawer")).to_be_visible()
    seen.what["in the drawer"] = await _focus(lobby)
    await press("Escape")
    await expect(lobby.page.locator("#drawer")).to_be_hidden()
    seen.what["out of the drawer"] = await _focus(lobby)

    await _walk_to("transport", lobby, press)
    await press("End")
    await lobby.is_open("ajax")
    await _walk_to("disconnect", lobby, press)
    await press("Enter")
    await expect(lobby.state).to_have_attribute("data-reason", "requested-disconnect")
    seen.what["disconnected"] = await _focus(lobby)
    await press("Enter")
    await lobby.is_open("ajax")
    seen.complaints = lobby.tab.complaints
    return seen


FOCUS = """
() => {
  const at = document.activeElement;
  return at.id || at.closest("[id]")?.id || at.tagName;
}
"""


async def _focus(lobby: Lobby) -> str:
    return str(await lobby.page.evaluate(FOCUS))


async def _walk(lobby: Lobby, press: Callable[[str], Awaitable[None]]) -> list[str]:
    """Go round by Tab, and tell where that led."""
    stops: list[str] = []
    for _ in range(40):
        await press("Tab")
        stop = await _focus(lobby)
        if stop in stops:
            break
        stops.append(stop)
    return stops


async def _walk_to(wanted: str, lobby: Lobby, press: Callable[[str], Awaitable[None]]) -> None:
    for _ in range(40):
        if await _focus(lobby) == wanted:
            return
        await press("Tab")
    raise AssertionError(f"expected a way to #{wanted} by Tab, got none")


def test_after_a_message_one_can_write_the_next(keyboard: Seen) -> None:
    assert keyboard["after a message"] == "text"


def test_all_that_can_be_pressed_is_reached_by_tab(keyboard: Seen) -> None:
    assert {
        "transport",
        "theme",
        "drawer-toggle",
        "disconnect",
        "text",
        "rename",
    } <= set(keyboard["stops"])


def test_the_drawer_takes_the_focus_and_gives_it_back(keyboard: Seen) -> None:
    assert keyboard["out of the drawer"] == "drawer-toggle"
    assert keyboard["in the drawer"] == "drawer-close"


def test_who_disconnects_by_key_stands_on_the_button_that_connects(keyboard: Seen) -> None:
    assert keyboard["disconnected"] == "try-now"


def test_keys_leave_nothing_in_the_console(keyboard: Seen) -> None:
    assert keyboard.complaints == []


WIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@scenario(320, 375, lasts=8)
async def narrow(scene: Scene, width: int) -> Seen:
    """On a phone: the form for a name, a talk with long words, the drawer."""
    seen = Seen()
    server = await scene.example("chat")
    lobby = Lobby(await scene.blank())
    await lobby.page.set_viewport_size({"width": width, "height": 640})
    await lobby.go(server.port)
    await lobby.is_open("ws")
    seen.what["form"] = await lobby.page.evaluate(WIDE)
    await lobby.join("W" * 24)
    await lobby.say("x" * 400)
    await lobby.say("some words " * 20)
    await expect(lobby.said_by("W" * 24)).to_have_count(2)
    seen.what["talk"] = await lobby.page.evaluate(WIDE)
    await lobby.page.locator("#drawer-toggle").click()
    await expect(lobby.page.locator("#drawer")).to_be_visible()
    seen.what["drawer"] = await lobby.page.evaluate(WIDE)
    seen.complaints = lobby.tab.complaints
    return seen


def test_a_narrow_page_has_no_way_to_the_side(narrow: Seen) -> None:
    assert narrow.what == {"form": 0, "talk": 0, "drawer": 0}


def test_a_narrow_page_leaves_nothing_in_the_console(narrow: Seen) -> None:
    assert narrow.complaints == []
