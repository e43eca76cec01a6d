"""chansock._core.guard and Endpoint.admit: checks, in Sente's order, by recorded probes."""

import json
from itertools import product
from pathlib import Path

import pytest
from hand_clock import HandClock
from recorded_servers import PROBES
from sente_app import RECORDED

from chansock._core import guard
from chansock._core.endpoint import Admission
from chansock._fast.request import site_of
from chansock.channel import ChannelSocket
from chansock.request import Request, Response

FOLDER = Path(__file__).parent / "data" / "probes"
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
    chsk.start(HandClock())
    result = chsk.endpoint.admit(request_of(asked))
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
    chsk.start(HandClock())

    def status(host, origin, scheme="http", is_loopback=False):
        asked = request(("Host", host), ("Origin", origin), scheme=scheme)
        found = chsk.endpoint.admit(asked, is_upgrade=True, is_loopback=is_loopback)
        return found.status if isinstance(found, Response) else 101

    for _ in range(2):
        for k in range(300):  # more than are remembered
            assert status(f"a{k}.example", f"http://a{k}.example") == 101
            assert status(f"a{k}.example", f"http://a{k}.example", "https") == 403
            assert status(f"a{k}.example", f"http://a{k + 1}.example") == 403
        assert status("a0.example", "http://a0.example", is_loopback=True) == 403
        assert status("localhost:80", "http://localhost", is_loopback=True) == 101
        assert status("localhost:80", "http://localhost:81", is_loopback=True) == 403


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]", "chat.localhost"])
def test_loopback_names_pass_on_a_loopback_address(host):
    assert guard.check_host(request(("Host", host)), None, is_loopback=True) is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "", "[", "localhost/x", "x@localhost", "[::1]x"],
)
def test_a_strangers_name_is_refused_on_a_loopback_address(host):
    assert guard.check_host(request(("Host", host)), None, is_loopback=True) is not None
    assert guard.check_host(request(("Host", host)), None, is_loopback=False) is None


def test_allowed_hosts_are_names_without_port():
    allowed = ("a.example",)
    assert guard.check_host(request(("Host", "A.example:8000")), allowed, is_loopback=True) is None
    assert guard.check_host(request(("Host", "b.example")), allowed, is_loopback=False)
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
