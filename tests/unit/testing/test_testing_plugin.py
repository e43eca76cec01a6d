"""The pytest plugin, by runs of pytest within the test."""

from __future__ import annotations

import subprocess
import sys

import pytest
from dist_content import ROOT

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow

APP = """
import chansock

chsk = chansock.ChannelSocket(user_id=lambda request: request.cookies.get("login"))

@chsk.on("chat/say")
def say(msg):
    chsk.send(chansock.ALL, "chat/said", {"from": msg.uid, "text": msg.data})

@chsk.on("math/double")
async def double(msg):
    return msg.data * 2
"""
CONFTEST = """
import pytest
import app

@pytest.fixture
def chsk():
    return app.chsk
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load no other plugin, which would be imported anew for each run."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(app=APP)
    pytester.makeconftest(CONFTEST)
    return pytester


def run(
    project: pytest.Pytester, *options: str, plugin: str = "pytest_chansock"
) -> pytest.RunResult:
    return project.runpytest_inprocess("-p", plugin, "-p", "no:cacheprovider", "-v", *options)


def test_a_test_that_asks_for_transport_or_connect_runs_on_both(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        def test_one(chsk_world):
            alice = chsk_world.connect("alice")
            alice.send("chat/say", "hi")
            assert alice.expect("chat/said") == {"from": "alice", "text": "hi"}

        def test_both(chsk_world, chsk_transport):
            bob = chsk_world.connect(cookies={"login": "bob"})
            assert type(bob).__name__.lower() == f"{chsk_transport}client"
            assert bob.send("math/double", 21, timeout=60) == 42
            assert chsk_world.chsk.stats.sent == 0  # a life of its own

        def test_short(chsk_connect):
            assert chsk_connect("alice").send("math/double", 21, timeout=60) == 42

        @pytest.mark.usefixtures("chsk_transport")
        class TestAll:
            def test_in_a_class(self, chsk_world):
                assert chsk_world.connect(7).uid == 7

        @pytest.mark.parametrize("chsk_transport", ["ajax"])
        def test_on_one_alone(chsk_world, chsk_transport):
            assert type(chsk_world.connect()).__name__ == "AjaxClient"
        """
    )
    result = run(project)
    result.assert_outcomes(passed=8)
    names = ["test_one ", "test_both[[]ws] ", "test_both[[]ajax] ", "test_short[[]ws] "]
    names += ["test_short[[]ajax] ", "TestAll::test_in_a_class[[]ws] "]
    for name in names:
        result.stdout.fnmatch_lines([f"*::{name}PASSED*"])


def test_a_missing_channel_is_told_with_the_fixture_to_write(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(chsk_world): pass")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["expected a fixture `chsk` that gives the ChannelSocket under test*", "*def chsk():*"]
    )


def test_what_is_missed_is_shown_without_frames_of_the_kit(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        def test_it(chsk_world):
            @chsk_world.chsk.on("chat/fail")
            def fail(msg):
                raise KeyError("room")
            alice = chsk_world.connect("alice", client_id="a1")
            alice.send("chat/fail")
            alice.send("chat/say", "hi")
            alice.expect("chat/joined", within=2)
        """
    )
    result = run(project)
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert (
        "AssertionError: expected chat/joined within 2 s, "
        "got [chat/said {'from': 'alice', 'text': 'hi'}] (client 'a1', open)"
    ) in text
    assert "KeyError: 'room'" in text
    assert "logged by chansock.handlers: handler_error id=Keyword('chat/fail') uid='alice'" in text
    assert "chansock/testing/" not in text


def test_a_world_of_ones_own_takes_the_place_of_the_plugins(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from chansock.testing import World

        @pytest.fixture
        def chsk_world(chsk, chsk_transport):
            with World(chsk, transport=chsk_transport, path="/talk") as world:
                yield world

        def test_it(chsk_connect, chsk_world):
            assert chsk_connect("alice").world is chsk_world
            assert chsk_world.path == "/talk"
        """
    )
    run(project).assert_outcomes(passed=2)


def test_a_server_on_a_real_port(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import asyncio
        import chansock

        def test_it(chsk_server):
            async def main():
                async with chansock.connect(chsk_server.url) as client:
                    return await client.send("math/double", 21, timeout=60)
            assert asyncio.run(main()) == 42

        def test_with_the_client_for_scripts(chsk_server):
            with chansock.connect_sync(chsk_server.url) as client:
                assert client.send("math/double", 21, timeout=60) == 42
        """
    )
    run(project).assert_outcomes(passed=2)


def test_asynchronous_tests_use_the_same_words(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import asyncio
        import pytest

        @pytest.mark.anyio
        async def test_it(chsk_world, chsk_transport, anyio_backend):
            alice = chsk_world.connect("alice")
            alice.send("chat/say", "hi")
            await asyncio.sleep(0)
            assert alice.expect("chat/said")["text"] == "hi"
            assert alice.send("math/double", 21, timeout=60) == 42

        @pytest.fixture
        def anyio_backend():
            return "asyncio"
        """
    )
    run(project, "-p", "anyio.pytest_plugin").assert_outcomes(passed=2)


def test_both_names_of_the_plugin_go_together(project: pytest.Pytester) -> None:
    project.makepyfile("def test_it(chsk_connect): assert chsk_connect('alice').uid == 'alice'")
    run(project, plugin="chansock.testing.plugin").assert_outcomes(passed=2)
    run(project, "-p", "pytest_chansock", plugin="chansock.testing.plugin").assert_outcomes(
        passed=2
    )


def test_fixtures_of_the_same_name_in_a_project_are_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def chsk_world():
            return "mine"

        def test_it(chsk_world): assert chsk_world == "mine"

        @pytest.mark.parametrize("chsk_transport", ["udp", "tcp"])
        def test_param(chsk_transport): assert chsk_transport in ("udp", "tcp")
        """
    )
    run(pytester).assert_outcomes(passed=3)


def test_who_uses_no_fixture_of_it_imports_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert "pytest_chansock" in sys.modules
            assert [name for name in sys.modules if name.split(".")[0] == "chansock"] == []
        """
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "pytest_chansock"],
        cwd=pytester.path,
        env={"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": ""},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert "1 passed" in done.stdout, done.stdout
