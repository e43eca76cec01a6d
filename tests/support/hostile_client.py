"""The innocent client: asks for one answer after the other, and reports its longest wait.

`python hostile_client.py PORT PACKER [PID]` connects, prints `ready`, and waits. A byte on standard
input makes it begin to ask, a thousand times a second at most. At the end of standard input it
prints its longest wait, how many answers it got, and how many of them until then, as JSON:
{"worst": 0.012, "asked": 123, "meanwhile": 123}. It is a process of its own, so that no work of
an attacker counts as a wait. With the PID of the server, time does not count either in which the
server or the client was ready to run and the processors ran other programs.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from contextlib import suppress
from glob import glob
from time import monotonic, sleep

from hostile_peer import UPGRADE, close_code, has_first_frame, masked_frame
from peer import BINARY, TEXT

LEAST = 10  # questions, however short the attack
_MSGPACK = b"\x92\x92\xc7\x06\x00t/echo\xc0\xa6%b"  # [[:t/echo nil] "000001"]
QUESTIONS = {  # an event t/echo with the callback id %b, as each packer writes it
    "EDN": (TEXT, b'[[:t/echo nil] "%b"]'),
    "JSON": (TEXT, b'[["t/echo",null],"%b"]'),
    "Transit": (TEXT, b'[["~:t/echo",null],"%b"]'),
    "Gzip": (BINARY, b'\x00[[:t/echo nil] "%b"]'),
    "MessagePack": (BINARY, _MSGPACK),
}


def question(packer: str, number: int) -> tuple[bytes, bytes]:
    """Return the frame that asks, and what its answer contains."""
    opcode, text = QUESTIONS[packer]
    name = b"%06d" % number
    return masked_frame(0x80 | opcode, text % name), name


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(UPGRADE.format(client="alice", fields="").encode())
    read = b""
    while not has_first_frame(read):
        read += (piece := sock.recv(65536))
        if not piece:
            raise ConnectionError(f"expected a WebSocket, got {read[:80]!r}")
    return sock


def ask(sock: socket.socket, packer: str, number: int) -> bool:
    """Ask, and wait for the answer; False if the server closes first."""
    asks, name = question(packer, number)
    tail = b""
    try:
        sock.sendall(asks)
        while name not in tail:
            piece = sock.recv(1 << 20)
            tail = tail[-256:] + piece
            if not piece or close_code(tail) is not None:
                sock.close()
                return False
    except ConnectionError:
        return False
    return True


def delayed(*pids: int) -> float:
    """Return the seconds that the threads of these processes have waited for a processor."""
    total = 0
    for pid in pids:
        for path in glob(f"/proc/{pid}/task/*/schedstat"):
            with suppress(OSError), open(path) as file:  # a thread may have ended
                total += int(file.read().split()[1])
    return total / 1e9


def main(port: int, packer: str, *pids: int) -> None:
    sock = connect(port)
    assert ask(sock, packer, 0)
    print("ready", flush=True)
    is_over = os.read(0, 1) == b""
    worst, asked, meanwhile, is_closed = 0.0, 0, 0, False
    while not is_closed and not (is_over and asked >= LEAST):
        before, start = delayed(*pids), monotonic()
        is_closed = not ask(sock, packer, asked + 1)
        if not is_closed:
            wait = monotonic() - start
            worst = max(worst, wait - max(0.0, delayed(*pids) - before))
            asked += 1
        if is_over:
            sleep(0.001)
        elif select.select([0], [], [], 0.001)[0]:
            is_over, meanwhile = True, asked
    print(json.dumps({"worst": worst, "asked": asked, "meanwhile": meanwhile}), flush=True)


if __name__ == "__main__":
    pids = [int(pid) for pid in sys.argv[3:]]
    main(int(sys.argv[1]), sys.argv[2], *pids, *([os.getpid()] if pids else []))
