"""README's two programs, run against each other as two processes on a free port.

Run as a program by ci/wheel.sh, with the interpreter that has the wheel; imported by
test_readme.py. Only the standard library is used, and nothing of chansock itself.
"""

from __future__ import annotations

import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PORT = "8000"  # as README has it
START_LIMIT = 120.0
RUN_LIMIT = 120.0
PORTS = range(20_000, 32_000)  # below those of Linux's connections, above those of most services


def programs(readme: str) -> dict[str, str]:
    """Map `server.py` and `client.py` to their text: blocks that open with their name."""
    return dict(re.findall(r"^```python\n(?=# (\w+\.py)\n)(.*?)^```$", readme, re.M | re.S))


def run_pair(
    readme: Path, python: str = sys.executable, client: str = "client.py"
) -> tuple[str, int]:
    """Return what the client printed, and the server's exit status after SIGTERM.

    Raises CalledProcessError, TimeoutExpired or TimeoutError if either does not do its part.
    """
    texts = programs(readme.read_text(encoding="utf-8"))
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            Path(folder, name).write_text(text.replace(PORT, str(port)), encoding="utf-8")
        server = subprocess.Popen([python, "server.py"], cwd=folder)
        try:
            wait_for(port, server)
            done = subprocess.run(
                [python, client],
                cwd=folder,
                stdout=subprocess.PIPE,
                text=True,
                timeout=RUN_LIMIT,
                check=True,
            )
            server.send_signal(signal.SIGTERM)
            return done.stdout, server.wait(RUN_LIMIT)
        finally:
            server.kill()
            server.wait()


def free_port() -> int:
    """Return a TCP port that nothing uses, and that no other call returns, in any process.

    It is none of those that the system picks by itself, and reserved until this process ends: by
    a UDP socket on the port of the same number.
    """
    for port in random.sample(PORTS, len(PORTS)):
        reserved = socket.socket(type=socket.SOCK_DGRAM)
        try:
            reserved.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            reserved.close()
            continue
        reserved.detach()  # open until this process ends
        return port
    raise OSError(f"expected a free port in {PORTS}, got none")


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    """Return as soon as something listens on the port."""
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise subprocess.CalledProcessError(server.returncode, server.args)
        try:
            socket.create_connection(("127.0.0.1", port), timeout=60).close()
            return
        except OSError:
            time.sleep(0.02)  # another process starts up: there is nothing to wait on
    raise TimeoutError(f"expected a server on port {port} within {START_LIMIT} s, got none")


if __name__ == "__main__":
    printed, status = run_pair(Path(sys.argv[1]))
    print(printed, end="")
    sys.exit(status)
