"""EdnTruncated: raised for a beginning of edn, and for nothing that no text could mend."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from edn_completion import completion, state
from edn_corpus import cases, text_of

from chansock._fast.events.packet import EdnPacker
from chansock.edn import EdnDecodeError, EdnTruncated, loads, read_one
from chansock.errors import PacketError

CORPUS = {case["id"]: text_of(case) for case in cases("corpus.jsonl")}


def first_form(text: bytes) -> bytes | None:
    try:
        return text[: read_one(text)[1]]
    except EdnDecodeError:
        return None


@pytest.mark.slow
def test_every_beginning_of_a_corpus_case_is_read_or_cut() -> None:
    checked = 0
    for name, text in CORPUS.items():
        form = first_form(text)
        if form is None or len(form) > 2000:
            continue
        for end in range(len(form)):
            assert state(form[:end]) != "refused", (name, form[:end])
            checked += 1
    assert checked > 10_000


@pytest.mark.slow
def test_every_corpus_case_that_is_cut_can_be_completed() -> None:
    cut = [text for text in CORPUS.values() if len(text) < 200 and state(text) == "cut"]
    assert len(cut) > 150
    for text in cut:
        assert completion(text) is not None, text


TOKENS = [
    "{", "}", "[", "]", "(", ")", "#{", "#_", "^", ":a", ":b/c", '"s"', '"', "1", "-", "1/2", " ",
    "2.5M", ",", "\n", ";c", "#x ", "#:n", "##", "##NaN", "nil", "true", "\\a", "\\", "é", "#inst",
    "#uuid", '"2018"', "0", "08", "0x", "1e", "2r", "1.", "1N", "a", "/", ":", "#", "'", "#^",
    "\\n", "\\u00", "#:a{", "{:a 1 ", "#{1 ", "\u2028", "٣",
]  # fmt: skip


def test_of_any_two_tokens_what_is_cut_can_be_completed() -> None:
    cut = 0
    for first, second in itertools.product(TOKENS, repeat=2):
        text = (first + second).encode()
        if state(text) == "cut":
            cut += 1
            assert completion(text) is not None, text
    assert cut > 800


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ";c", "#_1", "#_", "#", "[", "(1", "{", "#{", "{:a", "{:a 1", "{:a 1 :a", '"',
        '"a\\', '"\\u00', '"\\1', ":", ":a/", ":a:", "a/", "[a:", "\\", "\\ne", "\\u00", "\\ud",
        "08", "1e", "1.5e-", "0x", "36r", "1/", "1/0", "-0x", "1" * 4301, "[nil", "#{nil nil",
        "#{1 1.0", "{true 1 tru", "{\\n 1 \\n", "#inst", "#inst ", '#inst "2018-02-2',
        '#inst "2018-03-28+02', '#inst "20\\u00', '#uuid "1-2', "#my/", "#my/tag", "#my/tag [",
        "#nil", "##", "##I", "##-", "#:a", "#:nil", "#:a ", "#:a{:b", "^", "^:a", "^:a nil",
        "^{:a 1}", "^nil", "[1 #_", "1 #_", "1 #", "[" * 501,
    ],
)  # fmt: skip
def test_a_beginning_is_cut(text: str) -> None:
    with pytest.raises(EdnTruncated) as caught:
        loads(text)
    assert 0 <= caught.value.position <= len(text)
    assert len(text) > 300 or completion(text.encode()) is not None


@pytest.mark.parametrize("text", [
    b"\xef", b"\xef\xbb", b'"\xc3', b"[:a\xe6\xbc", b"1\xe2\x80", b"\\\xe6", b";\xf0\x9f",
    b"[\xe2", b"#\xc3",
])  # fmt: skip
def test_a_character_that_is_cut_is_a_beginning(text: bytes) -> None:
    with pytest.raises(EdnTruncated):
        loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "]", "[1 2)", "{:a}", "{:a 1 :b}", "{:a 1 :a ", "{:a 1 :a [", '{"a" 1 "a"', "{[1] 2 [1]",
        "{1N 1 1N", "#{[1] [1]", "#{1 1 ", '"\\x', '"\\x abc', '"\\u00g', '"\\400', "::", ":a::",
        ":/a", ":a/1", ":a/b/", ":a@", "a/1", "\\nex", "\\ud8", "\\o400", "\\o8", "08 ", "1a",
        "1e ", "0x ", "37r", "2r2", "1/0 ", "[1/0]", "1" * 4301 + " ", "1N0", "[nil/ ",
        "#inst 1", "#inst nil", "#inst [", '#inst "2018-99', '#inst "2018-02-3', '#inst "x',
        '#inst "\\x', '#inst "é', '#uuid "g', '#uuid "123456789', "#nil ", "#1", "#(", "#é/1",
        "##Infx", "##I ", "##1", "##[", "#: ", "#:1", "#:a/", "#:a/b", "#:a [", "#:nil ", "^1",
        "^[", "^1 a", "^:a 1", "^:a \"", "^:a nil ", "^:a #t", "^nil ", "1 2", "1 [", "1 é",
        "#_]", "[#_ ]", "[" * 501 + "1", "#t " * 501, "^" * 600, f"#:{'n' * 256}{{",
    ],
)  # fmt: skip
def test_what_nothing_could_mend_is_refused(text: str) -> None:
    with pytest.raises(EdnDecodeError) as caught:
        loads(text)
    assert type(caught.value) is EdnDecodeError


@pytest.mark.parametrize("text", [
    b"\xff", b"\xc3(", b'"\xff', b'"\xed\xa0', b"1\xc3", b"1 \xc3", b"\\\xf0", b"\\a\xc3",
    b"/\xc3", b"::\xc3", b"[\xe2\x28", b"##Inf\xc3",
])  # fmt: skip
def test_bytes_that_begin_no_character_here_are_refused(text: bytes) -> None:
    with pytest.raises(EdnDecodeError) as caught:
        loads(text)
    assert type(caught.value) is EdnDecodeError


def test_no_reader_function_is_called_to_find_out() -> None:
    calls: list[object] = []
    with pytest.raises(EdnTruncated):
        loads("#{#t 1 #t 1", readers={"t": lambda value: calls.append(value) or value})
    assert calls == [1, 1]


def test_an_error_in_a_reader_function_is_no_beginning() -> None:
    with pytest.raises(EdnDecodeError) as caught:
        loads('#edn "[1"', readers={"edn": loads})
    assert type(caught.value) is EdnDecodeError


def test_a_stream_is_read_form_by_form() -> None:
    stream = '{:a "é\\n😀"} #inst "2018-03-28" ;c\n [1 2.5M] \\newline #{:x} nil 12 '.encode()
    found: list[Any] = []
    buffer = bytearray()
    for byte in stream:
        buffer.append(byte)
        if byte in b" \n,":  # behind it a token has ended
            try:
                value, end = read_one(bytes(buffer))
            except EdnTruncated:
                continue
            found.append(value)
            del buffer[:end]
    assert found == loads(b"[" + stream + b"]")
    assert not buffer.strip()


def test_a_packet_that_is_cut_is_no_packet() -> None:
    for text in (b"[", b"[[:a/b 1", b'[:a/b "'):
        with pytest.raises(PacketError):
            EdnPacker().unpack(text)
