"""`python -m chansock serve`: from outside, on real sockets."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import done, in_terminal, served_url, serving, started, usage_error
from dist_content import ROOT
from readme_pair import free_port

TLS = ROOT / "tests" / "data" / "tls"
APP = """
import chansock

chsk = chansock.ChannelSocket()

def page(request):
    return chansock.Response(200, "a page")

def make():
    return chansock.ChannelSocket(handshake_data=lambda request: "made")

number = 5
"""
HANDSHAKE = "[[:chsk/handshake [:sente/nil-uid nil nil]] nil]"
GET = b"GET /chsk?client-id=a&handshake%3F=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE = (
    b"GET /chsk?client-id=a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def handshake(url: str, trust: ssl.SSLContext | None = None) -> str:
    """Open a session over Ajax, and return the answer."""
    with urllib.request.urlopen(f"{url}?client-id=a&handshake%3F=1", context=trust) as answer:
        return answer.read().decode()


def test_serves_at_a_free_port_that_it_prints(folder: Path) -> None:
    with serving("app:chsk", "--port", "0", cwd=folder) as (_, url):
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d+/chsk", url)
        assert handshake(url) == HANDSHAKE


def test_host_port_and_path(folder: Path) -> None:
    port = free_port()
    options = ["--host=localhost", f"--port={port}", "--path=/events"]
    with serving("app:chsk", *options, cwd=folder) as (_, url):
        assert url.endswith(f":{port}/events")
        assert handshake(url) == HANDSHAKE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_in_order(folder: Path, number: signal.Signals) -> None:
    with serving("app:chsk", cwd=folder) as (program, url):
        handshake(url)
        program.send_signal(number)
        out, err = program.communicate()
    assert (program.returncode, out) == (0, "")
    assert "Traceback" not in err


def test_a_second_signal_ends_it_at_once(folder: Path) -> None:
    with serving("app:chsk", cwd=folder) as (program, url):
        port = int(url.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(UPGRADE)
            read_to(sock, b"chsk/handshake")
            program.send_signal(signal.SIGTERM)
            read_to(sock, b"\x03\xf4")  # 1012: it stops, and waits 10 s for our close frame
            program.send_signal(signal.SIGTERM)
            program.communicate()
    assert program.returncode == 0


def read_to(sock: socket.socket, mark: bytes) -> None:
    read = b""
    while mark not in read:
        more = sock.recv(4096)
        assert more, read
        read += more


def test_unix_socket_is_made_and_removed(folder: Path) -> None:
    with serving("app:chsk", "--uds", "chsk.sock", cwd=folder) as (program, url):
        assert url == "http+unix://chsk.sock:/chsk"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(folder / "chsk.sock"))
            sock.sendall(GET)
            read_to(sock, HANDSHAKE.encode())
        program.send_signal(signal.SIGTERM)
        program.communicate()
    assert not (folder / "chsk.sock").exists()


@pytest.mark.parametrize("is_unix", [False, True])
def test_an_inherited_socket_is_served(folder: Path, is_unix: bool) -> None:
    family = socket.AF_UNIX if is_unix else socket.AF_INET
    with socket.socket(family) as bound:
        bound.bind(str(folder / "s") if is_unix else ("127.0.0.1", 0))
        fd = bound.fileno()
        with serving("app:chsk", f"--fd={fd}", cwd=folder, pass_fds=[fd]):
            with socket.socket(family) as sock:
                sock.connect(bound.getsockname())
                sock.sendall(GET)
                read_to(sock, HANDSHAKE.encode())


def test_tls(folder: Path) -> None:
    options = [f"--ssl-certfile={TLS / 'cert.pem'}", f"--ssl-keyfile={TLS / 'key.pem'}"]
    trust = ssl.create_default_context(cafile=str(TLS / "cert.pem"))
    with serving("app:chsk", *options, cwd=folder) as (_, url):
        assert url.startswith("https://127.0.0.1:")
        assert handshake(url, trust) == HANDSHAKE


@pytest.fixture
def locked(tmp_path: Path) -> str:
    """A file with a certificate and its key, locked by `s3cret`."""
    key = ["openssl", "pkey", "-aes128", "-passout", "pass:s3cret", "-in", str(TLS / "key.pem")]
    try:
        made = subprocess.run(key, capture_output=True, check=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl to lock a key with")
    (tmp_path / "both.pem").write_text((TLS / "cert.pem").read_text() + made.stdout)
    return str(tmp_path / "both.pem")


def test_a_locked_key_is_opened_by_its_password(folder: Path, locked: str) -> None:
    options = ["--ssl-certfile", locked, "--ssl-keyfile-password"]
    trust = ssl.create_default_context(cafile=str(TLS / "cert.pem"))
    with serving("app:chsk", *options, "s3cret", cwd=folder) as (_, url):
        assert handshake(url, trust) == HANDSHAKE
    status, out, err = done("serve", "app:chsk", *options, "wr0ng", cwd=folder)
    assert (status, out) == (3, "")
    assert err.startswith(f"chansock serve: expected a certificate and its key in {locked!r}, got ")
    assert "wr0ng" not in err


def test_factory_and_fallback(folder: Path) -> None:
    options = ["--factory", "--fallback", "app:page"]
    with serving("app:make", *options, cwd=folder) as (_, url):
        assert handshake(url) == '[[:chsk/handshake [:sente/nil-uid nil "made"]] nil]'
        with urllib.request.urlopen(url.removesuffix("chsk")) as answer:
            assert answer.read() == b"a page"


def test_an_application_of_another_folder(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    (inner / "far.py").write_text(APP)
    with serving("far:chsk", "--app-dir", "inner", cwd=folder) as (_, url):
        assert handshake(url) == HANDSHAKE


def test_the_log_is_on_stderr_from_its_level_on_and_tells_no_secret(folder: Path) -> None:
    told = {}
    for level in ("debug", "warning"):
        with serving("app:chsk", f"--log-level={level}", cwd=folder) as (program, url):
            with pytest.raises(urllib.error.HTTPError):
                handshake(url + "/nosuch?token=s3cret")
            urllib.request.urlopen(f"{url}?client-id=a&handshake%3F=1&token=s3cret").close()
            program.send_signal(signal.SIGTERM)
            told[level] = program.communicate()[1]
    assert re.match(
        r"\d{4}-\d\d-\d\d [\d:,]+ INFO     chansock\.server: listening url=http", told["debug"]
    )
    assert "s3cret" not in told["debug"]
    assert told["warning"] == ""


FAULTS = {
    "nosuch:chsk": "could not import module 'nosuch': no module named 'nosuch' in {folder}",
    "app.sub:chsk": "could not import module 'app.sub': no module named 'app.sub' in {folder}",
    "app:nosuch.x": "attribute 'nosuch.x' not found in module 'app'",
    "app": "expected an import string like 'app:chsk', got 'app'",
    "app:": "expected an import string like 'app:chsk', got 'app:'",
    ":chsk": "expected an import string like 'app:chsk', got ':chsk'",
    "app:number": "expected a ChannelSocket at 'app:number', got a int",
    "app:chansock.ChannelSocket": (
        "expected a ChannelSocket at 'app:chansock.ChannelSocket', got the class ChannelSocket"
    ),
    "app:make": (
        "expected a ChannelSocket at 'app:make', got the function make: "
        "a function that makes one needs --factory"
    ),
    "app:chsk --factory": "expected a function at 'app:chsk' (--factory), got a ChannelSocket",
    "app:page --factory": None,  # raises: it takes a request
    "app:chsk --fallback app:number": "--fallback: expected a function at 'app:number', got a int",
    "app:chsk --fd 77": "--fd: expected a socket at 77, got bad file descriptor",
    "app:chsk --uds no/such.sock": ("could not listen on no/such.sock: no such file or directory"),
    "app:chsk --ssl-certfile no.pem": (
        "expected a certificate and its key in 'no.pem', got no such file or directory"
    ),
    "app:chsk --reload --reload-dir nosuch": "--reload-dir: expected a folder, got 'nosuch'",
}


@pytest.mark.parametrize("arguments", FAULTS)
def test_what_cannot_be_served_is_one_sentence_and_status_3(folder: Path, arguments: str) -> None:
    status, out, err = done("serve", *arguments.split(), cwd=folder)
    text = FAULTS[arguments]
    if text is None:
        assert err.startswith("Traceback")
        assert status == 1
        return
    assert (status, out, err) == (3, "", f"chansock serve: {text.format(folder=folder)}\n")


@pytest.mark.parametrize("reload", [(), ("--reload",)])
def test_a_port_that_is_taken_is_one_sentence_and_status_3(
    folder: Path, reload: tuple[str, ...]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, out, err = done("serve", "app:chsk", f"--port={port}", *reload, cwd=folder)
    assert (status, out) == (3, "")
    *logged, last = err.splitlines()
    assert last.startswith(f"chansock serve: could not listen on 127.0.0.1 port {port}: ")
    assert "address already in use" in last
    assert logged == []


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("import nosuch_library", "ModuleNotFoundError: No module named 'nosuch_library'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        (
            "import chansock; chansock.Config(max_inbox_events=0)",
            "chansock.errors.ConfigError: max_inbox_events: ",
        ),
    ],
)
def test_what_the_application_raises_is_its_traceback(folder: Path, text: str, last: str) -> None:
    (folder / "broken.py").write_text(text)
    status, _, err = done("serve", "broken:chsk", cwd=folder)
    assert status == 1
    assert err.splitlines()[-1].startswith(last)
    assert 'broken.py", line 1' in err


USAGE = {
    "--workers 0": "argument --workers: expected a number of at least 1, got '0'",
    "--workers x": "argument --workers: expected a number of at least 1, got 'x'",
    "--workers 2 --reload": (
        "--reload: expected one worker, which is enough for development, got --workers"
    ),
    "--port 65536": "argument --port: expected a port from 0 to 65535, got '65536'",
    "--fd x": "argument --fd: expected the number of a descriptor, got 'x'",
    "--uds a --fd 3": "argument --fd: not allowed with argument --uds",
    "--uds a --port 1": "--uds: expected no --host and --port beside it, got one",
    "--fd 3 --host a": "--fd: expected no --host and --port beside it, got one",
    "--ssl-keyfile a": "--ssl-keyfile: expected --ssl-certfile beside it, got none",
    "--ssl-keyfile-password a": (
        "--ssl-keyfile-password: expected --ssl-certfile beside it, got none"
    ),
    "--reload-dir .": "--reload-dir: expected --reload beside it, got none",
}


@pytest.mark.parametrize("arguments", USAGE)
def test_wrong_usage_is_told_with_status_2(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = usage_error(capsys, "serve", "app:chsk", *arguments.split())
    assert told == f"chansock serve: error: {USAGE[arguments]}"


def test_a_path_that_is_none_is_wrong_usage(folder: Path) -> None:
    status, out, err = done("serve", "app:chsk", "--path=chsk", cwd=folder)
    assert (status, out) == (2, "")
    assert err.endswith(" error: --path: expected a path like '/chsk', got 'chsk'\n")


# --reload


@pytest.fixture
def reloading(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    path = folder / "app.py"
    with serving("app:make", "--factory", "--reload", cwd=folder) as (program, url):
        yield program, url, path


def test_a_changed_file_starts_the_server_anew_at_the_same_port(
    reloading: tuple[subprocess.Popen[str], str, Path],
) -> None:
    program, url, path = reloading
    assert '"made"' in handshake(url)
    path.write_text(APP.replace('"made"', '"made anew"'))
    assert served_url(program) == url
    assert '"made anew"' in handshake(url)


def test_a_client_comes_back_by_itself_after_a_reload(
    reloading: tuple[subprocess.Popen[str], str, Path],
) -> None:
    program, url, path = reloading
    with started("connect", url, stdin=subprocess.PIPE) as client:
        assert client.stderr is not None
        assert client.stderr.readline().startswith("* connected")
        path.write_text(APP.replace('"made"', '"made anew"'))
        served_url(program)
        for line in client.stderr:
            if line.startswith("* connected"):
                break
        assert '"made anew"' in line


def test_a_file_that_is_broken_waits_for_the_next_change(
    reloading: tuple[subprocess.Popen[str], str, Path],
) -> None:
    program, url, path = reloading
    assert program.stderr is not None
    path.write_text(APP + "\n1 / 0\n")
    for line in program.stderr:
        if "reload_waiting exit_status=1" in line:
            break
    path.write_text(APP.replace('"made"', '"mended"'))
    assert served_url(program) == url
    assert '"mended"' in handshake(url)


def test_new_and_removed_files_count_and_others_do_not(
    reloading: tuple[subprocess.Popen[str], str, Path],
) -> None:
    program, url, path = reloading
    assert program.stderr is not None
    (path.parent / "notes.txt").write_text("no source")
    (path.parent / ".hidden").mkdir()
    (path.parent / ".hidden" / "a.py").write_text("")
    (path.parent / "new.py").write_text("")
    assert served_url(program) == url
    (path.parent / "new.py").unlink()
    assert served_url(program) == url
    program.send_signal(signal.SIGTERM)
    told = program.communicate()[1]
    assert re.findall(r"reload_restarting changed='(.*)'", told) == ["./new.py"] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_both_processes_in_order(
    reloading: tuple[subprocess.Popen[str], str, Path], number: signal.Signals
) -> None:
    program, url, _ = reloading
    handshake(url)
    program.send_signal(number)
    out, err = program.communicate()  # to the end of both: the server has the pipes as well
    assert (program.returncode, out) == (0, "")
    assert "Traceback" not in err
    with pytest.raises(OSError):
        handshake(url)


def test_a_watcher_that_is_killed_leaves_no_server(
    reloading: tuple[subprocess.Popen[str], str, Path],
) -> None:
    program, url, _ = reloading
    handshake(url)
    program.kill()
    program.communicate(timeout=60)  # to the end of both
    with pytest.raises(OSError):
        handshake(url)


def test_ctrl_c_in_a_terminal_stops_both_in_order_once(folder: Path) -> None:
    """Both processes get the terminal's SIGINT; the server must not take it for two."""
    arguments = ("serve", "app:chsk", "--port=0", "--reload")
    with in_terminal(*arguments, cwd=folder) as (program, terminal):
        terminal.read_to("chansock: serving http://127.0.0.1:")
        port = int(terminal.read_to("/chsk").split("/")[0])
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(UPGRADE)
            read_to(sock, b"chsk/handshake")
            terminal.type("\x03")
            read_to(sock, b"\x03\xf4")
            # Still there: an end at once would have cut the connection off.
            sock.sendall(b"\x88\x82\0\0\0\0\x03\xf4")
            assert sock.recv(1) == b""
        shown = terminal.rest()
        program.wait()
    assert program.returncode == 0
    assert "Traceback" not in shown


def test_an_inherited_socket_outlives_a_reload(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        fd = bound.fileno()
        port = bound.getsockname()[1]
        with serving("app:chsk", f"--fd={fd}", "--reload", cwd=folder, pass_fds=[fd]) as (
            program,
            url,
        ):
            assert url == f"http://127.0.0.1:{port}/chsk"
            (folder / "new.py").write_text("")
            assert served_url(program) == url
            assert handshake(url) == HANDSHAKE


def test_a_unix_socket_is_made_anew_by_a_reload(folder: Path) -> None:
    with serving("app:chsk", "--uds=s", "--reload", cwd=folder) as (program, url):
        (folder / "new.py").write_text("")
        assert served_url(program) == url
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(folder / "s"))
            sock.sendall(GET)
            read_to(sock, HANDSHAKE.encode())
