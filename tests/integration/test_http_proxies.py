"""trusted_proxies: whose word counts for client, scheme and host, and where it is used."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import tracemalloc
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import peer
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peer import Answer, Peer, read_answer
from raw import SHAKE, Run, records
from sente_app import make

import chansock
from chansock import Config, ConfigError, Request, Response
from chansock._core.log_limit import LogLimit, call_later
from chansock._edge.forwarded import Proxies

Fields = Sequence[tuple[str, str]]
ALL = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded")
TRUSTED = ("10.0.0.0/8", "192.0.2.7", "2001:db8::/32")
PROXY = ("10.0.0.1", 4000)


def told(
    *fields: tuple[str, str],
    client: tuple[str, int] | None = PROXY,
    is_unix: bool = False,
    trusted: Sequence[str] = TRUSTED,
    headers: Sequence[str] = ALL,
) -> tuple[tuple[str, int] | None, str, str]:
    """Client, scheme and host of a request with these fields."""
    request = Request.from_fields("GET", "/", [("Host", "inner:80"), *fields], client=client)
    limit = LogLimit(time.monotonic, call_later)
    Proxies(trusted, headers, lambda: limit, is_unix=is_unix).apply(request)
    return request.client, request.scheme, request.host


NOTHING = (PROXY, "http", "inner:80")


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("203.0.113.9", ("203.0.113.9", 0)),
        ("203.0.113.9:5000", ("203.0.113.9", 5000)),
        ("2001:db9::1", ("2001:db9::1", 0)),
        ("[2001:DB9::1]", ("2001:db9::1", 0)),
        ("[2001:db9::1]:5000", ("2001:db9::1", 5000)),
        ("::ffff:203.0.113.9", ("203.0.113.9", 0)),
        # the right-most that is no proxy of ours; what stands left of it anybody can write
        ("1.2.3.4, 203.0.113.9", ("203.0.113.9", 0)),
        ("1.2.3.4, 203.0.113.9, 10.0.0.2", ("203.0.113.9", 0)),
        ("1.2.3.4,203.0.113.9 ,10.0.0.2,\t192.0.2.7", ("203.0.113.9", 0)),
        ("203.0.113.9, 2001:db8::5", ("203.0.113.9", 0)),
        ("nonsense, 203.0.113.9", ("203.0.113.9", 0)),
        # all of them are ours: the farthest
        ("10.0.0.3, 10.0.0.2", ("10.0.0.3", 0)),
        # who does not say ends the way
        ("unknown", PROXY),
        ("1.2.3.4, unknown, 10.0.0.2", ("10.0.0.2", 0)),
        ("1.2.3.4, _hidden", PROXY),
        ("", PROXY),
        (", ,", PROXY),
    ],
)
def test_client_is_the_right_most_untrusted_hop(value: str, client: tuple[str, int]) -> None:
    assert told(("X-Forwarded-For", value)) == (client, "http", "inner:80")


def test_several_fields_of_one_name_are_one_list() -> None:
    fields = [("X-Forwarded-For", "1.2.3.4"), ("x-forwarded-for", "203.0.113.9, 10.0.0.2")]
    assert told(*fields)[0] == ("203.0.113.9", 0)


@pytest.mark.parametrize(
    "client", [("203.0.113.5", 1), ("11.0.0.1", 1), ("192.0.2.8", 1), ("::1", 1), None]
)
def test_nobody_else_is_believed(client: tuple[str, int] | None) -> None:
    fields = [
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "for=1.2.3.4;proto=https;host=evil.example"),
    ]
    assert told(*fields, client=client) == (client, "http", "inner:80")


@pytest.mark.parametrize(
    "host",
    [
        "unknown",
        "_hidden",
        "010.0.0.1",
        "10.0.0.1:80",
        "[::1]",
        "10.0.0.1/8",
        "",
        "proxy",
        "²",
        "\0",
    ],
)
def test_a_client_that_is_no_address_is_not_trusted_and_stays_as_it_is(host: str) -> None:
    fields = [("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-Proto", "https")]
    for is_unix in (False, True):
        found = told(*fields, client=(host, 0), is_unix=is_unix)
        assert found == ((host, 0), "http", "inner:80")


def test_a_zone_does_not_hide_an_address() -> None:
    client, _, _ = told(
        ("X-Forwarded-For", "1.2.3.4"), client=("fe80::1%eth0", 1), trusted=("fe80::/10",)
    )
    assert client == ("1.2.3.4", 0)


@pytest.mark.parametrize(
    "hop",
    [
        *("unknown", "Unknown", "unknown:1234", "unknown:_port", "_hidden", "_hidden:80"),
        *("010.0.0.2", "10.0.0.2.", "10.0.0", "256.0.0.1", "proxy.example", "fe80::1%eth0"),
        *("[10.0.0.2]:x", "[::1]:99999", "::1::", "10.0.0.2:", ":80", "[]", "²", "\x80"),
    ],
)
def test_a_hop_that_is_no_address_ends_the_walk(hop: str) -> None:
    chain = ("X-Forwarded-For", f"1.2.3.4, 10.0.0.4, {hop}, 10.0.0.3")
    assert told(chain) == (("10.0.0.3", 0), "http", "inner:80")
    quoted = hop.encode("latin-1", "replace").decode("latin-1")
    elements = f'for=1.2.3.4, for=10.0.0.4, for="{quoted}", for=10.0.0.3'
    assert told(("Forwarded", elements)) == (("10.0.0.3", 0), "http", "inner:80")


@pytest.mark.parametrize("hop", ["unknown:1234", "Unknown", "_hidden:_port"])
def test_a_hop_that_does_not_say_its_address_is_no_fault(
    hop: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert told(("Forwarded", f'for="{hop}"')) == NOTHING
    assert records(caplog, "bad_forwarded") == 0


def test_the_walk_looks_at_32_hops() -> None:
    hops = [f"10.{k >> 8}.{k & 255}.1" for k in range(5000)]
    client = told(("X-Forwarded-For", ", ".join(hops)))[0]
    assert client == (hops[-32], 0)


PIECES = [
    *(
        "10.0.0.1",
        "1.2.3.4",
        "2001:db8::1",
        "[",
        "]",
        ":80",
        ":_p",
        ":99999",
        "unknown",
        "_x",
        "010.",
    ),
    *(
        "for=",
        "proto=",
        "host=",
        "by=",
        "https",
        "http",
        "ftp",
        "a.example",
        "%eth0",
        "=",
        "/",
        "@",
    ),
    *(",", ";", " ", "\t", '"', "\\", '\\"', "\x80", "\xff", "²", "٣", "\0", "\x7f"),
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=12).map(
    lambda pieces: "".join(pieces).encode("utf-8", "replace").decode("latin-1")
)
NAMES = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Host")


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), TEXTS), max_size=4),
    st.sampled_from([PROXY, None]) | st.tuples(TEXTS, st.integers(0, 65535)),
    st.booleans(),
)
def test_no_text_of_a_proxy_raises(
    fields: list[tuple[str, str]], client: tuple[str, int] | None, is_unix: bool
) -> None:
    found, scheme, _ = told(*fields, client=client, is_unix=is_unix)
    assert scheme in ("http", "https")
    if found not in (PROXY, client):
        assert found is not None
        ip_address(found[0])
        assert 0 <= found[1] <= 65535


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    [
        *("1.2.3.4,", "10.0.0.1,", "unknown,", ",", " ", '"', "\\", '\\"', "a=", "a=b;", "a=b,"),
        *('a="b",', "a=\t", "for=_x,", "[", ":", "0"),
    ],
)
@pytest.mark.parametrize("start", ["", 'for="', "for=["])
def test_what_a_proxy_says_is_read_in_time_in_proportion_to_it(piece: str, start: str) -> None:
    def duration(size: int) -> float:
        text = start + piece * (size // len(piece))
        found = []
        for _ in range(3):
            begin = time.thread_time()
            told(("X-Forwarded-For", text), ("X-Forwarded-Host", text))
            told(("Forwarded", text))
            found.append(time.thread_time() - begin)
        return min(found)

    # Quadratic work takes 64 times as long.
    assert duration(160_000) < 24 * max(duration(20_000), 0.0005)


@pytest.mark.parametrize(
    "client", [("10.255.0.1", 1), ("192.0.2.7", 1), ("2001:db8:1::1", 1), ("::ffff:10.0.0.1", 1)]
)
def test_addresses_and_networks_are_believed(client: tuple[str, int]) -> None:
    assert told(("X-Forwarded-For", "1.2.3.4"), client=client)[0] == ("1.2.3.4", 0)


def test_unix_socket_counts_as_a_trusted_proxy() -> None:
    fields = [("X-Forwarded-For", "1.2.3.4, 10.0.0.2"), ("X-Forwarded-Proto", "https")]
    found = told(*fields, client=None, is_unix=True)
    assert found == (("1.2.3.4", 0), "https", "inner:80")


@pytest.mark.parametrize(
    ("value", "scheme"),
    [
        ("https", "https"),
        ("HTTPS", "https"),
        ("http", "http"),
        ("wss", "https"),  # as Traefik says of a WebSocket
        ("ws", "http"),
        ("http, https", "https"),  # the nearest proxy's word
    ],
)
def test_scheme_is_the_proxys(value: str, scheme: str) -> None:
    assert told(("X-Forwarded-Proto", value)) == (PROXY, scheme, "inner:80")


@pytest.mark.parametrize(
    "host", ["chat.example", "chat.example:8443", "[2001:db8::1]:80", "1.2.3.4"]
)
def test_host_is_the_proxys(host: str) -> None:
    assert told(("X-Forwarded-Host", host)) == (PROXY, "http", host)


def test_scheme_and_host_are_those_of_the_hop_that_the_client_spoke_to() -> None:
    chain = ("X-Forwarded-For", "1.2.3.4, 203.0.113.9, 10.0.0.2")
    fields = [chain, ("X-Forwarded-Proto", "ftp, https, http"), ("X-Forwarded-Host", "e, a, b")]
    assert told(*fields) == (("203.0.113.9", 0), "https", "a")
    # one value that every hop passed on
    fields = [chain, ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "a")]
    assert told(*fields) == (("203.0.113.9", 0), "https", "a")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=203.0.113.9", (("203.0.113.9", 0), "http", "inner:80")),
        ("For=203.0.113.9;Proto=HTTPS;by=10.0.0.1", (("203.0.113.9", 0), "https", "inner:80")),
        (
            'for="[2001:db9::1]:47";host="chat.example:1"',
            (("2001:db9::1", 47), "http", "chat.example:1"),
        ),
        # each element says of its own hop alone
        (
            "for=1.2.3.4, for=203.0.113.9;proto=https, for=10.0.0.2;host=a",
            (("203.0.113.9", 0), "https", "inner:80"),
        ),
        ('for=1.2.3.4 , for="203.0.113.9:5" ; host=a', (("203.0.113.9", 5), "http", "a")),
        ('for="_a\\"b,c", for=203.0.113.9', (("203.0.113.9", 0), "http", "inner:80")),
        ("for=unknown;proto=https", (PROXY, "https", "inner:80")),
        ("for=_hidden", NOTHING),
        ("proto=https;host=a", (PROXY, "https", "a")),
        ("by=1.2.3.4", NOTHING),
    ],
)
def test_forwarded_is_read_as_rfc_7239_says(value: str, expected: object) -> None:
    assert told(("Forwarded", value)) == expected


def test_forwarded_counts_only_where_no_x_field_stands() -> None:
    fields = [("Forwarded", "for=1.2.3.4;host=evil"), ("X-Forwarded-For", "203.0.113.9")]
    assert told(*fields) == (("203.0.113.9", 0), "http", "inner:80")


MALFORMED: dict[str, Fields] = {
    "no address": [("X-Forwarded-For", "nonsense")],
    "a name": [("X-Forwarded-For", "example.org")],
    "five parts": [("X-Forwarded-For", "1.2.3.4.5")],
    "port past 65535": [("X-Forwarded-For", "1.2.3.4:70000")],
    "port of letters": [("X-Forwarded-For", "1.2.3.4:x")],
    "port of other digits": [("X-Forwarded-For", "1.2.3.4:²")],
    "half a literal": [("X-Forwarded-For", "[::1")],
    "a literal and more": [("X-Forwarded-For", "[::1]x")],
    "a script": [("X-Forwarded-For", "<script>")],
    "scheme": [("X-Forwarded-Proto", "gopher")],
    "host": [("X-Forwarded-Host", "a/b")],
    "host past ASCII": [("X-Forwarded-Host", "höst")],
    "Forwarded without pairs": [("Forwarded", "203.0.113.9")],
    "Forwarded with an open quote": [("Forwarded", 'for="1.2.3.4')],
    "Forwarded with a pair twice": [("Forwarded", "for=1.2.3.4;for=5.6.7.8")],
    "Forwarded with more behind a quote": [("Forwarded", 'for="1.2.3.4"x')],
    "Forwarded with a bad address": [("Forwarded", "for=example.org")],
    # What a client wrote must not end where the proxy's word begins.
    "open quote before the proxy's": [("Forwarded", 'for=6.6.6.6;x=", for="203.0.113.9"')],
    "open quote in the proxy's line": [("Forwarded", "for=6.6.6.6"), ("Forwarded", 'x=", for=1')],
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_value_is_ignored_with_one_line(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert told(*MALFORMED[case]) == NOTHING
    assert records(caplog, "bad_forwarded") == 1


def test_several_malformed_values_are_one_line_and_the_good_ones_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fields = [
        ("X-Forwarded-For", "x"),
        ("X-Forwarded-Proto", "gopher"),
        ("X-Forwarded-Host", "chat.example"),
    ]
    assert told(*fields) == (PROXY, "http", "chat.example")
    assert records(caplog, "bad_forwarded") == 1


def test_address_behind_a_malformed_one_is_the_last_that_is_known() -> None:
    assert told(("X-Forwarded-For", "1.2.3.4, nonsense, 10.0.0.2"))[0] == ("10.0.0.2", 0)


@pytest.mark.parametrize("value", [("10.0.0.1/8",), ("proxy.example",), ("*",), "10.0.0.1", [1]])
def test_setting_that_names_no_network_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="trusted_proxies"):
        Config(trusted_proxies=value)  # type: ignore[arg-type]


# -- which fields count


def test_by_default_for_and_proto_alone_are_believed() -> None:
    by_default = Config().trusted_headers
    assert by_default == ("X-Forwarded-For", "X-Forwarded-Proto")
    assert told(*BEHIND, headers=by_default) == (("203.0.113.9", 0), "https", "inner:80")
    fields = [("Forwarded", "for=203.0.113.9;proto=https;host=chat.example")]
    assert told(*fields, headers=by_default) == NOTHING
    assert told(*fields, headers=("forwarded",)) == (("203.0.113.9", 0), "https", "chat.example")


# HAProxy 2.6's `option forwardfor` alone: it adds a field of its own, and the client's stay.
THROUGH_HAPROXY = [
    ("host", "chat.example"),
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "evil.example"),
    ("forwarded", "for=127.0.0.1;host=evil.example;proto=https"),
    ("x-forwarded-for", "203.0.113.9"),
]


def test_what_a_client_writes_itself_and_haproxy_passes_on_is_not_believed(run: Run) -> None:
    async def main() -> None:
        for fields in (THROUGH_HAPROXY, [f for f in THROUGH_HAPROXY if f[0] != "x-forwarded-host"]):
            trusted = Config(trusted_proxies=("127.0.0.1",), trusted_headers=("X-Forwarded-For",))
            answer = await asked(trusted, fields)
            assert answer.text == "('203.0.113.9', 0) http chat.example"
            by_default = Config(trusted_proxies=("127.0.0.1",))
            answer = await asked(by_default, fields)
            assert answer.text == "('203.0.113.9', 0) https chat.example"

    run(main())


@pytest.mark.parametrize("value", [("X-Real-IP",), ("X-Forwarded",), "X-Forwarded-For", [1]])
def test_setting_that_names_no_field_of_proxies_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="trusted_headers: expected"):
        Config(trusted_headers=value)  # type: ignore[arg-type]


# -- on a socket


def who(request: Request) -> Response:
    return Response(200, f"{request.client} {request.scheme} {request.host}")


BEHIND = [
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "chat.example"),
]


async def asked(settings: Config, fields: Fields, target: str = "/", **hooks: object) -> Answer:
    chsk = make(settings, **hooks)
    async with chansock.serve(chsk, port=0, fallback=who) as listener:
        async with await Peer.connect(listener.port) as wire:
            return await wire.ask("GET", target, fields)


def test_fallback_and_hooks_see_who_asked_the_proxy(run: Run) -> None:
    async def main() -> None:
        seen: list[object] = []
        settings = Config(trusted_proxies=("127.0.0.1",), trusted_headers=ALL)
        answer = await asked(settings, BEHIND)
        assert answer.text == "('203.0.113.9', 0) https chat.example"
        await asked(settings, BEHIND, SHAKE, authorize=lambda r: seen.append(r.client) or True)
        assert seen == [("203.0.113.9", 0)]

    run(main())


def test_without_trusted_proxies_nobody_is_believed(run: Run) -> None:
    async def main() -> None:
        for settings in (Config(), Config(trusted_proxies=("10.0.0.1",))):
            answer = await asked(settings, BEHIND)
            assert answer.text.startswith("('127.0.0.1', ")
            assert " http 127.0.0.1:" in answer.text

    run(main())


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://chat.example", 200),
        ("http://chat.example", 403),  # it was reached by https
        ("https://chat.example:8443", 403),
        ("https://evil.example", 403),
    ],
)
def test_origin_is_compared_with_what_the_proxy_was_asked_for(
    origin: str, status: int, run: Run
) -> None:
    async def main() -> None:
        settings = Config(trusted_proxies=("127.0.0.0/8",), trusted_headers=ALL)
        answer = await asked(settings, [*BEHIND, ("Origin", origin)], SHAKE)
        assert answer.status == status
        # without trust it is our own Host that counts
        assert (await asked(Config(), [*BEHIND, ("Origin", origin)], SHAKE)).status == 403

    run(main())


def test_allowed_hosts_are_those_that_the_proxy_was_asked_for(run: Run) -> None:
    async def main() -> None:
        for name, status in (("chat.example", 200), ("other.example", 403)):
            settings = Config(
                trusted_proxies=("127.0.0.1",), trusted_headers=ALL, allowed_hosts=(name,)
            )
            assert (await asked(settings, BEHIND, SHAKE)).status == status

    run(main())


def test_no_proxys_word_makes_a_rebound_name_a_loopback_one(run: Run) -> None:
    async def main() -> None:
        fields = [("Host", "evil.example"), ("X-Forwarded-Host", "localhost")]
        settings = Config(trusted_proxies=("127.0.0.1",), trusted_headers=ALL)
        assert (await asked(settings, fields, SHAKE)).status == 403

    run(main())


@pytest.mark.parametrize("is_given", [False, True])
def test_proxy_on_a_unix_socket_is_believed(is_given: bool, tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        path = str(tmp_path / "chsk.sock")
        sock = None
        if is_given:
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(path)
        chsk = make(Config(trusted_headers=ALL))
        where = {"sock": sock} if is_given else {"unix": path}
        async with chansock.serve(chsk, fallback=who, **where):  # type: ignore[arg-type]
            reader, writer = await asyncio.open_unix_connection(path)
            for fields, text in (
                (BEHIND, "('203.0.113.9', 0) https chat.example"),
                ([], "None http localhost"),
            ):
                writer.write(peer.request("GET", "/", fields))
                assert (await read_answer(reader)).text == text
            writer.close()

    run(main())


def test_malformed_word_of_a_proxy_costs_nobody_his_request(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        settings = Config(trusted_proxies=("127.0.0.1",), trusted_headers=ALL)
        fields = [("X-Forwarded-For", "\x80" * 200), ("Forwarded", '"')]
        assert (await asked(settings, fields)).status == 200

    caplog.set_level(logging.INFO)
    run(main())
    assert records(caplog, "bad_forwarded") == 1
    assert all(len(record.getMessage()) < 250 for record in caplog.records)


def test_a_client_that_is_a_long_text_is_not_remembered() -> None:
    proxies = Proxies(["10.0.0.0/8"], ALL, lambda: LogLimit(time.monotonic, call_later))
    fields = [("Host", "a"), ("X-Forwarded-For", "1.2.3.4")]
    tracemalloc.start()
    try:
        for number in range(100):
            client = (f"{'x' * 10_000}{number}", 0)
            request = Request.from_fields("GET", "/", fields, client=client)
            proxies.apply(request)
            assert request.client == client
        del request, client
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 500_000
