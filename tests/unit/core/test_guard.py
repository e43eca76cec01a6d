"""chansock._core.guard and Endpoint.admit: checks, in Sente's order, by recorded probes."""

import json
import time
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manual_clock import ManualClock
from recorded_servers import PROBES
from sente_app import RECORDED

from chansock._core import guard
from chansock._core.endpoint import Admission
from chansock._fast.http.request import site_of
from chansock.channel import ChannelSocket
from chansock.config import Config
from chansock.request import Request, Response

FOLDER = Path(__file__).parents[2] / "data" / "probes"
SERVERS = ("origin", "csrf", "csrf-no-reference", "unauthorized", "reject-fn")

# Where we differ from Sente, on purpose: it throws where the client-id is missing, we say
# what was expected; and `reject` runs before every check of ours.
DIFFERENT = {
    ("csrf", "ws: wrong token and no client-id"): (400, "expected a client-id, got none"),
    ("csrf", "http: GET, wrong token and no client-id"): (400, "expected a client-id, got none"),
    ("unauthorized", "ws without client-id"): (400, "expected a client-id, got none"),
    ("reject-fn", "ws without client-id"): (503, "try later"),
}


def probes():
    for name in SERVERS:
        case = ""
        request = None
        for line in (FOLDER / f"{name}.jsonl").read_text("utf-8").splitlines():
            record = json.loads(line)
            if record["kind"] == "case":
                case = record["text"]
            elif record["kind"] == "http-request":
                request = record
            elif record["kind"] == "http-response":
                yield pytest.param(name, case, request, record, id=f"{name}: {case}")


def request_of(record) -> Request:
    request = Request.from_fields(record["method"], record["target"], record["headers"])
    if record.get("body"):
        request.set_form(record["body"].encode())
    return request


@pytest.mark.parametrize(("name", "case", "asked", "answered"), list(probes()))
def test_recorded_request_is_refused_or_admitted_as_sente_did(name, case, asked, answered):
    settings = dict(PROBES[name])
    chsk = ChannelSocket(settings.pop("config", RECORDED), **settings)
    chsk._start(ManualClock())
    result = chsk._endpoint.admit(request_of(asked))
    expected = DIFFERENT.get((name, case), (answered["status"], answered.get("body")))
    if expected[0] in (101, 200):
        assert isinstance(result, Admission)
    else:
        assert isinstance(result, Response)
        assert (result.status, result.body) == expected
        assert sum(chsk.stats.refused.values()) == 1


def request(*fields, target="/chsk?client-id=a", scheme="http"):
    return Request.from_fields("GET", target, fields, scheme=scheme)


@pytest.mark.parametrize(
    ("fields", "scheme"),
    [
        ([("Host", "a.example")], "http"),
        ([("Host", "a.example"), ("Origin", "http://a.example")], "http"),
        ([("Host", "A.example:80"), ("Origin", "http://a.example")], "http"),
        ([("Host", "a.example:8000"), ("Origin", "http://a.example:8000")], "http"),
        # TLS ended at a proxy: we were reached by http
        ([("Host", "a.example"), ("Origin", "https://a.example")], "http"),
        ([("Host", "a.example"), ("Origin", "https://a.example")], "https"),
        ([("Host", "[::1]:8000"), ("Origin", "http://[::1]:8000")], "http"),
        ([("Host", "a.example"), ("Sec-Fetch-Site", "same-origin")], "http"),
        ([("Host", "a.example"), ("Sec-Fetch-Site", "none")], "http"),
    ],
)
def test_same_origin_passes(fields, scheme):
    assert guard.check_origin(request(*fields, scheme=scheme), None) is None


