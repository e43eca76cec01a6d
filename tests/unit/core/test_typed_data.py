"""Handlers with `msg: EventMsg[T]`: the T that they see, and what becomes of other data."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, Protocol, TypedDict, TypeVar

import msgspec
import pydantic
import pytest
import typing_extensions
from dist_content import ROOT

import chansock
from chansock import BadData, ChannelSocket, EventMsg, Keyword, Router, packers
from chansock._core import wire
from chansock.testing import World, user_id

if TYPE_CHECKING:
    from chansock import EventMsg as OnlyForCheckers
    from chansock import Keyword as OnlyForCheckersToo

BOTH = pytest.mark.parametrize("transport", ["ws", "ajax"])
SENTES = {wire.WHY: "0"}  # a client that does not ask why
WHY = "expected str, got 5 at ['text']"


@dataclass
class Say:
    text: str
    room: int = 0


class Struct(msgspec.Struct):
    text: str


class Model(pydantic.BaseModel):
    text: str


@pytest.fixture
def chsk():
    return ChannelSocket(user_id=user_id)


@pytest.fixture
def world(chsk):
    with World(chsk, raise_handler_errors=False) as world:
        yield world


def ask(world, data, transport="ws", event_id="t/e", params=None):
    reply = getattr(world, transport)(uid="a", params=params or {}).ask(event_id, data)
    world.turn()
    world.until(lambda: reply.is_here)
    return reply.value


@BOTH
@pytest.mark.parametrize("how", ["plain", "async", "thread", "parallel"])
def test_the_handler_sees_its_type_and_never_what_does_not_fit(chsk, world, transport, how):
    seen = []

    def say(msg: EventMsg[Say]) -> str:
        seen.append(msg.data)
        return msg.data.text

    async def say_later(msg: EventMsg[Say]) -> str:
        await asyncio.sleep(0)
        return say(msg)

    handler = say_later if how in ("async", "parallel") else say
    chsk.on("t/e", handler, thread=how == "thread", parallel=how == "parallel")
    assert ask(world, {"text": "hi"}, transport) == "hi"
    assert ask(world, {"text": 5}, transport) == ["chsk/error", WHY]
    assert seen == [Say("hi")]
    assert chsk.stats.bad_data == 1


@BOTH
def test_to_sentes_clients_it_is_the_error_that_they_know(chsk, world, transport):
    @chsk.on("t/e")
    def say(msg: EventMsg[Say]) -> None: ...

    assert ask(world, {"text": 5}, transport, params=SENTES) == chansock.Keyword("chsk/error")
    assert chsk.stats.bad_data == 1


@BOTH
def test_a_client_of_a_world_raises_the_reason(chsk, world, transport):
    @chsk.on("t/e")
    def say(msg: EventMsg[Say]) -> None: ...

    client = getattr(world, transport)(uid="a")
    with pytest.raises(chansock.ReplyError) as caught:
        client.send("t/e", {"text": 5}, timeout=5)
    assert caught.value.reason == WHY
    assert str(caught.value) == f"expected a reply to t/e, got chsk/error: {WHY}"
    assert client.ask("t/e", {"text": 5}).why == WHY
    assert client.ask("t/e", {"text": "a"}).why is None


def test_who_asks_for_no_reply_gets_none(chsk, world):
    @chsk.on("t/e")
    def say(msg: EventMsg[Say]) -> None: ...

    alice = world.ws(uid="a")
    before = len(alice.transport.written)
    alice.send("t/e", {})
    world.turn()
    assert len(alice.transport.written) == before
    assert chsk.stats.bad_data == 1


@pytest.mark.parametrize("packer", [packers.JSON(), packers.Transit(), packers.MessagePack()])
def test_every_packer_carries_the_reason(packer):
    chsk = ChannelSocket(packer=packer)

    @chsk.on("t/e")
    def say(msg: EventMsg[Say]) -> None: ...

    with World(chsk, packer=packer) as world:
        assert ask(world, {"text": 5}) == ["chsk/error", WHY]


@pytest.mark.parametrize("kind", [Struct, Model])
def test_structs_and_models_are_types_too(chsk, world, kind):
    def say(msg):
        return type(msg.data).__name__

    say.__annotations__["msg"] = EventMsg[kind]
    chsk.on("t/e", say)
    assert ask(world, {"text": "hi"}) == kind.__name__
    assert ask(world, {"text": 5})[0] == "chsk/error"


def test_a_failing_client_fills_neither_log_nor_error_handlers(chsk, world, caplog):
    told = []
    chsk.on_error(lambda msg, error: told.append(error))

    @chsk.on("t/e")
    def say(msg: EventMsg[Say]) -> None: ...

    @chsk.on("t/other")
    def other(msg: EventMsg[int]) -> None: ...

    alice = world.ws("a", client_id="client-id-secret")
    with caplog.at_level(logging.WARNING, "chansock"):
        for _ in range(25):
            alice.send("t/e", {"text": 5})
        alice.send("t/other", "x\ny")
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == f"bad_data id=Keyword('t/e') uid='a' client='client-i': {WHY}"
    assert lines[20:] == [  # of the first id only the burst that LogLimit allows
        "bad_data id=Keyword('t/other') uid='a' client='client-i': expected int, got 'x\\ny'"
    ]
    assert told == []
    assert chsk.stats.bad_data == 26


@BOTH
def test_a_handler_may_refuse_data_itself(chsk, world, transport):
    @chsk.on("t/e")
    async def join(msg: EventMsg[dict[str, int]]) -> None:
        raise BadData("expected a room that exists,\n got 7\ud800", "['room']")

    why = "expected a room that exists, got 7? at ['room']"
    assert ask(world, {"room": 7}, transport) == ["chsk/error", why]
    assert chsk.stats.bad_data == 1


def test_middleware_sees_the_data_as_it_came_and_may_answer_what_does_not_fit(chsk, world):
    seen = []

    @chsk.middleware
    async def explain(msg, call_next):
        seen.append(msg.data)
        try:
            return await call_next(msg)
        except BadData as error:
            return {"error": error.message, "at": error.path}
        finally:
            seen.append(msg.data)

    @chsk.on("t/e")
    def say(msg: EventMsg[Say]) -> None: ...

    assert ask(world, {"text": 5}, params=SENTES) == {
        "error": "expected str, got 5",
        "at": "['text']",
    }
    assert ask(world, {"text": "a"}) is None
    assert seen == [{"text": 5}, {"text": 5}, {"text": "a"}, Say("a")]
    assert chsk.stats.bad_data == 0  # it was answered


def test_middleware_that_calls_twice_gives_the_same_data(chsk, world):
    tries = []

    @chsk.middleware
    async def again(msg, call_next):
        try:
            return await call_next(msg)
        except ConnectionError:
            return await call_next(msg)

    @chsk.on("t/e")
    def say(msg: EventMsg[Say]) -> int:
        tries.append(msg.data)
        if len(tries) == 1:
            raise ConnectionError
        return len(tries)

    assert ask(world, {"text": "a"}) == 2
    assert tries == [Say("a"), Say("a")]


def test_middleware_may_change_the_data(chsk, world):
    @chsk.middleware
    def stripped(msg, call_next):
        msg.data = {"text": msg.data["text"].strip()}
        return call_next(msg)

    @chsk.on("t/e")
    def say(msg: EventMsg[Say]) -> str:
        return msg.data.text

    assert ask(world, {"text": " a "}) == "a"


def test_data_deeper_than_the_stack_is_refused_in_words(chsk, world):
    @chsk.on("t/e")
    def walk(msg: EventMsg[Tree]) -> None: ...

    deep: dict[str, Any] = {}
    for _ in range(248):  # a map and a vector each: 500 forms are the most that edn reads
        deep = {"children": [deep]}
    found = ask(world, deep)
    assert found is None or found == ["chsk/error", "expected data less deep"]
    assert chsk.stats.bad_data == (found is not None)


@dataclass
class Tree:
    children: list[Tree] = field(default_factory=list)


def test_counts_begin_anew_when_a_channel_starts_again(chsk):
    @chsk.on("t/e")
    def say(msg: EventMsg[Say]) -> None: ...

    for _ in range(2):
        with World(chsk, raise_handler_errors=False) as world:
            ask(world, 5)
            assert chsk.stats.bad_data == 1


# -- where the type stands


def test_a_local_class_is_found_though_annotations_are_strings(chsk, world):
    @dataclass
    class Part:
        n: int

    @dataclass
    class Local:
        parts: list[Part]

    @chsk.on("t/e")
    def say(msg: EventMsg[Local]) -> int:
        return msg.data.parts[0].n

    @chsk.on("t/other")
    def quoted(msg: EventMsg[Part]) -> int:
        return msg.data.n

    assert ask(world, {"parts": [{"n": 7}]}) == 7
    assert ask(world, {"n": 8}, event_id="t/other") == 8
    assert ask(world, {"n": "x"}, event_id="t/other")[0] == "chsk/error"


def test_methods_partials_objects_and_wrapped_functions_are_handlers_too(chsk, world):
    class Room:
        def say(self, msg: EventMsg[int]) -> int:
            return msg.data + 1

        def __call__(self, msg: EventMsg[int]) -> int:
            return msg.data + 2

        @staticmethod
        def static(msg: EventMsg[int]) -> int:
            return msg.data + 3

    def with_more(more: int, msg: EventMsg[int]) -> int:
        return msg.data + more

    @functools.wraps(with_more)
    def wrapper(*args: Any) -> int:
        return with_more(5, *args)

    wrapper.__wrapped__ = Room.static  # type: ignore[attr-defined]
    handlers = [Room().say, Room(), Room.static, functools.partial(with_more, 4), wrapper]
    router = Router(prefix="t")
    for number, handler in enumerate(handlers):
        router.on(f"n{number}", handler)
    chsk.include(router)
    for number in range(len(handlers)):
        assert ask(world, 0, event_id=f"t/n{number}") == number + 1
        assert ask(world, "x", event_id=f"t/n{number}") == ["chsk/error", "expected int, got 'x'"]


def test_handlers_that_ask_for_no_type_cost_nothing(chsk):
    def bare(msg: EventMsg) -> None: ...
    def any_data(msg: EventMsg[Any]) -> None: ...
    def none(msg) -> None: ...
    def other(msg: Any) -> None: ...
    def dotted(msg: chansock.EventMsg) -> None: ...
    def for_checkers(msg: OnlyForCheckers) -> None: ...

    def quoted(msg: chansock.EventMsg[Any]) -> None: ...

    handlers = [bare, any_data, none, other, dotted, quoted, print, lambda msg: None]
    for number, handler in enumerate(handlers):
        chsk.on(f"t/n{number}", handler)
        assert chsk._handlers.routes[f"t/n{number}"].handler is handler


def test_a_name_that_cannot_be_found_is_told_at_registration(chsk):
    def say(msg: EventMsg[OnlyForCheckersToo]) -> None: ...
    def alias(msg: OnlyForCheckers) -> None: ...

    for handler, name in ((say, "OnlyForCheckersToo"), (alias, "OnlyForCheckers")):
        with pytest.raises(TypeError) as caught:
            chsk.on("t/e", handler)
        text = str(caught.value)
        assert text.startswith(f"{__name__}.test_a_name_that_cannot_be_found")
        assert "expected names that exist when it is registered in the types of " in text
        assert text.endswith(f"got name '{name}' is not defined")


def test_a_type_that_data_cannot_be_is_told_at_registration(chsk):
    def say(msg: EventMsg[complex]) -> None: ...

    with pytest.raises(
        TypeError, match=r"<locals>.say: expected a dataclass.* got <class 'complex'>"
    ):
        chsk.on("t/e", say)
    chsk.on("t/e", print)  # nothing was registered


class Named(TypedDict):
    text: str


@pytest.mark.parametrize(
    "asked", [Model, Struct, Say, Named, str, dict, dict[str, Any], Say | None], ids=str
)
def test_an_annotation_that_is_the_data_itself_is_refused_with_the_right_form(chsk, asked):
    def say(msg) -> None: ...

    say.__annotations__["msg"] = asked
    with pytest.raises(TypeError) as caught:
        chsk.on("t/e", say)
    name = getattr(asked, "__name__", str(asked))
    assert f"expected `msg: EventMsg[{name}]`, whose data is `msg.data`" in str(caught.value)
    chsk.on("t/e", print)  # nothing was registered


class HasId(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T")


@pytest.mark.parametrize(
    "asked", [object, Any, EventMsg, EventMsg | None, EventMsg[Say] | None, HasId, T], ids=str
)
def test_an_annotation_that_an_event_msg_fits_is_taken(chsk, asked):
    def say(msg) -> None: ...

    say.__annotations__["msg"] = asked
    assert chsk.on("t/e", say) is say


MaybeSay = typing_extensions.TypeAliasType("MaybeSay", EventMsg[Say] | None)


@pytest.mark.parametrize(
    "asked",
    [
        EventMsg[Say] | None,
        Optional[EventMsg[Say]],  # noqa: UP045
        "EventMsg[Say] | None",
        Annotated[EventMsg[Say], "the event"],
        MaybeSay,
        EventMsg[Annotated[Say, "its data", []]],
    ],
    ids=str,
)
def test_the_type_is_found_in_a_union_and_under_other_names(chsk, world, asked):
    def say(msg) -> str:
        return msg.data.text

    say.__annotations__["msg"] = asked
    chsk.on("t/e", say)
    assert ask(world, {"text": "hi"}) == "hi"
    assert ask(world, {"text": 5}) == ["chsk/error", WHY]


def test_two_types_of_data_are_their_union(chsk, world):
    @chsk.on("t/e")
    def say(msg: EventMsg[int] | EventMsg[Say]) -> str:
        return type(msg.data).__name__

    assert ask(world, 5) == "int"
    assert ask(world, {"text": "hi"}) == "Say"
    assert ask(world, "5") == ["chsk/error", "expected int or a map, got '5'"]


def test_constraints_of_an_annotation_are_checked(chsk, world):
    @chsk.on("t/e")
    def say(msg: EventMsg[Annotated[str, pydantic.Field(max_length=3)]]) -> str:
        return msg.data

    assert ask(world, "abc") == "abc"
    assert ask(world, "abcd") == ["chsk/error", "string should have at most 3 characters"]


def test_constraints_that_cannot_be_checked_are_told_at_registration(chsk):
    def say(msg: EventMsg[Annotated[Keyword, msgspec.Meta(max_length=3)]]) -> None: ...

    with pytest.raises(
        TypeError, match=r"<locals>.say: .* constraints that fit the type: Can only set"
    ):
        chsk.on("t/e", say)


def test_on_without_an_id_is_refused_with_the_right_form(chsk):
    for where in (chsk, Router("board")):
        with pytest.raises(
            TypeError, match=r'expected `@on\("chat/say"\)`.* got `@on` .*<locals>.say'
        ):

            @where.on
            def say(msg) -> None: ...


@pytest.mark.parametrize(
    ("handler", "shown"),
    [
        (lambda: None, "`<lambda>()`"),
        (lambda msg, user: None, "`<lambda>(msg, user)`"),
        (lambda *, msg: None, "`<lambda>(*, msg)`"),
        (functools.partial(lambda msg: None, 1), "()`"),
    ],
    ids=["none", "two", "by name", "partial"],
)
def test_a_handler_of_no_or_two_parameters_is_refused_with_the_right_form(chsk, handler, shown):
    for where in (chsk, Router()):
        with pytest.raises(TypeError, match=r"expected a handler of one parameter") as caught:
            where.on("t/e", handler)
        assert shown in str(caught.value)
    chsk.on("t/e", lambda msg, seen=(): None)
    chsk.on("t/f", lambda *args: None)


def test_the_channels_own_events_are_not_converted(chsk, world):
    came = []

    @chsk.on("chsk/uidport-open")
    def opened(msg: EventMsg[int]) -> None:
        came.append(msg.data)

    world.ws(uid="a")
    world.turn()
    assert came == ["a"]


CHECKED = """
from dataclasses import dataclass
from typing import Any

