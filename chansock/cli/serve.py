"""`chansock serve app:chsk`: a channel on a port of its own, in uvicorn's words.

Serving itself, signals and the stop are `chansock.run`'s; here its arguments are made. With
`--workers` this process loads no application: each worker is this command again.
"""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import ssl
import sys
from contextlib import closing
from functools import partial
from typing import Any, Final

from chansock import server
from chansock.cli import application, reload, status
from chansock.cli.status import NotStarted, reason
from chansock.errors import ConfigError
from chansock.workers import supervisor
from chansock.workers.child import Child, spawn
from chansock.workers.listen import BACKLOG, listening
from chansock.workers.private_engine import PrivateEngine
from chansock.workers.report import Report

__all__ = ["add", "run"]

HOST: Final = "127.0.0.1"
PORT: Final = 8000
LEVELS: Final = ("critical", "error", "warning", "info", "debug")


def add(commands: Any) -> None:
    """Add the command to a parser's."""
    parser = commands.add_parser(
        "serve",
        help="serve a channel",
        description="Serve a channel: WebSocket and Ajax, and the browser's client beside them.",
        epilog=(
            "exit status: 0 stopped by a signal; 1 the application raised; 2 wrong usage; "
            "3 could not start"
        ),
        allow_abbrev=False,
    )
    parser.add_argument("app", metavar="APP", help="where the ChannelSocket is: app:chsk")
    parser.add_argument("--host", help=f"listen on this host (default: {HOST})")
    parser.add_argument(
        "--port", type=_port, help=f"listen on this port; 0 takes a free one (default: {PORT})"
    )
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--uds", metavar="PATH", help="listen on a Unix socket instead")
    other.add_argument("--fd", type=_fd, help="listen on the socket of this descriptor instead")
    parser.add_argument("--path", default="/chsk", help="the channel's path (default: /chsk)")
    parser.add_argument(
        "--fallback", metavar="APP", help="what answers every other path: app:page (default: 404)"
    )
    parser.add_argument("--ssl-certfile", metavar="FILE", help="certificate, in PEM, for TLS")
    parser.add_argument("--ssl-keyfile", metavar="FILE", help="its key, if not in the same file")
    parser.add_argument("--ssl-keyfile-password", metavar="TEXT", help="what the key is locked by")
    parser.add_argument(
        "--reload", action="store_true", help="start anew when a .py file changes, for development"
    )
    parser.add_argument(
        "--reload-dir",
        metavar="DIR",
        action="append",
        help="watch this folder; may be repeated (default: that of --app-dir)",
    )
    parser.add_argument(
        "--log-level", choices=LEVELS, default="info", help="what is logged, on stderr"
    )
    parser.add_argument(
        "--app-dir", metavar="DIR", default=".", help="import APP from here (default: here)"
    )
    parser.add_argument(
        "--factory", action="store_true", help="APP is a function that makes the ChannelSocket"
    )
    parser.add_argument(
        "--workers",
        type=_workers,
        default=1,
        metavar="N",
        help="serve by so many processes (default: 1); SIGHUP restarts one after the other",
    )
    # What the parent of several tells each of them: where to report, and its engine's address.
    parser.add_argument("--report", nargs=2, metavar=("FD", "URL"), help=argparse.SUPPRESS)
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """Serve until a signal; give the status to exit with."""
    _check(options)
    _set_up_log(options.log_level)
    try:
        if options.reload:
            return _reload(options)
        if options.workers > 1:
            return _supervise(options)
        context = _context(options)
        chsk = application.load_channel(
            options.app, app_dir=options.app_dir, is_factory=options.factory
        )
        fallback = None
        if options.fallback is not None:
            fallback = application.load_fallback(options.fallback, app_dir=options.app_dir)
        sock = None if options.fd is None else _inherited(options.fd)
    except NotStarted as error:
        return _not_started(str(error))
    try:
        if options.report is not None:
            assert sock is not None
            report = Report(int(options.report[0]), options.report[1])
            server.run_worker(
                chsk, report, sock=sock, path=options.path, ssl=context, fallback=fallback
            )
            return status.OK
        server.run(
            chsk,
            options.host or HOST,
            PORT if options.port is None else options.port,
            path=options.path,
            ssl=context,
            sock=sock,
            unix=options.uds,
            fallback=fallback,
        )
    except OSError as error:
        return _not_started(f"could not listen on {_place(options)}: {reason(error)}")
    except ConfigError as error:
        options.parser.error(f"--{error}")  # of the path, by its name
    return status.OK