@pytest.mark.parametrize(
    ("fields", "scheme"),
    [
        ([("Host", "a.example"), ("Origin", "http://b.example")], "http"),
        ([("Host", "a.example"), ("Origin", "null")], "http"),
        ([("Host", "a.example"), ("Origin", "http://a.example:8000")], "http"),
        ([("Host", "a.example:8000"), ("Origin", "http://a.example")], "http"),
        ([("Host", "a.example"), ("Origin", "http://a.example")], "https"),
        ([("Host", "a.example"), ("Origin", "http://a.example.evil")], "http"),
        ([("Host", "a.example"), ("Origin", "http://a.example:x")], "http"),
        ([("Host", "a.example"), ("Origin", "file://a.example")], "http"),
        ([("Origin", "http://a.example")], "http"),
        (
            [
                ("Host", "a.example"),
                ("Origin", "http://a.example"),
                ("Origin", "http://b.example"),
            ],
            "http",
        ),
        ([("Host", "a.example"), ("Sec-Fetch-Site", "cross-site")], "http"),
        ([("Host", "a.example"), ("Sec-Fetch-Site", "same-site")], "http"),
    ],
)
def test_another_origin_is_refused_and_the_setting_is_named(fields, scheme):
    why = guard.check_origin(request(*fields, scheme=scheme), None)
    assert why is not None
    assert "allowed_origins" in why


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil@localhost:8000",
        "http://evil:pass@localhost:8000",
        "http://localhost:8000@evil",
        "http://localhost:8000/",
        "http://localhost:8000/page",
        "http://localhost:8000?",
        "http://localhost:8000#",
        "http://localhost:8000\\",
        "http://local\thost:8000",
        "ht\ttp://localhost:8000",
        "http://localhost:8000 http://localhost:8000",
        "http://localhost:8000, http://localhost:8000",
        "http://LOCALHOST:8000",
        "HTTP://localhost:8000",
        "http://lo%63alhost:8000",
        "http://localhost:8000:8000",
        "http://localhost:+8000",
        "http://localhost:80_00",
        "http://localhost:٨٠٠٠",
        "http://l\u00f6calhost:8000",
        "http:localhost:8000",
        "//localhost:8000",
        "localhost:8000",
        "null",
        "",
    ],
)
def test_an_origin_that_no_browser_writes_is_refused(origin):
    hosts = ["localhost:8000", origin, origin.partition("://")[2]]
    for host, scheme in product(hosts, ("http", "https")):
        why = guard.check_origin(request(("Host", host), ("Origin", origin), scheme=scheme), None)
        assert why is not None
        assert why.startswith("expected an Origin like https://a.example:8443, got ")
        assert guard.check_origin(request(("Host", host), ("Origin", origin)), ("self",))


@pytest.mark.parametrize(
    ("origin", "host", "is_same"),
    [
        ("http://localhost", "localhost:", True),
        ("http://localhost:", "localhost:", False),
        ("http://localhost:80", "localhost", True),
        ("https://localhost", "localhost:443", True),
        ("https://localhost", "localhost:80", False),
        ("http://localhost", "LocalHost", True),
        ("http://localhost.", "localhost.", True),
        ("http://localhost.", "localhost", False),  # two origins to a browser as well
        ("http://localhost", "localhost.", False),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://[::1]", "[::1]", True),
        ("http://[::1", "[::1", False),
        ("http://::1", "::1", False),
        ("http://[localhost]", "[localhost]", False),
        ("http://[::1%25lo]", "[::1%25lo]", False),
        ("http://localhost:65535", "localhost:65535", True),
        ("http://localhost:65536", "localhost:65536", False),
        ("http://localhost:65536", "localhost", False),
        ("http://a,b", "a,b", False),
        ("http://a b", "a b", False),
    ],
)
def test_origin_and_host_are_compared_as_rfc_6454_and_rfc_9110_write_them(origin, host, is_same):
    why = guard.check_origin(request(("Host", host), ("Origin", origin)), None)
    assert (why is None) is is_same


@pytest.mark.parametrize("site", ["same-origin", None])
@pytest.mark.parametrize(
    ("host", "is_same"),
    [
        ("chat.example:8443", True),
        ("chat.example", False),  # nginx: `proxy_set_header Host $host`
        ("127.0.0.1:8000", False),  # nginx by default
        ("chat.example:80", False),
    ],
)
def test_handshake_of_a_page_whose_posts_would_be_refused_is_refused(host, is_same, site):
    fields = [("Host", host), ("Referer", "http://chat.example:8443/room?1")]
    if site is not None:
        fields.append(("Sec-Fetch-Site", site))
    poll = guard.check_origin(request(*fields), None)
    post = guard.check_origin(request(*fields, ("Origin", "http://chat.example:8443")), None)
    assert poll == post
    assert (poll is None) is is_same
    if poll is not None:
        assert f"origin 'http://chat.example:8443' is not that of Host '{host}'" in poll
        assert "proxy_set_header Host $http_host;" in poll
        assert "allowed_origins" in poll


