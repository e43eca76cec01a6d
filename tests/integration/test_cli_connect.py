"""`python -m chansock connect`: in a pipe, and in a terminal."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest
from command import LIMIT, MODULE_LIMIT, called, done, in_terminal, serving, started
from dist_content import ROOT
from readme_pair import free_port

SUPPORT = ROOT / "tests" / "support"
CONNECTED = "* connected over a WebSocket, uid nil\n"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    options = {"cwd": SUPPORT, "limit": MODULE_LIMIT}
    with serving("cli_app:edn", "--log-level=critical", **options) as (_, url):
        yield url


# in a pipe


def test_lines_are_sent_in_order_and_each_reply_comes_before_the_next(url: str) -> None:
    lines = ':chat/say {:text "hi"}\n\n; a comment\n? :math/double 21\n?:math/double 4\n ?say/back'
    assert done("connect", url, input=lines) == (
        0,
        '< :chat/said {:text "hi"}\n= 42\n= 8\n= nil\n',
        CONNECTED,
    )


def test_what_the_options_say_is_shown(url: str) -> None:
    options = ["--transport=ajax", "--param=user=ada", "--header", "Cookie: color=blue"]
    status, out, err = called("connect", url, *options, input="?say/headers\n")
    assert (status, out) == (0, '= ["POST" "" "ada"]\n')
    assert err == '* connected over Ajax, uid "ada", handshake data "blue"\n'


def test_msgpack_shows_bytes_as_edn() -> None:
    with serving("cli_app:msgpack", cwd=SUPPORT) as (_, url):
        told = called("connect", url, "--packer=msgpack", input='?say/back {:a "é"}\n?say/bytes')
        assert told == (0, '= {:a "é"}\n= #base64 "aGk="\n', CONNECTED)


BAD = {
    ":chat/say {:a": (
        2,
        "! expected a closing '}', got the end: '{:a' at byte 10 (line 1, column 11)\n"
        "  :chat/say {:a\n            ^\n",
    ),
    "? :é/a 1 2": (
        2,
        "! expected the end of the line, got more: '2' at byte 10 (line 1, column 10)\n"
        "  ? :é/a 1 2\n           ^\n",
    ),
    "?": (2, None),
    "[:chat/say 1]": (2, "! expected an event id like :chat/say, got [:chat/say 1]\n"),
    ":chsk/close": (2, "! expected an event id outside the namespace chsk, got 'chsk/close'\n"),
    "? :fail/raise": (4, "! the server's handler failed (:chsk/error)\n"),
}


@pytest.mark.parametrize("line", BAD)
def test_a_line_that_fails_does_not_end_the_session(url: str, line: str) -> None:
    expected, text = BAD[line]
    arguments = ("connect", url, "--timeout=60")
    lines = f"{line}\n:chat/say 1\n? say/back 2\n"
    status, out, err = called(*arguments, input=lines)
    assert status == expected
    assert out == "< :chat/said 1\n= 2\n"
    assert err.startswith(CONNECTED + "! ")
    if text is not None:
        assert err == CONNECTED + text
    if line == ":chat/say {:a":
        assert done(*arguments, input=lines) == (status, out, err)


def test_a_request_that_nobody_answers_does_not_end_the_session(url: str) -> None:
    with started("connect", url, "--timeout=0.5", stdin=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write("? :fail/never\n:chat/say 1\n")
        program.stdin.flush()
        assert program.stdout.readline() == "< :chat/said 1\n"
        out, err = program.communicate()
    assert (program.returncode, out) == (3, "")
    assert err == CONNECTED + "! expected a reply within 0.5 s, got none\n"


def test_bytes_that_are_no_utf_8_are_told_with_their_place(url: str) -> None:
    with started("connect", url, stdin=subprocess.PIPE, text=False) as program:
        _, err = program.communicate(b':say/back "\xff"\n')
    assert program.returncode == 2
    assert b"! expected UTF-8, got 0xff at byte 11 (line 1, column 12)\n" in err


def test_a_server_that_is_not_there() -> None:
    status, out, err = called("connect", f"ws://127.0.0.1:{free_port()}/chsk?secret=s3cret")
    assert (status, out) == (1, "")
    assert err.startswith("chansock connect: expected an open channel, got not-opened")
    assert err.count("\n") == 1
    assert "s3cret" not in err


def test_a_server_that_refuses(url: str) -> None:
    assert called("connect", url, "--header=X-Key:shut") == (
        1,
        "",
        "chansock connect: handshake refused with HTTP 401: Unauthorized request\n",
    )


def test_a_close_for_good_ends_it_and_a_pause_does_not(url: str) -> None:
    with started("connect", url, "--listen", stdin=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stderr is not None
        assert program.stderr.readline() == CONNECTED
        program.stdin.write(":fail/close\n")
        program.stdin.flush()
        assert program.stderr.readline() == "* closed: clean 1000: a pause; coming back\n"
        assert program.stderr.readline() == CONNECTED
        program.stdin.write(":fail/refuse\n")
        program.stdin.close()
        assert program.stderr.readline() == "* closed: refused 4401: log in again\\u001b[31m\n"
        assert program.wait(LIMIT) == 1


def test_it_comes_back_to_a_server_that_was_started_anew() -> None:
    port = free_port()
    with serving("cli_app:edn", f"--port={port}", cwd=SUPPORT) as (server, url):
        with started("connect", url, stdin=subprocess.PIPE) as program:
            assert program.stdin is not None
            assert program.stderr is not None
            assert program.stderr.readline() == CONNECTED
            server.send_signal(signal.SIGTERM)
            assert "; coming back" in program.stderr.readline()
            server.wait(LIMIT)
            assert program.stderr.readline().startswith("* not back yet: not-opened")
            with serving("cli_app:edn", f"--port={port}", cwd=SUPPORT):
                for line in program.stderr:
                    if line == CONNECTED:
                        break
                out, _ = program.communicate("? :math/double 3\n")
            assert (program.returncode, out) == (0, "= 6\n")


def test_listening_goes_on_behind_the_end_of_the_input_until_ctrl_c(url: str) -> None:
    with started("connect", url, "--listen", stdin=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(":chat/say 1\n")
        program.stdin.close()
        assert program.stdout.readline() == "< :chat/said 1\n"
        program.send_signal(signal.SIGINT)
        assert program.stdout.read() == ""
        assert program.wait(LIMIT) == 130


def test_a_reader_that_has_gone_ends_it_quietly(url: str) -> None:
    with started("connect", url, "--listen", stdin=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        program.stdin.write(":chat/say 1\n")
        program.stdin.flush()
        assert program.stderr.read() == CONNECTED
        assert program.wait(LIMIT) == 141


# in a terminal


def test_a_session_in_a_terminal(url: str) -> None:
    with in_terminal("connect", url) as (program, terminal):
        terminal.read_to("* connected over a WebSocket, uid nil\r\n")
        terminal.read_to("> ")
        terminal.type(":math/double {:a\n")  # no event's data: told, and the session goes on
        terminal.read_to("(line 1, column 14)")
        terminal.read_to("\n> ")
        terminal.type("\x1b[A\x01? \x05\x7f\x7f\x7f21\n")  # the line before, mended by its keys
        terminal.read_to("= 42\r\n> ")
        terminal.type('? say/back "half a')
        terminal.read_to("half a")
        terminal.type(' line"\r')
        terminal.read_to('= "half a line"\r\n> ')
        terminal.type("\x04")
        terminal.rest()
        assert program.wait(LIMIT) == 0
        assert terminal.echoes()


def test_a_push_is_put_above_the_line_that_is_typed(url: str) -> None:
    with in_terminal("connect", url, "--param=user=t") as (_, terminal):
        terminal.read_to("> ")
        terminal.type(":half/typed")
        terminal.read_to(":half/typed")
        long = "x" * 100
        # Two more rows than one: what is inserted is as high as what is shown.
        assert called("send", url, ":say/all", f'"{long}"')[0] == 0
        shown = terminal.read_to("\x1b8\x1b[2B")
        assert shown == f'\x1b7\n\n\x1b[2A\x1b[2L\r< :chat/said "{long}"\x1b8\x1b[2B'.replace(
            "\n", "\r\n"
        )


@pytest.mark.parametrize(("key", "status"), [("\x03", 130), ("\x04", 0)])
def test_the_keys_that_end_it_leave_the_terminal_as_it_was(url: str, key: str, status: int) -> None:
    with in_terminal("connect", url) as (program, terminal):
        terminal.read_to("> ")
        assert not terminal.echoes()  # readline shows what is typed
        terminal.type(key)
        shown = terminal.rest()
        assert program.wait(LIMIT) == status
        assert "Traceback" not in shown
        assert terminal.echoes()


def test_a_close_for_good_leaves_the_terminal_as_it_was(url: str) -> None:
    with in_terminal("connect", url) as (program, terminal):
        terminal.read_to("> ")
        terminal.type(":fail/refuse\n")
        terminal.read_to("* closed: refused 4401: log in again\\u001b[31m")
        terminal.rest()
        assert program.wait(LIMIT) == 1
        assert terminal.echoes()