from chansock import ANONYMOUS, CallNext, ChannelSocket, EventMsg, Router

@dataclass
class Say:
    text: str

chsk = ChannelSocket()
router = Router(prefix="chat")

@router.on("say")
async def say(msg: EventMsg[Say]) -> str:
    reveal_type(msg.data)
    msg.chsk.send("ada", "chat/said", msg.data, latest="said", flush=True)
    assert msg.chsk.stats.sent and "ada" in msg.chsk.connected.any
    return msg.data.text

@chsk.on("t/any", thread=True)
def any_data(msg: EventMsg) -> None:
    reveal_type(msg.data)

reveal_type(say)

@chsk.middleware
async def timed(msg: EventMsg, call_next: CallNext) -> Any:
    return await call_next(msg)

@router.middleware
def plain(msg: EventMsg, call_next: CallNext) -> Any:
    return call_next(msg)

chsk.include(router, prefix="app")

for uid in chsk.connected.any:
    if uid is not ANONYMOUS:
        chsk.disconnect(uid)

@router.on("bad")
def bad(msg: str) -> None: ...
"""


@pytest.mark.slow
def test_a_type_checker_knows_the_data(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    path = tmp_path / "checked.py"
    path.write_text(CHECKED)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    # mypy's spelling of a type differs from version to version.
    assert [re.sub(r"builtins\.|\"", "", line) for line in found[:3]] == [
        "note: Revealed type is checked.Say",
        "note: Revealed type is Any",
        "note: Revealed type is def (msg: chansock._fast.events.dispatch.EventMsg[checked.Say]) -> "
        "typing.Coroutine[Any, Any, str]",
    ]
    assert [line.partition(" ")[0] for line in found[3:] if line] == ["error:"], done.stdout
