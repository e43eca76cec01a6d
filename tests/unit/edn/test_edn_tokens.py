"""The tokens of edn: numbers, strings, characters, names, #inst, #uuid, one at a time."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chansock._fast.edn.reader import Reader
from chansock._fast.edn.writer import dumps
from chansock.errors import EdnDecodeError
from chansock.values import Char, List, StrDict, Symbol, Tagged


def read(text: str | bytes) -> Any:
    return Reader().decode(text)


def refusal(text: str | bytes) -> EdnDecodeError:
    with pytest.raises(EdnDecodeError) as caught:
        Reader().decode(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1 -1 +5 0x1F 010 36rZz 5N]", [1, -1, 5, 31, 8, 1295, 5]),
        ("[1.5 -0.25 1e3 1. 0.1]", [1.5, -0.25, 1000.0, 1.0, 0.1]),
        ("[1.10M 1/2 4/2]", [Decimal("1.10"), Fraction(1, 2), 2]),
        (r'["\u00e9\t\101" "\ud83d\ude00" "é😀"]', ["é\tA", "😀", "é😀"]),
        (r"[\a \newline \u0041 \o101]", ["a", "\n", "A", "A"]),
        ("[nil true false a/b]", [None, True, False, "a/b"]),
        ("(1 2)", (1, 2)),
        ("#my/tag [1]", Tagged("my/tag", [1])),
        ("#:a{:b 1, :_/c 2, :d/e 3}", {"a/b": 1, "c": 2, "d/e": 3}),
        ("[^:m [1] #_ gone ;c\n 2]", [[1], 2]),
        ('#inst "2024-05-06T09:08:09.123456789+02:00"',
         datetime(2024, 5, 6, 7, 8, 9, 123456, UTC)),
        ('#uuid "F81D4FAE-7dec-11d0-a765-00a0c91e6bf6"',
         UUID("f81d4fae-7dec-11d0-a765-00a0c91e6bf6")),
    ],
)  # fmt: skip
def test_values(text: str, value: object) -> None:
    assert read(text) == value


def test_types_of_their_own() -> None:
    char, symbol, sequence = read(r"[\a b (1)]")
    assert (type(char), type(symbol), type(sequence)) == (Char, Symbol, List)


def test_uuid_is_as_good_as_one_that_was_constructed() -> None:
    text = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
    ours, theirs = read(f'#uuid "{text}"'), UUID(text)
    assert (ours, hash(ours), repr(ours), ours.is_safe, ours.fields) == (
        theirs, hash(theirs), repr(theirs), theirs.is_safe, theirs.fields,
    )  # fmt: skip


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_is_read_as_python_reads_it(number: float) -> None:
    for text in (repr(number), f"{number:.15g}", f"{number:.3f}", f"{number:e}"):
        if "." in text or "e" in text:
            assert read(text) == float(text)


@given(st.from_regex(r"-?[0-9]{1,25}\.[0-9]{0,25}([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_every_spelling_of_a_double_is_read_as_python_reads_it(text: str) -> None:
    assert repr(read(text)) == repr(float(text))
    assert repr(read(f"[{text} ]")) == repr([float(text)])


@pytest.mark.parametrize(
    "text",
    [
        "9007199254740993.0", "9007199254740992.999999", "9007199254740993.000001",
        "1.00000000000000011102230246251565", "1.00000000000000011102230246251566",
        "1.00000000000000011102230246251564", "8.5e22", "1e23", "9.5e22",
        "4.4501477170144023e-308", "2.2250738585072011e-308", "2.2250738585072014e-308",
        "1.7976931348623157e308", "1.7976931348623159e308", "4.9e-324",
        "2.4703282292062327e-324", "2.4703282292062328e-324", "2.5e-324",
        "179769313486231580793e289", "6.631236846766476e-316", "3.237883913302901e-319",
        "1.2345678901234567e-6", "0.00012345678901234567", "12345678901234567890.5",
        "0.000000000000000000000000000000000000000000000012345", "1e308", "1e-308", "1e309",
        "0e999", "-0.0", "-0e5", "5e-400", "123456789012345678901234567890e-30",
        "9223372036854775807.0", "18446744073709551615.0", "1844674407370955161.6e1",
        "7.2057594037927933e16",
    ],
)  # fmt: skip
def test_hard_doubles(text: str) -> None:
    assert repr(read(text)) == repr(float(text))


def test_powers_of_ten_of_each_size() -> None:
    for exponent in range(-345, 310):
        for digits in ("1", "7", "123456789012345678", "9999999999999999999", "4.35"):
            text = f"{digits}e{exponent}"
            assert repr(read(text)) == repr(float(text)), text


@given(st.integers(min_value=-(10**40), max_value=10**40))
def test_every_integer_is_read_as_python_reads_it(number: int) -> None:
    assert read(str(number)) == number


# -- the cache of names --


def test_a_string_key_in_the_cache_makes_no_keyword_of_its_text() -> None:
    assert read('{"one/two/three" 1}') == {"one/two/three": 1}
    assert refusal(":one/two/three").position == 0


def test_names_survive_the_eviction_of_others() -> None:
    names = [f"name-{n}" for n in range(5000)]
    text = "[" + " ".join(f'{{:{name} :{name} :s {{"{name}" 1}}}}' for name in names) + "]"
    for _ in range(2):
        assert [next(iter(entry)) for entry in read(text)] == names


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 200])
def test_names_of_each_length_are_told_apart(size: int) -> None:
    if size:
        texts = ["a" * size, "a" * (size - 1) + "b", "b" + "a" * (size - 1)]
        for text in texts * 2:
            assert read(f":{text}") == text
    for text in ["x" * size, "é" * size]:
        assert read(f'{{"{text}" 1}}') == {text: 1}


@pytest.mark.parametrize("behind", ["", " ", "]", '"', "\u2028"])
@pytest.mark.parametrize("before", [0, 1, 5, 8, 15, 16, 40])
def test_tokens_are_read_at_each_distance_from_the_end(before: int, behind: str) -> None:
    for size in range(1, 36):
        name, digits = "abcdefghijklmnopqrstuvwxyz0123456789"[:size], "1" * size
        for text, value in (
            (f":{name}", name), (name, name), (f'"{name}"', name), (digits, int(digits)),
            (f"1.{digits}", float(f"1.{digits}")), (f'"{name[1:]}é"', name[1:] + "é"),
        ):  # fmt: skip
            whole = " " * before + text
            assert Reader().decode_one(whole.encode()) == (value, len(whole.encode()))
            buffer = (whole + behind + "x" * 40).encode()
            end = len((whole + behind).encode())
            assert Reader().decode_one(memoryview(buffer)[:end]) == (value, len(whole.encode()))


def test_every_byte_ends_a_token_or_belongs_to_it() -> None:
    for size in (1, 7, 15, 16, 17, 33):
        for byte in range(128):
            name = "n" * size + chr(byte) + "n"
            ends = chr(byte) in '\t\n\v\f\r\x1c\x1d\x1e\x1f ,;"^()[]{}\\'
            never = chr(byte) in "@`~"
            try:
                found = Reader().decode_one(f":{name} ".encode())[0]
            except EdnDecodeError:
                found = None
            assert found == (None if never else "n" * size if ends else name), (size, byte)


# -- keys that follow each other --


def test_a_key_that_begins_like_the_one_expected_is_told_apart() -> None:
    names = ["a", "ab", "abc", "abcdefgh", "abcdefghi", "abcdefghijklmnop", "abcdefghijklmnopq",
             "abc/d", "abcdefgh/i", "é", "éa", "b"]  # fmt: skip
    for first, second, third in itertools.product(names, repeat=3):
        text = " ".join(f"{{:k 1 :{name} 2}}" for name in (first, second, third))
        for whole in (f"[{text}]", f"[{text}]{' ' * 20}"):
            assert [[*entry] for entry in read(whole)] == [
                ["k", first], ["k", second], ["k", third],
            ]  # fmt: skip


def test_a_string_key_is_not_taken_for_the_keyword_that_is_expected() -> None:
    assert read('[{:k 1 :x 2} {:k 1 "x" 2} {:k 1 :x 2}]') == [
        {"k": 1, "x": 2}, {"k": 1, "x": 2}, {"k": 1, "x": 2},
    ]  # fmt: skip
    assert [type(entry) for entry in read('[{:k 1 :x 2} {:k 1 "x" 2}]')] == [dict, StrDict]


# -- limits --


def test_long_integers_are_refused_where_parsing_is_quadratic() -> None:
    assert read("1" * 4300) == int("1" * 4300)
    assert "4300 digits" in refusal("1" * 4301).message
    assert "4300 digits" in refusal("1/" + "1" * 4301).message
    assert read("1." + "1" * 5000) == float("1." + "1" * 5000)


@pytest.mark.parametrize(
    ("prefix", "digit", "most", "base"),
    [
        ("0x", "f", 3571, 16), ("0", "7", 4299, 8), ("2r", "1", 4300, 2), ("16r", "f", 3571, 16),
        ("32R", "v", 2856, 32), ("36r", "z", 2762, 36), ("7r", "6", 4300, 7),
    ],
)  # fmt: skip
def test_an_integer_of_any_base_has_at_most_4300_decimal_digits(
    prefix: str, digit: str, most: int, base: int
) -> None:
    for sign in ("", "-"):
        value = read(sign + prefix + digit * most)
        assert value == int(sign + digit * most, base)
        assert read(dumps(value)) == value  # what is read can be written
        longest = most + (prefix == "0")  # the 0 of an octal integer is a digit
        error = refusal(f"[{sign}{prefix}{digit * (most + 1)}]")
        assert error.message == (
            f"expected an integer of at most {longest} digits of base {base}, got {longest + 1}"
        )
        assert error.position == 1
    assert "at most" in refusal(f"0{'7' * 4300}N ").message
    assert "at most" in refusal(f"0x{'0' * 4000} ").message


def test_decimal_exponents_are_those_of_java() -> None:
    assert read("1e2147483647M") == Decimal("1e2147483647")
    assert read("1.25e2147483649M") == Decimal("1.25e2147483649")
    for text in ("1.25e2147483650M", "1.25e9999999999M", "1.25e-2147483646M"):
        with pytest.raises(EdnDecodeError, match="32 bits"):
            read(text)
    refusal("1e2147483648M")
    refusal("1e99999999999999999999M")