@pytest.mark.parametrize("referer", ["", "about:client", "https://[::1/", "null", "/page"])
def test_referer_that_is_no_url_changes_nothing(referer):
    asked = request(("Host", "a.example"), ("Referer", referer), ("Sec-Fetch-Site", "same-origin"))
    assert guard.check_origin(asked, None) is None


# -- cookies under "*"

COOKIE = ("Cookie", "login=s3cr3t")
OWN, FOREIGN = ("Origin", "http://a.example"), ("Origin", "https://evil.example")


@pytest.mark.parametrize(
    ("fields", "is_allowed"),
    [
        # no page, or one that an older browser says nothing about
        ([COOKIE], True),
        ([COOKIE, ("Sec-Fetch-Site", "none")], True),
        # any page, without cookies
        ([FOREIGN], True),
        ([FOREIGN, ("Sec-Fetch-Site", "cross-site")], True),
        ([("Origin", "null")], True),
        # the page's own origin
        ([COOKIE, OWN], True),
        ([COOKIE, OWN, ("Sec-Fetch-Site", "same-origin")], True),
        ([COOKIE, ("Sec-Fetch-Site", "same-origin")], True),
        # and behind a proxy that changes Host
        ([COOKIE, ("Origin", "https://chat.example"), ("Sec-Fetch-Site", "same-origin")], True),
        # a named one
        ([COOKIE, ("Origin", "https://b.example")], True),
        ([COOKIE, ("Origin", "https://b.example"), ("Sec-Fetch-Site", "cross-site")], True),
        ([COOKIE, ("Origin", "https://x.c.example"), ("Sec-Fetch-Site", "same-site")], True),
        # any other page, with the user's cookies
        ([COOKIE, FOREIGN], False),
        ([COOKIE, FOREIGN, ("Sec-Fetch-Site", "cross-site")], False),
        ([COOKIE, FOREIGN, ("Sec-Fetch-Site", "same-site")], False),
        ([COOKIE, ("Sec-Fetch-Site", "cross-site")], False),
        ([COOKIE, ("Sec-Fetch-Site", "same-site")], False),
        ([COOKIE, ("Sec-Fetch-Site", "")], False),
        ([COOKIE, ("Origin", "null")], False),
        ([COOKIE, ("Origin", "*")], False),
        ([COOKIE, ("Origin", "http://evil@a.example")], False),
        ([COOKIE, OWN, FOREIGN], False),
        ([("Cookie", ""), FOREIGN], False),
    ],
)
@pytest.mark.parametrize("kind", ["POST", "GET"])
def test_under_star_ajax_of_another_origin_may_not_carry_cookies(kind, fields, is_allowed):
    allowed = ("*", "https://b.example", "https://*.c.example")
    chsk = ChannelSocket(Config(allowed_origins=allowed))
    chsk._start(ManualClock())
    asked = Request.from_fields(kind, "/chsk?client-id=a", [("Host", "a.example"), *fields])
    for _ in range(2):  # a host and an origin that passed are remembered; cookies are not
        found = chsk._endpoint.admit(asked)
        if is_allowed:
            assert isinstance(found, Admission)
        else:
            assert (found.status, found.body) == (403, "Unauthorized origin")
    bare = [field for field in fields if field[0] != "Cookie"]
    again = Request.from_fields(kind, "/chsk?client-id=a", [("Host", "a.example"), *bare])
    assert isinstance(chsk._endpoint.admit(again), Admission)


def test_under_star_a_websocket_of_another_origin_comes_with_its_cookies():
    chsk = ChannelSocket(Config(allowed_origins=("*",)))
    chsk._start(ManualClock())
    asked = request(("Host", "a.example"), COOKIE, FOREIGN, ("Sec-Fetch-Site", "cross-site"))
    assert isinstance(chsk._endpoint.admit(asked, is_upgrade=True), Admission)


def test_without_star_cookies_change_nothing():
    for allowed in (None, ("https://evil.example",)):
        for fields in ([OWN], [FOREIGN], []):
            plain = request(("Host", "a.example"), *fields)
            cookied = request(("Host", "a.example"), COOKIE, *fields)
            whys = [guard.check_origin(each, allowed) for each in (plain, cookied)]
            assert whys[0] == whys[1]
            assert guard.check_cookies(cookied, "post", allowed) is None


