"""What an application writes: how a client is opened and closed, its settings, its errors."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from sente_script import CLOSE, entered, over_ws, scripted

import chansock
from chansock import ClientConfig, ConfigError, connect


@scripted
async def test_a_client_is_opened_by_await_and_closed_by_close(played):
    async with entered(played, connect(played.url, transport="ws")) as entering:
        connection = await played.accept_ws()
        client = await entering
        with pytest.raises(RuntimeError, match=r"close it with `await client.close\(\)`"):
            await client
        closing = client.close()
        connection.close_frame(1000)
        await closing
        await client.close()  # may be repeated
        assert not client.state.open


def test_close_returns_after_the_state_handlers_that_it_cancels(run):
    async def main():
        started, ended = [], []

        async def changed(state):
            started.append(state)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.append(state)

        async with chansock.serve(chansock.ChannelSocket(), port=0) as listener:
            client = connect(listener.url, proxy=None, config=ClientConfig(close_timeout=0.05))
            client.on_state(changed)
            await client
            await client.close()
            assert len(ended) == len(started) > 0

    run(main())


def test_await_of_connect_gives_the_open_client(run):
    async def main():
        chsk = chansock.ChannelSocket()
        chsk.on("math/double", lambda msg: msg.data * 2)
        async with chansock.serve(chsk, port=0) as listener:
            client = await connect(listener.url, proxy=None)
            assert await client.send("math/double", 21, timeout=60) == 42
            await client.close()

    run(main())


@scripted
async def test_a_closed_client_says_what_to_do(played):
    client = connect(played.url, transport="ws")
    form = r"open it with `async with connect\(...\) as client`, or with `client = await connect"
    for is_after in (False, True):
        with pytest.raises(chansock.ChannelClosed, match=form):
            await client.send("a/b")
        with pytest.raises(chansock.ChannelClosed, match=form):
            client.reconnect()
        if is_after:
            with pytest.raises(StopAsyncIteration):
                await anext(client)
        else:
            with pytest.raises(chansock.ChannelClosed, match=form):
                await anext(client)
            async with over_ws(played, client) as connection:
                closing = client.close()
                connection.close_frame(1000)
                await closing
                assert (await connection.frame()).opcode == CLOSE


def test_a_misspelt_setting_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="unknown field 'max_backof': did you mean 'max_backoff'"):
        ClientConfig(max_backof=1)
    with pytest.raises(ConfigError, match="unknown field 'x', expected one of connect_timeout, cl"):
        ClientConfig(x=1)
    with pytest.raises(ConfigError, match="unknown option 'proxi': did you mean 'proxy'"):
        connect("ws://h/chsk", proxi=None)
    form = r"close_timeout is a field of ClientConfig: config=ClientConfig\(close_timeout=...\)"
    with pytest.raises(ConfigError, match=form):
        connect("ws://h/chsk", close_timeout=1)
    with pytest.raises(ConfigError, match=r"config: expected a ClientConfig, got \{\}"):
        connect("ws://h/chsk", {})


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(ClientConfig)])
@pytest.mark.parametrize("value", [0, -1, True, "1", float("nan"), float("inf"), None])
def test_a_setting_out_of_range_is_refused(field, value):
    if value is None and field == "ws_ping_interval":
        assert ClientConfig(ws_ping_interval=None).ws_ping_interval is None
        return
    with pytest.raises(ConfigError, match=f"^{field}: expected a"):
        ClientConfig(**{field: value})


def test_names_that_both_sides_have_mean_the_same():
    ours = {field.name for field in dataclasses.fields(ClientConfig)}
    theirs = {field.name for field in dataclasses.fields(chansock.Config)}
    assert ours - theirs == {
        "connect_timeout",
        "ajax_timeout",
        "max_backoff",
        "max_posts",
        "max_unacked_events",
        "max_unacked_bytes",
    }


@pytest.mark.parametrize(
    "url", ["localhost:8000/chsk", "//h/chsk", "h/chsk", "ftp://h/chsk", 5, ""]
)
def test_a_url_without_a_scheme_of_ours_is_refused_with_the_right_form(url):
    with pytest.raises(ConfigError, match="url: expected a URL like ws://localhost:8000/chsk"):
        connect(url)


def test_no_wiring_is_public():
    names = {name for name in dir(chansock.Client) if not name.startswith("_")}
    assert names == {
        "break_connection",
        "client_id",
        "close",
        "disconnect",
        "on",
        "on_state",
        "once",
        "open",
        "reconnect",
        "send",
        "state",
    }
