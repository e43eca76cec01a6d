"""Ways to the engine for Redis and Valkey besides a plain address: TLS, and Sentinels.

Each on real servers. What happens when a server fails is in test_redis_faults.py.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from heard import Heard, kept, until
from raw_listener import TLS
from redis_server import KINDS, LIMIT, Server, free_port, program

from chansock.backplanes.redis import Redis
from chansock.errors import BackplaneError

Drive = Callable[[Awaitable[Any]], Any]
Caplog = pytest.LogCaptureFixture
SERVICE = "chat"


async def opened(url: str, **options: Any) -> tuple[Redis, Heard]:
    engine, heard = Redis(url, **options), Heard()
    await engine.open(heard, keep_events=1000, keep_seconds=60.0)
    engine.subscribe("a")
    return engine, heard


async def down(url: str, caplog: Caplog) -> None:
    """Wait until an engine that cannot be reached says so; it goes on trying."""
    engine = Redis(url)
    opening = asyncio.ensure_future(engine.open(Heard(), keep_events=1, keep_seconds=1.0))
    await until(lambda: "backplane_down" in caplog.text)
    assert not opening.done()
    opening.cancel()
    await engine.close(0.0)


async def sent(engine: Redis, first: int, last: int) -> None:
    for number in range(first, last):
        engine.append(kept("a", str(number)))
        await asyncio.sleep(0)
    await engine.stored()


# -- TLS


@contextmanager
def tls_server(kind: str, **config: Any) -> Iterator[tuple[Server, str]]:
    """A server that takes TLS alone; and its URL."""
    port = free_port()
    files = {"tls_cert_file": TLS / "cert.pem", "tls_key_file": TLS / "key.pem"}
    clients = {"tls_ca_cert_file": TLS / "cert.pem", "tls_auth_clients": "no"}
    with Server(kind, tls_port=port, **files, **{**clients, **config}) as server:
        yield server, f"rediss://localhost:{port}/0"


def test_events_pass_over_tls(drive: Drive) -> None:
    async def main(url: str) -> None:
        for address in (
            f"{url}?ssl_ca_certs={TLS / 'cert.pem'}",
            f"{url.replace('rediss', 'valkeys')}?ssl_ca_certs={TLS / 'cert.pem'}",
        ):
            engine, heard = await opened(address)
            await sent(engine, 0, 10)
            await until(lambda heard=heard: len(heard.entries) == 10)
            await engine.close(1.0)

    with tls_server("redis") as (_, url):
        drive(main(url))


def test_a_client_certificate_is_shown_to_a_server_that_asks_for_one(drive: Drive) -> None:
    ca = {"ssl_ca_certs": str(TLS / "cert.pem")}
    own = {"ssl_certfile": str(TLS / "cert.pem"), "ssl_keyfile": str(TLS / "key.pem")}

    async def main(url: str) -> None:
        engine, heard = await opened(url, **ca, **own)
        await sent(engine, 0, 1)
        await until(lambda: heard.texts() == ["0"])
        await engine.close(1.0)

    with tls_server("redis", tls_auth_clients="yes") as (_, url):
        drive(main(url))


def test_a_certificate_that_is_not_trusted_is_said_at_open(drive: Drive) -> None:
    with tls_server("redis") as (_, url), pytest.raises(BackplaneError) as caught:
        drive(opened(url))
    assert "certificate verify failed" in str(caught.value)
    assert "ssl_ca_certs" in str(caught.value)


def test_tls_with_a_port_that_has_none_is_said_in_the_log(drive: Drive, caplog: Caplog) -> None:
    with Server(port=free_port()) as server:
        url = f"rediss://localhost:{server.config['port']}/0"
        drive(down(url, caplog))
    assert "no TLS connection within 4 s: check the scheme (rediss://)" in caplog.text


# -- Sentinels


class Sentinel:
    """One Sentinel that watches one master, and decides alone that it is down."""

    def __init__(self, folder: Path, kind: str, master: int) -> None:
        self.port = free_port()
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\ndir {folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {master} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
            f"sentinel failover-timeout {SERVICE} 5000\n"
        )
        self.log = folder / "log"
        with self.log.open("wb") as log:
            words = [program(kind), str(config), "--sentinel"]
            self.process = subprocess.Popen(words, stdout=log, stderr=log)

    def __enter__(self) -> Sentinel:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(LIMIT)

    def knows_a_replica(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with redis.Redis(port=self.port, decode_responses=True, socket_timeout=5) as client:
                return int(client.sentinel_master(SERVICE)["num-slaves"]) == 1
        except redis.RedisError:
            return False


@pytest.mark.full  # a Sentinel looks for replicas every 10 seconds
@pytest.mark.parametrize("kind", KINDS)
def test_after_a_failover_by_sentinel_the_new_master_is_used(
    kind: str, drive: Drive, tmp_path: Path
) -> None:
    async def main(sentinel: Sentinel, master: Server, replica: Server) -> None:
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/{SERVICE}/0"
        found = [await opened(url), await opened(url)]
        one, other = found[0][0], found[1][0]
        await sent(one, 0, 30)
        await until(lambda: replica.ask("DBSIZE") == master.ask("DBSIZE"))
        await asyncio.to_thread(master.kill)
        await asyncio.wait_for(sent(other, 30, 60), LIMIT)
        assert replica.ask("ROLE")[0] == "master"
        for engine, heard in found:
            await until(lambda heard=heard: len(heard.entries) == 60)
            assert heard.texts() == [str(number) for number in range(60)]
            assert heard.lost == []
            await engine.close(1.0)

    ports = free_port(), free_port()
    with Server(kind, port=ports[0]) as master:
        with Server(kind, port=ports[1], replicaof=f"127.0.0.1 {ports[0]}") as replica:
            replica.wait_for(lambda: replica.ask("ROLE")[3] == "connected", "sync")
            with Sentinel(tmp_path, kind, ports[0]) as sentinel:
                end = time.monotonic() + LIMIT
                while not sentinel.knows_a_replica():
                    assert time.monotonic() < end, sentinel.log.read_text()
                    time.sleep(0.05)
                drive(main(sentinel, master, replica))


def test_sentinels_that_do_not_answer_are_said_in_the_log(drive: Drive, caplog: Caplog) -> None:
    drive(down(f"redis+sentinel://127.0.0.1:{free_port()}/{SERVICE}", caplog))
    assert f"no Sentinel knows the master of {SERVICE}" in caplog.text