@pytest.mark.parametrize(
    ("fields", "is_allowed"),
    [
        ([], True),
        ([("Origin", "http://a.example")], True),
        ([("Origin", "https://b.example")], True),
        ([("Sec-Fetch-Site", "same-origin")], True),
        ([("Sec-Fetch-Site", "cross-site"), ("Referer", "https://b.example/page")], True),
        ([("Sec-Fetch-Site", "cross-site")], False),
        ([("Origin", "https://c.example")], False),
        ([("Origin", "self")], False),
        ([("Origin", "null")], False),
        ([("Origin", "https://b.example"), ("Origin", "http://a.example")], False),
    ],
)
def test_self_in_the_list_is_the_same_origin_besides_the_others(fields, is_allowed):
    asked = request(("Host", "a.example"), *fields)
    for allowed in (("self", "https://b.example"), ("https://b.example", "self")):
        assert (guard.check_origin(asked, allowed) is None) is is_allowed


def test_self_is_no_origin_that_cors_lets_read():
    for origin in ("self", "http://a.example", "https://c.example"):
        asked = request(("Host", "a.example"), ("Origin", origin))
        assert guard.cors_fields(asked, ("self", "https://b.example")) == (("Vary", "Origin"),)


def test_a_site_is_the_host_the_origin_and_the_scheme_and_nothing_else():
    hosts = ["a.example", "a.example:8000", "A.example", "a.exampleh"]
    origins = ["http://a.example", "https://a.example", "ttp://a.example", "null"]
    sites = {}
    for host, origin, scheme in product(hosts, origins, ("http", "https")):
        fields = (("Host", host), ("Origin", origin))
        site = site_of(request(*fields, scheme=scheme))
        assert sites.setdefault(site, fields) is fields
        assert site == site_of(
            request(("Cookie", "a=1"), *reversed(fields), target="/x?y", scheme=scheme)
        )
    assert None not in sites


def test_what_the_checks_may_see_otherwise_is_no_site():
    alike = (("Host", "a.example"), ("Origin", "http://a.example"))
    assert site_of(request(*alike)) is not None
    assert site_of(request(*alike, ("origin", "http://b.example"))) is None
    assert site_of(request(*alike, ("origin", ""))) is None
    assert site_of(request(alike[0])) is None
    assert site_of(request(alike[1])) is None
    assert site_of(request(alike[0], ("Origin", "http://" + "a" * 300))) is None
    proxied = request(*alike)
    proxied.set_host("b.example")
    assert site_of(proxied) is None
    assert site_of(Request.from_fields("GET", "http://b.example/chsk", alike)) is None


def test_a_site_that_passed_does_not_pass_for_another():
    chsk = ChannelSocket()
    chsk._start(ManualClock())

    def status(host, origin, scheme="http", is_loopback=False):
        asked = request(("Host", host), ("Origin", origin), scheme=scheme)
        found = chsk._endpoint.admit(asked, is_upgrade=True, is_loopback=is_loopback)
        return found.status if isinstance(found, Response) else 101

    for _ in range(2):
        for k in range(300):  # more than are remembered
            assert status(f"a{k}.example", f"http://a{k}.example") == 101
            assert status(f"a{k}.example", f"http://a{k}.example", "https") == 403
            assert status(f"a{k}.example", f"http://a{k + 1}.example") == 403
        assert status("a0.example", "http://a0.example", is_loopback=True) == 403
        assert status("localhost:80", "http://localhost", is_loopback=True) == 101
        assert status("localhost:80", "http://localhost:81", is_loopback=True) == 403


@pytest.mark.parametrize(
    "host",
    [
        "localhost:8000",
        "localhost:",
        "LOCALHOST",
        "localhost.:8000",
        "127.0.0.1:8000",
        "[::1]",
        "chat.localhost",
        "chat.localhost.",
    ],
)
def test_loopback_names_pass_on_a_loopback_address(host):
    assert guard.check_host(request(("Host", host)), None, is_loopback=True) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "",
        ".",
        "[",
        "localhost..",
        "localhost/x",
        "localhost:x",
        "localhost:80:80",
        "localhost:99999",
        "localhost,evil.example",
        "localhost evil.example",
        "x@localhost",
        "@.localhost",
        "evil.example/.localhost",
        "evil.example#.localhost",
        "[localhost]",
        "[::1]x",
        "l\u00f6.localhost",
    ],
)
def test_a_strangers_name_is_refused_on_a_loopback_address(host):
    why = guard.check_host(request(("Host", host)), None, is_loopback=True)
    assert why is not None
    assert why.startswith("expected a loopback name as Host, got ")
    assert guard.check_host(request(("Host", host)), None, is_loopback=False) is None


