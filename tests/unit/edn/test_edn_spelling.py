"""How single values are spelled in edn: names, strings, numbers, as Clojure prints them."""

from __future__ import annotations

import math
import sys
from decimal import Decimal, localcontext
from typing import Any
from uuid import UUID

import edn_format
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chansock._fast.edn.reader import Reader
from chansock._fast.edn.writer import Writer
from chansock.errors import EncodeError
from chansock.values import Keyword, StrDict, Symbol, Tagged


def written(value: object) -> str:
    return Writer().encode(value).decode()


def refusal(value: object) -> EncodeError:
    with pytest.raises(EncodeError) as caught:
        Writer().encode(value)
    return caught.value


# -- numbers --


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (100.0, "100.0"),
        (0.001, "0.001"),
        (0.00099, "9.9E-4"),
        (9999999.0, "9999999.0"),
        (1e7, "1.0E7"),
        (-1.25e-10, "-1.25E-10"),
        (1e16, "1.0E16"),
        (1.5e300, "1.5E300"),
        (5e-324, "4.9E-324"),
        (1e-323, "9.9E-324"),
        (float("inf"), "##Inf"),
        (float("-inf"), "##-Inf"),
        (float("nan"), "##NaN"),
    ],
)
def test_doubles_are_laid_out_as_java_does(number: float, text: str) -> None:
    assert written(number) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_reads_back(number: float) -> None:
    text = written(number)
    assert float(text) == number
    assert "." in text
    assert text.endswith(".0") or not text.endswith("0") or "E" in text


def digits_of(text: str) -> str:
    return text.upper().split("E")[0].replace(".", "").lstrip("-0").rstrip("0")


@given(st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False))
def test_a_double_has_the_digits_of_repr(number: float) -> None:
    assert digits_of(written(number)) == digits_of(repr(number))


def test_doubles_beside_powers_have_the_digits_of_repr() -> None:
    powers = [2.0**n for n in range(-1022, 1024)] + [float(f"1e{n}") for n in range(-307, 309)]
    for power in powers:
        for number in (math.nextafter(power, 0), power, math.nextafter(power, math.inf), -power):
            if abs(number) >= sys.float_info.min:
                assert digits_of(written(number)) == digits_of(repr(number))


def test_doubles_with_few_decimals_are_written_as_they_look() -> None:
    for n in (*range(1, 3000), *range(999_000, 1_001_000), *range(9_999_998_000, 9_999_999_999)):
        number = n / 1000
        assert written(number) == (repr(number) if number < 1e7 else written(number))


@pytest.mark.parametrize("digits", range(1, 19))
def test_integers_of_every_length(digits: int) -> None:
    for number in (10**digits - 1, 10 ** (digits - 1), 10**digits // 7, 10**digits - 10):
        assert written([number, -number]) == f"[{number} {-number}]"


@given(st.integers())
def test_integers_past_64_bits_carry_an_n(number: int) -> None:
    assert written(number) == f"{number}{'' if -(2**63) <= number < 2**63 else 'N'}"


def test_decimal_text_does_not_depend_on_the_context() -> None:
    with localcontext() as context:
        context.capitals = 0
        context.prec = 3
        assert written(Decimal("1E+3")) == "1E+3M"
        assert written(Decimal("1.23456789")) == "1.23456789M"


@given(st.text())
def test_strings_are_read_back_by_another_library(text: str) -> None:
    encoded = written(text)
    assert Reader().decode(encoded) == text
    if not set(text) & set("\\\x85\u2028\u2029\x1c\x1d\x1e") and text.isprintable():
        assert edn_format.loads(encoded) == text


@pytest.mark.parametrize("size", [*range(20), 63, 64, 65, 1000])
@pytest.mark.parametrize("char", ['"', "\\", "\n", "\x1f", "\x7f", "é", "漢", "😀"])
def test_escapes_are_found_at_every_place(size: int, char: str) -> None:
    for text in (char + "a" * size, "a" * size + char, "a" * size + char + "b" * size + char):
        escaped = {'"': '\\"', "\\": "\\\\", "\n": "\\n"}.get(char, char)
        assert written(text) == '"' + text.replace(char, escaped) + '"'


# -- names --


@pytest.mark.parametrize(
    "name",
    ["a", "a/b", "a.b/c-d", "a:b", "1", "+", "/", "a//", "->x", "a'b", "#a", "é/漢", "nil", "a?!*"],
)
def test_keyword_names_that_all_readers_read(name: str) -> None:
    assert written(Keyword(name)) == f":{name}"
    assert written({name: 1}) == f"{{:{name} 1}}"
    assert Reader().decode(f":{name}") == name


@pytest.mark.parametrize(
    "name",
    ["", ":a", "a:", "a:/b", "a/b:", "a::b", "/a", "a/", "a/b/c", "a//b", "a/1", "a/٣", "a b",
     "a,b", "a\nb", "a\x00", "a;b", 'a"', "a(", "a]", "a{", "a\\", "a@b", "a`", "a~", "a^",
     "a\xa0b", "a\u2003b", "a\ufeff", "a\x85", "\ud800", "a 1 :admin true"],
)  # fmt: skip
def test_other_names_are_refused_as_keyword_key_symbol_and_tag(name: str) -> None:
    beside_another = {name: 1, 5: 2}
    for value in (Keyword(name), beside_another, {Keyword(name): 1}, Symbol(name), Tagged(name, 1)):
        assert str(refusal(value)).startswith("expected ")
    assert written(StrDict({name: 1})).startswith('{"')
    assert written({name: 1}) == written(StrDict({name: 1}))


@pytest.mark.parametrize("name", ["nil", "true", "false", "1a", "-1", "+٣", "#a", "1"])
def test_symbols_that_read_as_something_else_are_refused(name: str) -> None:
    refusal(Symbol(name))


@pytest.mark.parametrize("tag", ["-a", "漢", "nil", "a b", "_", 1, None])
def test_tags_that_not_every_reader_takes_are_refused(tag: Any) -> None:
    refusal(Tagged(tag, 1))


def test_refused_key_names_the_type_that_would_write_it() -> None:
    assert "StrDict" in str(refusal({"bob smith": 1, Keyword("bob"): 2}))


def test_many_names_pass_through_the_bounded_cache() -> None:
    names = [f"name-{n}" for n in range(5000)]
    for _ in range(2):
        assert written(dict.fromkeys(names, 1)) == (
            "{" + ", ".join(f":{name} 1" for name in names) + "}"
        )


@pytest.mark.parametrize("first", ["a", "é", "a/b", "漢/漢"])
def test_names_of_every_length_are_whole_as_key_and_as_value(first: str) -> None:
    for size in range(300):
        for _ in range(3):  # checked, then known by its text, then by itself
            name = "".join([first, "x" * size])
            assert written({name: Keyword(name)}) == f"{{:{name} :{name}}}"
            assert written([{name: 1, "y": 2}] * 2) == f"[{{:{name} 1, :y 2}} {{:{name} 1, :y 2}}]"


def test_a_key_that_looks_like_a_known_name_is_still_checked() -> None:
    class Sly(str):
        def __hash__(self) -> int:
            return hash("known")

        def __eq__(self, other: object) -> bool:
            return True

    assert written({"known": 1}) == "{:known 1}"
    refusal({Sly("un known"): 1})
    refusal(Keyword("known "))


# -- #uuid --


@given(st.uuids())
def test_uuids_are_written_in_lower_case(value: UUID) -> None:
    assert written(value) == f'#uuid "{value}"'
