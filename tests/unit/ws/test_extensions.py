"""extensions: what is agreed on; the oracles are RFC 7692 section 7.1, RFC 6455 and websockets."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.headers import build_extension, parse_extension

from chansock import Compression, Config, Request, Response
from chansock._edge.extensions import Extensions
from chansock._fast.ws.frames import Deflate

DEFLATE = "permessage-deflate"
SERVER = "server_no_context_takeover"
CLIENT = "client_no_context_takeover"
FORGETFUL = f"{DEFLATE}; {SERVER}; {CLIENT}"  # before the window, where nothing is kept
NO_BITS = ("7", "16", "08", "-9", "+9", "9.0", "0x9", "1e1", "a")


def ask(*fields: str) -> Request:
    lines = "".join(f"Sec-WebSocket-Extensions: {field}\r\n" for field in fields)
    return Request(f"GET /chsk HTTP/1.1\r\nHost: h\r\n{lines}\r\n".encode("latin-1"))


def agree(*fields: str, **options: Any) -> Deflate | Response | None:
    return Extensions(Config(compression=Compression(**options))).agree(ask(*fields))


def answer(*fields: str, **options: Any) -> str | None:
    agreed = agree(*fields, **options)
    assert not isinstance(agreed, Response)
    return None if agreed is None else agreed.answer


@pytest.mark.parametrize(
    ("offer", "expected"),
    [
        # RFC 7692 section 7.1: each parameter, and the examples of 7.1.3
        (DEFLATE, f"{FORGETFUL}; server_max_window_bits=12"),
        (f"{DEFLATE}; {SERVER}", f"{FORGETFUL}; server_max_window_bits=12"),
        (f"{DEFLATE}; {CLIENT}", f"{FORGETFUL}; server_max_window_bits=12"),
        (f"{DEFLATE}; client_max_window_bits", f"{FORGETFUL}; server_max_window_bits=12"),
        (f"{DEFLATE}; server_max_window_bits=10", f"{FORGETFUL}; server_max_window_bits=10"),
        (f"{DEFLATE}; server_max_window_bits=15", f"{FORGETFUL}; server_max_window_bits=12"),
        (
            f"{DEFLATE}; client_max_window_bits; server_max_window_bits=10, "
            f"{DEFLATE}; client_max_window_bits",
            f"{FORGETFUL}; server_max_window_bits=10",
        ),
        # what websockets offers
        (
            f"{DEFLATE}; server_max_window_bits=12; client_max_window_bits=12",
            f"{FORGETFUL}; server_max_window_bits=12",
        ),
        # RFC 6455 section 9.1: a value may be quoted, and space stands around the signs
        (f'{DEFLATE}; server_max_window_bits="10"', f"{FORGETFUL}; server_max_window_bits=10"),
        (f'{DEFLATE}; server_max_window_bits="1\\0"', f"{FORGETFUL}; server_max_window_bits=10"),
        (
            f" ,\t{DEFLATE} ;server_max_window_bits = 10;{SERVER} , x",
            f"{FORGETFUL}; server_max_window_bits=10",
        ),
    ],
)
def test_an_offer_is_taken(offer: str, expected: str) -> None:
    assert answer(offer) == expected


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "x-webkit-deflate-frame",
        "permessage-bzip2; client_max_window_bits",
        "Permessage-Deflate",
        f"{DEFLATE}; unknown",
        f"{DEFLATE}; unknown=1; {SERVER}",
        f"{DEFLATE}; {SERVER}; {SERVER}",
        f"{DEFLATE}; {CLIENT}; {CLIENT}",
        f"{DEFLATE}; server_max_window_bits=10; server_max_window_bits=10",
        f"{DEFLATE}; client_max_window_bits; client_max_window_bits=10",
        f"{DEFLATE}; {SERVER}=1",
        f'{DEFLATE}; {CLIENT}="true"',
        f"{DEFLATE}; server_max_window_bits",
        *(
            f"{DEFLATE}; server_max_window_bits={bits}"
            for bits in (7, 16, "08", "-9", "0x9", "1e1")
        ),
        *(f"{DEFLATE}; client_max_window_bits={bits}" for bits in (7, 16, "08", "+9", "9.0", "a")),
        # zlib can deflate into no window of 8 bits
        f"{DEFLATE}; server_max_window_bits=8",
    ],
)
def test_an_offer_is_passed_over_and_the_next_is_taken(offer: str) -> None:
    assert answer(offer) is None
    wanted = f"{FORGETFUL}; server_max_window_bits=11"
    following = f"{DEFLATE}; server_max_window_bits=11"
    assert answer(", ".join(filter(None, (offer, following)))) == wanted
    assert answer(offer, following) == wanted


@pytest.mark.parametrize(
    "field",
    [
        "permessage deflate",
        f"{DEFLATE};",
        f"{DEFLATE}; =10",
        f"{DEFLATE}; server_max_window_bits=",
        f'{DEFLATE}; server_max_window_bits="10',
        f'{DEFLATE}; server_max_window_bits="1 0"',
        f'{DEFLATE}; server_max_window_bits=""',
        f"{DEFLATE}; server_max_window_bits=10 11",
        f"{DEFLATE}, (x)",
        "; x",
        f"{DEFLATE}; {SERVER}, caf\xe9",
    ],
)
def test_a_malformed_field_is_refused_as_a_whole(field: str) -> None:
    found = agree(DEFLATE, field)
    assert isinstance(found, Response)
    assert found.status == 400
    assert "Sec-WebSocket-Extensions: expected" in found.body_bytes.decode()


def test_without_the_field_nothing_is_agreed_on() -> None:
    assert answer() is None


@pytest.mark.parametrize(
    ("offer", "expected", "kept"),
    [
        (DEFLATE, "", 1 << 15),
        (f"{DEFLATE}; client_max_window_bits", "; client_max_window_bits=12", 1 << 12),
        (f"{DEFLATE}; client_max_window_bits=10", "; client_max_window_bits=10", 1 << 10),
        (f"{DEFLATE}; client_max_window_bits=15", "; client_max_window_bits=12", 1 << 12),
        # a zlib that agreed on 8 bits uses 9
        (f"{DEFLATE}; client_max_window_bits=8", "; client_max_window_bits=8", 1 << 9),
    ],
)
def test_a_client_may_keep_its_window(offer: str, expected: str, kept: int) -> None:
    agreed = agree(offer, client_takeover=True)
    assert isinstance(agreed, Deflate)
    assert agreed.answer == f"{DEFLATE}; {SERVER}; server_max_window_bits=12{expected}"
    assert agreed.kept == kept


def test_a_client_that_will_not_keep_its_window_is_taken_at_its_word() -> None:
    agreed = agree(f"{DEFLATE}; {CLIENT}; client_max_window_bits", client_takeover=True)
    assert isinstance(agreed, Deflate)
    assert agreed.answer == f"{FORGETFUL}; server_max_window_bits=12"
    assert agreed.kept == 0


def test_a_whole_window_is_named_only_where_it_was_asked_for() -> None:
    assert answer(DEFLATE, window_bits=15) == FORGETFUL
    assert (
        answer(f"{DEFLATE}; server_max_window_bits=15", window_bits=15)
        == f"{FORGETFUL}; server_max_window_bits=15"
    )


def test_all_that_agree_on_the_same_share_one_object() -> None:
    extensions = Extensions(Config(compression=True))
    first = extensions.agree(ask(DEFLATE))
    assert extensions.agree(ask(f"{DEFLATE}; {CLIENT}; client_max_window_bits=9")) is first
    assert extensions.agree(ask(f"{DEFLATE}; server_max_window_bits=9")) is not first


BITS = (None, 9, 12, 15)


@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("own", [9, 12, 15])
def test_websockets_takes_every_answer_to_its_own_offers(own: int, takeover: bool) -> None:
    for server, client in itertools.product((False, True), repeat=2):
        for server_bits, client_bits in itertools.product(BITS, (*BITS, True)):
            factory = ClientPerMessageDeflateFactory(server, client, server_bits, client_bits)
            offer = build_extension([(factory.name, factory.get_request_params())])
            agreed = agree(offer, window_bits=own, client_takeover=takeover)
            assert isinstance(agreed, Deflate)
            ((name, parameters),) = parse_extension(agreed.answer)
            assert name == factory.name
            theirs = factory.process_response_params(parameters, [])
            assert theirs.remote_no_context_takeover
            assert theirs.remote_max_window_bits == agreed.window_bits
            if theirs.local_no_context_takeover:
                assert agreed.kept == 0
            else:
                assert agreed.kept == 1 << theirs.local_max_window_bits