def _check(options: argparse.Namespace) -> None:
    """Refuse what could have no effect."""
    complain = options.parser.error
    instead = "--uds" if options.uds is not None else "--fd" if options.fd is not None else None
    if instead is not None and (options.host is not None or options.port is not None):
        complain(f"{instead}: expected no --host and --port beside it, got one")
    if options.ssl_certfile is None and options.ssl_keyfile is not None:
        complain("--ssl-keyfile: expected --ssl-certfile beside it, got none")
    if options.ssl_certfile is None and options.ssl_keyfile_password is not None:
        complain("--ssl-keyfile-password: expected --ssl-certfile beside it, got none")
    if options.reload_dir is not None and not options.reload:
        complain("--reload-dir: expected --reload beside it, got none")
    if options.reload and not reload.IS_AVAILABLE:
        complain("--reload: expected a system that tells who sent a signal (Linux), got another")
    if options.workers > 1 and options.reload:
        complain("--reload: expected one worker, which is enough for development, got --workers")
    if options.workers > 1 and not supervisor.IS_AVAILABLE:
        complain(f"--workers: {supervisor.NOT_AVAILABLE}")


def _supervise(options: argparse.Namespace) -> int:
    """Serve by several processes, each of which loads the application anew."""
    _context(options)  # what is wrong with the certificate is said once
    sock = None if options.fd is None else _inherited(options.fd)
    host, port = options.host or HOST, PORT if options.port is None else options.port
    number = options.workers
    try:
        with (
            listening(number, host, port, sock=sock, unix=options.uds) as sockets,
            closing(PrivateEngine()) as engine,
        ):

            def start(place: int, fd: int) -> Child:
                own = sockets[place].fileno()
                command = [*_command(options), f"--fd={own}", "--report", str(fd), engine.url]
                return spawn(command, signal.SIGTERM, pass_fds=(own, fd))

            return supervisor.supervise(start, number, engine, partial(server.show, workers=number))
    except OSError as error:
        return _not_started(f"could not listen on {_place(options)}: {reason(error)}")


def _context(options: argparse.Namespace) -> ssl.SSLContext | None:
    if options.ssl_certfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = options.ssl_certfile, options.ssl_keyfile
    try:
        context.load_cert_chain(*files, password=options.ssl_keyfile_password)
    except OSError as error:
        shown = " and ".join(repr(name) for name in files if name is not None)
        found = reason(error)
        if isinstance(error, ssl.SSLError):
            found = f"what OpenSSL cannot take: {error.reason or error.strerror}"
        raise NotStarted(f"expected a certificate and its key in {shown}, got {found}") from None
    return context


def _inherited(fd: int) -> socket.socket:
    """Take over a socket that is bound. Raises NotStarted if it is none."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise NotStarted(f"--fd: expected a socket at {fd}, got {reason(error)}") from None
    if sock.type != socket.SOCK_STREAM:
        sock.detach()
        raise NotStarted(f"--fd: expected a stream socket at {fd}, got another kind")
    return sock


def _reload(options: argparse.Namespace) -> int:
    """Watch, and serve in a process of its own; its listening socket outlives it."""
    folders = options.reload_dir or [options.app_dir]
    for folder in folders:
        if not reload.is_folder(folder):
            raise NotStarted(f"--reload-dir: expected a folder, got {folder!r}")
    command = _command(options)
    if options.uds is not None:
        return reload.watch(
            [*command, *_option(options, "uds")], folders
        )  # each process makes it anew
    if options.fd is not None:
        return reload.watch([*command, *_option(options, "fd")], folders, fd=options.fd)
    host = options.host or HOST
    port = PORT if options.port is None else options.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        return _not_started(f"could not listen on {_place(options)}: {reason(error)}")
    with sock:
        return reload.watch([*command, f"--fd={sock.fileno()}"], folders, fd=sock.fileno())


def _command(options: argparse.Namespace) -> list[str]:
    """Return the command of one process that serves the same, without where it listens."""
    command = [sys.executable, "-m", "chansock", "serve", options.app]
    for name in ("path", "fallback", "log_level", "app_dir"):
        command += _option(options, name)
    for name in ("ssl_certfile", "ssl_keyfile", "ssl_keyfile_password"):
        command += _option(options, name)
    if options.factory:
        command.append("--factory")
    return command


def _option(options: argparse.Namespace, name: str) -> list[str]:
    value = getattr(options, name)
    return [] if value is None else [f"--{name.replace('_', '-')}={value}"]


def _place(options: argparse.Namespace) -> str:
    if options.uds is not None:
        return str(options.uds)
    if options.fd is not None:
        return f"descriptor {options.fd}"
    return f"{options.host or HOST} port {PORT if options.port is None else options.port}"


def _not_started(text: str) -> int:
    status.complain("serve", text)
    return status.NOT_STARTED


def _set_up_log(level: str) -> None:
    """Have chansock's records written to stderr; the application's are its own affair."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-8s %(name)s: %(message)s"))
    log = logging.getLogger("chansock")
    log.addHandler(handler)
    log.propagate = False  # an application that sets up the root logger would show them twice
    log.setLevel(level.upper())


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")


def _workers(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")


def _fd(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(f"expected the number of a descriptor, got {text!r}")
