"""The fixtures in tests that are coroutines, under pytest-asyncio and under anyio's plugin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dist_content import ROOT

pytestmark = pytest.mark.slow

CONFTEST = """
import asyncio

import pytest

import chansock


@pytest.fixture
def chsk():
    chsk = chansock.ChannelSocket(user_id=lambda request: request.params.get("user"))

    @chsk.on("math/double")
    async def double(msg):
        await asyncio.sleep(60)
        return msg.data * 2

    return chsk
"""

TESTS = """
import asyncio

import pytest

import chansock

{mark}


async def test_world(chsk_world):
    own = asyncio.get_running_loop()
    ada = chsk_world.connect("ada")
    assert ada.send("math/double", 21, timeout=90) == 42
    await asyncio.sleep(0.01)
    assert asyncio.get_running_loop() is own
    assert chsk_world.run(asyncio.sleep(3600, "later")) == "later"


async def test_connect(chsk_connect, chsk):
    ada = chsk_connect("ada")
    await asyncio.sleep(0)
    chsk.send("ada", "chat/said", "hi")
    assert ada.expect("chat/said") == "hi"


async def test_two_at_once(chsk_world):
    async def ask(name):
        client = chsk_world.connect(name)
        await asyncio.sleep(0)
        return client.send("math/double", 1, timeout=90)

    assert await asyncio.gather(ask("ada"), ask("bob")) == [2, 2]


async def test_server(chsk_server, chsk):
    async with chansock.connect(chsk_server.url, params={{"user": "ada"}}) as ada:
        assert ada.state.uid == "ada"
        chsk.send("ada", "chat/said", "hi")
        async for event in ada:
            assert event.data == "hi"
            break


{fixture}
async def held(chsk_world):
    await asyncio.sleep(0)
    yield chsk_world.connect("eve")


async def test_a_fixture_of_its_own(held):
    assert held.uid == "eve"
"""

LOOP = " -o asyncio_default_fixture_loop_scope=function"  # or pytest-asyncio warns
WAYS = {
    "pytest-asyncio, auto": (
        "-p pytest_asyncio.plugin -o asyncio_mode=auto" + LOOP,
        "",
        "@pytest.fixture",
    ),
    "pytest-asyncio, strict": (
        "-p pytest_asyncio.plugin -o asyncio_mode=strict" + LOOP,
        "pytestmark = pytest.mark.asyncio",
        "@pytest_asyncio.fixture",
    ),
    "anyio": (
        "-p anyio.pytest_plugin",
        "pytestmark = pytest.mark.anyio\n\n\n@pytest.fixture\ndef anyio_backend():\n"
        "    return 'asyncio'\n",
        "@pytest.fixture",
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_coroutines_use_the_fixtures(way: str, tmp_path: Path) -> None:
    options, mark, fixture = WAYS[way]
    tests = TESTS.format(mark=mark, fixture=fixture)
    if "pytest_asyncio." in fixture:
        tests = "import pytest_asyncio\n" + tests
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(tests)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-W", "error", "-c", os.devnull),
            *("--rootdir", ".", "-p", "no:cacheprovider", "-p", "pytest_chansock"),
            *options.split(),
            "test_it.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert "6 passed" in done.stdout, done.stdout
