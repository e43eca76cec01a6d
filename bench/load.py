"""The load generator as the benches hold it: load.c, what it is told, and what it reports.

Here are the bytes of a frame and of a browser's upgrade request. Nothing here knows which
server answers, nor how long a bench runs.
"""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MASK = b"\x37\xfa\x21\x3d"  # the one of RFC 6455 section 5.7
TEXT, BINARY = 0x81, 0x82
HEAD = """GET {path} HTTP/1.1\r
Host: 127.0.0.1:{port}\r
Connection: Upgrade\r
Pragma: no-cache\r
Cache-Control: no-cache\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
Chrome/140.0.0.0 Safari/537.36\r
Upgrade: websocket\r
Origin: http://127.0.0.1:{port}\r
Sec-WebSocket-Version: 13\r
Accept-Encoding: gzip, deflate, br, zstd\r
Accept-Language: en-GB,en;q=0.9,de;q=0.8\r
Cookie: theme=dark; session=eyJ1aWQiOiAiYW5uYSJ9.aPzXtQ.k3V0c2lnbmF0dXJlb2ZzZXNzaW9u\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
\r
"""  # a browser offers permessage-deflate, too; here nobody compresses
BARE_HEAD = """GET {path} HTTP/1.1\r
Host: 127.0.0.1:{port}\r
Connection: Upgrade\r
Upgrade: websocket\r
Sec-WebSocket-Version: 13\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
\r
"""
SPARE = 200  # descriptors of a process besides its clients


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server is spoken to: the bytes of one request and of what it brings back."""

    request: bytes = b""
    answer: bytes = b""
    path: str = "/"
    greetings: int = 0
    hello: bytes = b""
    server: str = ""  # its name, where that is not the implementation's
    events: int = 1  # in one answer: times are for each
    head: str = HEAD


@dataclass(frozen=True, slots=True)
class Round:
    """What load.c prints of one round; all but `answers` are seconds."""

    answers: int
    wall: float
    cpu: float  # of the server
    own: float  # CPU of the generator
    p50: float
    p99: float
    p999: float
    others: tuple[float, ...] = ()  # CPU of the other processes that were named


class Load:
    """A generator that is connected to its server."""

    def __init__(
        self, command: Sequence[str], dialect: Dialect, *, port: int, pid: int, clients: int,
        in_flight: int, mode: str, folder: Path, others: Sequence[int] = (),
    ) -> None:  # fmt: skip
        allow_descriptors(clients + SPARE)
        head = dialect.head.format(path=dialect.path, port=port).encode()
        parts = {"head": head, "hello": dialect.hello}
        parts |= {"request": dialect.request, "answer": dialect.answer}
        folder.mkdir()
        for name, content in parts.items():
            (folder / name).write_bytes(content)
        pids = ",".join(map(str, (pid, *others)))
        numbers = [str(port), str(clients), str(in_flight), mode, pids, str(dialect.greetings)]
        self._fields = 7 + len(others)
        self._process = subprocess.Popen(
            [*command, *numbers, *(str(folder / name) for name in parts)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="backslashreplace",
        )  # fmt: skip
        if self._read() != ["ready"]:
            raise RuntimeError(f"the server did not take the clients: {self.stop()}")

    def run(self, requests: int) -> Round:
        """Raises RuntimeError if an answer was wrong or missing."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{requests}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and says why
        fields = self._read()
        if len(fields) != self._fields:
            raise RuntimeError(f"the load generator stopped: {self.stop()}")
        seconds = [float(field) for field in fields[1:]]
        return Round(int(fields[0]), *seconds[:6], tuple(seconds[6:]))

    def stop(self) -> str:
        """End it; give what it said of a fault."""
        self._process.kill()
        _, said = self._process.communicate()
        return said.strip() or f"ended with {self._process.returncode}"

    def _read(self) -> list[str]:
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()


def allow_descriptors(count: int) -> None:
    """Allow this process, and those that it starts, to open so many sockets.

    Raises RuntimeError if the system does not let them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise RuntimeError(
            f"expected a hard limit of at least {count:,} open files, got {hard:,}: "
            f"raise it by `ulimit -Hn {count}` as root, or LimitNOFILE of systemd"
        )
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def frame(opcode: int, data: bytes, *, masked: bool = False) -> bytes:
    """One whole message as RFC 6455 section 5.2 writes it; `opcode` with FIN."""
    if len(data) < 126:
        size = bytes([len(data)])
    elif len(data) < 65536:
        size = b"\x7e" + len(data).to_bytes(2, "big")
    else:
        size = b"\x7f" + len(data).to_bytes(8, "big")
    if not masked:
        return bytes([opcode]) + size + data
    key = (MASK * (len(data) // 4 + 1))[: len(data)]
    body = (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(len(data), "big")
    return bytes([opcode, size[0] | 0x80]) + size[1:] + MASK + body


def text_frame(payload: str, *, masked: bool = False) -> bytes:
    return frame(TEXT, payload.encode(), masked=masked)