def test_allowed_hosts_are_names_without_port():
    allowed = ("a.example",)
    assert guard.check_host(request(("Host", "A.example:8000")), allowed, is_loopback=True) is None
    assert guard.check_host(request(("Host", "b.example")), allowed, is_loopback=False)
    for host in ("a.example.", "A.EXAMPLE.:80", "a.example:"):
        assert guard.check_host(request(("Host", host)), allowed, is_loopback=False) is None
    for host in ("a.example..", "x@a.example", "a.example/", "a.example:x", "a.example,b", ""):
        assert guard.check_host(request(("Host", host)), allowed, is_loopback=False)
    assert guard.check_host(request(("Host", "a.")), ("a.",), is_loopback=False) is None
    assert guard.check_host(request(("Host", "b.example")), ("*",), is_loopback=True) is None


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "expected a client-id, got none"),
        ("client-id=", "expected a client-id, got none"),
        ("client-id=%20%09", "expected a client-id, got none"),
        ("client-id=a&client-id=b", "expected one client-id, got 2"),
        ("client-id=" + "x" * 257, "got 257"),
    ],
)
def test_bad_client_id_says_what_was_expected(query, words):
    assert words in (guard.check_client_id(request(target="/chsk?" + query)) or "")


def test_client_id_of_256_characters_is_taken():
    assert guard.check_client_id(request(target="/chsk?client-id=" + "é" * 256)) is None


# -- any text

PIECES = [
    *("http://", "https://", "a.example", "localhost", "[::1]", "[", "]", ":80", ":", "@", "/"),
    *("?", "#", ",", ";", '"', "\\", "=", "%", " ", "\t", "*", ".", "_", "self", "null", "unknown"),
    *("csrf.", "csrf64.", "chansock", "\x00", "\x7f", "\x80", "\xff", "²", "٣", "\ud800"),
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join)
SETTINGS = (None, ("*",), ("self", "http://a.example"), ("https://*.a.example", "*"))
NAMES = (
    *("Host", "Origin", "Referer", "Sec-Fetch-Site", "Cookie", "X-CSRF-Token"),
    *("Sec-WebSocket-Protocol", "Access-Control-Request-Headers"),
)


def check_all(asked: Request, allowed, hosts) -> None:
    for is_loopback in (False, True):
        guard.check_host(asked, hosts, is_loopback=is_loopback)
    guard.check_origin(asked, allowed)
    guard.check_cookies(asked, "post", allowed)
    guard.check_client_id(asked)
    guard.check_token(asked, "token")
    guard.cors_fields(asked, allowed)
    guard.preflight_fields(asked)
    site_of(asked)


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), TEXTS.map(lambda text: text.encode("utf-8", "replace")))
    ),
    TEXTS.map(lambda text: text.encode("utf-8", "replace")),
    st.sampled_from(SETTINGS),
    st.sampled_from((None, ("a.example",), ("*",))),
    st.none() | TEXTS,
)
def test_no_text_of_a_request_makes_a_check_raise(fields, target, allowed, hosts, given_host):
    asked = Request.from_fields("POST", target, fields)
    if given_host is not None:
        asked.set_host(given_host)
    check_all(asked, allowed, hosts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", ["a", ".", ":", "a.", "://", "[", "@", ",", "a,", " ", "=", ";", "csrf.", "-"]
)
@pytest.mark.parametrize("start", ["", "https://", "https://a", "["])
def test_the_checks_take_time_in_proportion_to_their_text(piece, start):
    def duration(size: int) -> float:
        fields = [(name, start + piece * (size // len(piece))) for name in NAMES]
        found = []
        for k in range(3):
            # another text each time, so that none is cached
            asked = Request.from_fields("POST", "/", [(n, text + str(k)) for n, text in fields])
            begin = time.thread_time()
            check_all(asked, ("https://*.a.example", "self"), ("a.example",))
            found.append(time.thread_time() - begin)
        return min(found)

    # Quadratic work takes 64 times as long.
    assert duration(160_000) < 24 * max(duration(20_000), 0.0005)
