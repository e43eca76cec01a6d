"""`python -m chansock send`: what scripts go by, which is stdout, stderr and the status."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from command import LIMIT, MODULE_LIMIT, called, done, serving, started, usage_error
from dist_content import ROOT
from readme_pair import free_port

SUPPORT = ROOT / "tests" / "support"
TLS = ROOT / "tests" / "data" / "tls"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    options = {"cwd": SUPPORT, "limit": MODULE_LIMIT}
    with serving("cli_app:edn", "--log-level=critical", **options) as (_, url):
        yield url


def send(*arguments: str, **options: str) -> tuple[int, str, str]:
    return called("send", *arguments, **options)


@pytest.mark.parametrize("run", [called, done])
@pytest.mark.parametrize("transport", ["auto", "ws", "ajax"])
def test_the_reply_is_on_stdout_as_edn(url: str, transport: str, run: Any) -> None:
    asked = run("send", url, ":math/double", "21", "--timeout=60", f"--transport={transport}")
    assert asked == (0, "42\n", "")


def test_without_a_timeout_nothing_is_printed(url: str) -> None:
    for transport in ("ws", "ajax"):
        assert send(url, "chat/say", '{:text "hi"}', f"--transport={transport}") == (0, "", "")


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        ('{:a [1 2.5 #{:b} nil true "é"]}', '{:a [1 2.5 #{:b} nil true "é"]}'),
        ("-5", "-5"),
        ('"a\u001b[31m\nb"', '"a\\u001b[31m\\nb"'),
        ("", "nil"),
        ("; nothing", "nil"),
        (None, "nil"),
    ],
)
def test_data_is_one_value_in_edn(url: str, data: str | None, reply: str) -> None:
    arguments = [] if data is None else [data]
    assert send(url, ":say/back", *arguments, "--timeout=60") == (0, reply + "\n", "")


def test_a_dash_reads_standard_input(url: str) -> None:
    asked = send(url, ":say/back", "-", "--timeout=60", input="{:a\n [1 2]}\n")
    assert asked == (0, "{:a [1 2]}\n", "")
    assert send(url, ":say/back", "-", "--timeout=60", input="") == (0, "nil\n", "")
    assert done("send", url, ":say/back", "-", "--timeout=60", input="1") == (0, "1\n", "")


def test_headers_cookies_and_params_travel(url: str) -> None:
    options = ["--param", "user=ada", "--param", "room=a=b", "--header", "X-Key: open"]
    for transport, method in (("ws", "GET"), ("ajax", "POST")):
        asked = send(url, "say/headers", "--timeout=60", f"--transport={transport}", *options)
        assert asked == (0, f'["{method}" "a=b" "ada"]\n', "")


@pytest.mark.parametrize("packer", ["json", "msgpack", "transit"])
def test_packers(packer: str) -> None:
    with serving(f"cli_app:{packer}", cwd=SUPPORT) as (_, url):
        options = ["--timeout=60", f"--packer={packer}"]
        assert send(url, ":say/back", '{:a "b"}', *options) == (0, '{:a "b"}\n', "")


def test_csrf_token() -> None:
    with serving("cli_app:guarded", cwd=SUPPORT) as (_, url):
        asked = send(url, ":say/back", "1", "--timeout=60", "--csrf-token=s3cret")
        assert asked == (0, "1\n", "")
        status, out, err = send(url, ":say/back", "1", "--csrf-token=wr0ng")
        assert (status, out) == (1, "")
        assert err.startswith("chansock send: handshake refused with HTTP 403: ")
        assert "wr0ng" not in err


def test_tls() -> None:
    options = [f"--ssl-certfile={TLS / 'cert.pem'}", f"--ssl-keyfile={TLS / 'key.pem'}"]
    with serving("cli_app:edn", *options, cwd=SUPPORT) as (_, url):
        trust = f"--cafile={TLS / 'cert.pem'}"
        for transport in ("ws", "ajax"):
            asked = send(url, ":say/back", "1", "--timeout=60", trust, f"--transport={transport}")
            assert asked == (0, "1\n", "")
        # In a process: asyncio leaves the transport of a handshake that failed to the next turn.
        status, out, err = done("send", url, ":say/back", "1")
        assert (status, out) == (1, "")
        assert "certificate verify failed" in err


# what goes wrong is one line on stderr, and a status

FAULTS = {
    ":fail/raise --timeout=60": (4, "the server's handler failed (:chsk/error)"),
    ":fail/never --timeout=0.1": (3, "expected a reply within 0.1 s, got none"),
    ":say/back {:a": (
        2,
        "expected a closing '}', got the end: '{:a' at byte 0 (line 1, column 1)",
    ),
    ":say/back 1]": (2, "expected one form, got text after it: ']' at byte 1 (line 1, column 2)"),
    "back 1": (2, "expected a namespaced event id like \"chat/say\", got 'back'"),
    ":chsk/close": (2, "expected an event id outside the namespace chsk, got 'chsk/close'"),
    "5": (2, "expected an event id like :chat/say, got 5"),
    ":say/back/x:y,z": (2, None),
    ":say/back --header X-Key:shut": (1, "handshake refused with HTTP 401: Unauthorized request"),
    ":say/back --header Upgrade:s3cret": (
        2,
        "headers: expected a field that is not the connection's, got Upgrade",
    ),
    ":say/back 1 --proxy=none --transport=ws --header=X-Key:shut": (
        1,
        "handshake refused with HTTP 401: Unauthorized request",
    ),
    ":say/back --proxy=ftp://p:1": (
        2,
        "proxy: expected http://host:port, socks5://host:port or socks5h://host:port, got ftp://",
    ),
    ":say/back --cafile=no.pem": (
        2,
        "--cafile: expected certificates in 'no.pem', got no such file or directory",
    ),
}


# One of each status is tried as a process as well.
PROCESSES = (
    ":fail/raise --timeout=60",
    ":fail/never --timeout=0.1",
    ":say/back {:a",
    ":say/back --header X-Key:shut",
)


@pytest.mark.parametrize("arguments", FAULTS)
def test_a_fault_is_one_line_and_a_status(url: str, arguments: str) -> None:
    expected, text = FAULTS[arguments]
    status, out, err = send(url, *arguments.split())
    assert (status, out) == (expected, "")
    assert err.startswith("chansock send: ")
    assert err.count("\n") == 1
    if arguments in PROCESSES:
        assert done("send", url, *arguments.split()) == (status, out, err)
    if text is not None:
        assert err == f"chansock send: {text}\n"


def test_a_close_of_the_server_shows_its_words_without_control_characters(url: str) -> None:
    told = (
        "expected a reply, got the end of the connection (refused 4401: log in again\\u001b[31m); "
        "the server may or may not have handled the event"
    )
    asked = send(url, ":fail/refuse", "--timeout=60", "--transport=ws")
    assert asked == (1, "", f"chansock send: {told}\n")


def test_a_server_that_is_not_there() -> None:
    status, out, err = send(f"ws://127.0.0.1:{free_port()}/chsk?secret=s3cret", ":a/b")
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "s3cret" not in err


USAGE = {
    "": "the following arguments are required: EVENT",
    ":a/b --timeout 0": "argument --timeout: expected a positive number of seconds, got '0'",
    ":a/b --timeout nan": "argument --timeout: expected a positive number of seconds, got 'nan'",
    ":a/b --header s3cret": "argument --header: expected 'Name: value', got no name and colon",
    ":a/b --param s3cret": "argument --param: expected name=value, got no name and equals sign",
}


@pytest.mark.parametrize("arguments", USAGE)
def test_wrong_usage_is_told_with_status_2(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = usage_error(capsys, "send", "ws://127.0.0.1:1/chsk", *arguments.split())
    assert told == f"chansock send: error: {USAGE[arguments]}"
    assert "s3cret" not in told


def test_a_url_of_another_kind_is_wrong_usage() -> None:
    assert send("ftp://localhost/chsk", ":a/b") == (
        2,
        "",
        "chansock send: url: expected a URL like ws://localhost:8000/chsk or https://..., "
        "got ftp://\n",
    )


def test_a_reader_that_has_gone_is_no_complaint(url: str) -> None:
    with started("send", url, ":math/double", "21", "--timeout=60") as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        assert program.stderr.read() == ""
        assert program.wait(LIMIT) == 141


def test_ctrl_c_ends_it_with_130_and_no_traceback() -> None:
    """While it waits for standard input, and while it waits for a reply."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/chsk"
        with started("send", url, ":a/b", "--timeout=60") as program:
            silent.accept()[0].close()  # it has connected: the handler of the signal is there
            program.send_signal(signal.SIGINT)
            out, err = program.communicate()
    assert (program.returncode, out, err) == (130, "", "")


def test_standard_input_may_be_a_pipe_that_takes_its_time(url: str) -> None:
    with started("send", url, ":say/back", "-", "--timeout=60", stdin=subprocess.PIPE) as program:
        assert program.stdin is not None
        for piece in ("[1", " 2", "]"):
            program.stdin.write(piece)
            program.stdin.flush()
        assert program.communicate()[0] == "[1 2]\n"
