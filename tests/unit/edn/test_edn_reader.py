"""The edn reader against what Clojure's readers answered, and against hostile bytes."""

from __future__ import annotations

import itertools
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from edn_corpus import cases, recorded, text_of, tree
from hypothesis import given
from hypothesis import strategies as st

from chansock._fast.edn.reader import Reader
from chansock.errors import ConfigError, EdnDecodeError
from chansock.values import (
    FrozenDict,
    FrozenStrDict,
    Keyword,
    List,
    StrDict,
    Tagged,
)

CORPUS = cases("corpus.jsonl")

NAMES = "names as tools.reader and ClojureScript read them: one slash, no digit behind it"
MERGED = "Python would merge them"
UTF8 = "invalid UTF-8 is refused, never replaced"
BOM = "a byte order mark at the start is skipped"
JULIAN = "the JVM's calendar is Julian before 1582-10-15, Python's is not"

# Where we differ from clojure.edn, each on purpose.
ON_PURPOSE = {
    "keyword/059": NAMES,
    "keyword/060": NAMES,
    "keyword/063": NAMES,
    "keyword/104": NAMES,
    "symbol/009": NAMES,
    "symbol/010": NAMES,
    "symbol/093": NAMES,
    "tagged/030": NAMES,
    "nsmap/012": "a namespace follows its colon at once, as in tools.reader",
    "map/010": MERGED,
    "map/013": MERGED,
    "map/014": MERGED,
    "map/039": MERGED,
    "map/050": MERGED,
    "set/006": MERGED,
    "set/008": MERGED,
    "set/023": MERGED,
    "set/025": MERGED,
    "inst/050": "Python's years begin at 1",
    "inst/051": JULIAN,
    "inst/052": JULIAN,
    "inst/053": JULIAN,
    "inst/063": JULIAN,
    "whitespace/030": BOM,
    "whitespace/031": BOM,
    "whitespace/032": BOM,
    "whitespace/033": BOM,
    "depth/019": "10,000 `#_` are counted, not nested: no stack to overflow",
    **{f"utf8/{n:03}": UTF8 for n in range(1, 14)},
}


def test_the_table_names_cases_of_the_corpus() -> None:
    assert ON_PURPOSE.keys() <= {case["id"] for case in CORPUS}


def difference(case: dict[str, Any]) -> str | None:
    """Return how our answer differs from clojure.edn's, or None."""
    text = text_of(case)
    try:
        value, end = Reader().decode_one(text)
    except EdnDecodeError as error:
        if "nothing but" not in error.message:
            return f"refused: {error}" if case["valid"] else None
        value, end = None, len(text)
    if not case["valid"]:
        return f"read: {value!r}"
    if text[end:].decode("utf-8", "replace") != case.get("clj_rest", ""):
        return f"rest: {text[end:]!r}"
    wanted = case.get("clj_value")
    if wanted is not None and tree(value) != recorded(wanted):
        return f"value: {value!r}"
    return None


@pytest.fixture(scope="module", autouse=True)
def agreement(request: pytest.FixtureRequest) -> Iterator[None]:
    """Say how much of the corpus agrees when the module's tests are done."""
    yield
    differ = sum(difference(case) is not None for case in CORPUS)
    plugins = request.config.pluginmanager
    reporter, capture = plugins.getplugin("terminalreporter"), plugins.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        reporter.ensure_newline()
        reporter.write_line(
            f"edn corpus: {len(CORPUS) - differ} of {len(CORPUS)} cases agree, "
            f"{differ} differ on purpose"
        )


@pytest.mark.parametrize("case", CORPUS, ids=[case["id"] for case in CORPUS])
def test_reads_as_clojure(case: dict[str, Any]) -> None:
    found = difference(case)
    if case["id"] in ON_PURPOSE:
        assert found is not None, "agrees now: take it out of the table"
    else:
        assert found is None


def read(text: str | bytes, **options: Any) -> Any:
    return Reader(**options).decode(text)


def refusal(text: str | bytes, **options: Any) -> EdnDecodeError:
    with pytest.raises(EdnDecodeError) as caught:
        Reader(**options).decode(text)
    return caught.value


# -- what Python gets --


def test_keyword_keys_are_plain_str_and_other_keywords_keep_their_type() -> None:
    value = read('{:text "hi", :kind :join}')
    assert type(value) is dict
    assert [type(key) for key in value] == [str, str]
    assert type(value["text"]) is str
    assert type(value["kind"]) is Keyword
    assert value == {"text": "hi", "kind": "join"}


def test_one_string_key_makes_a_str_dict_with_keyword_keys_as_keyword() -> None:
    value = read('{:a 1, "b" 2, :c 3}')
    assert type(value) is StrDict
    assert [type(key) for key in value] == [Keyword, str, Keyword]
    assert value == {"a": 1, "b": 2, "c": 3}


def test_string_option_makes_keyword_keys_keyword_and_string_keys_str() -> None:
    value = read('{:a 1, "b" 2, #:n{:x 1} 3}', keys="string")
    assert type(value) is dict
    assert [type(key) for key in value] == [Keyword, str, FrozenDict]
    assert [type(key) for key in list(value)[2]] == [Keyword]


def test_hashed_places_hold_immutable_twins_all_the_way_down() -> None:
    value = read('#{[{:a [1]} #{[2]} (3)] {"a" {"b" [4]}}}')
    vector = next(member for member in value if type(member) is tuple)
    strings = next(member for member in value if type(member) is FrozenStrDict)
    assert [type(member) for member in vector] == [FrozenDict, frozenset, List]
    assert vector == ({"a": (1,)}, {(2,)}, (3,))
    assert type(strings["a"]) is FrozenStrDict
    assert isinstance(strings, StrDict)


# -- readers --


def test_reader_functions_are_called_with_the_value_and_by_tag() -> None:
    readers = {"my/point": tuple, "inst": str.upper}
    assert read('[#my/point [1 2] #inst "x" #other 1]', readers=readers) == [
        (1, 2),
        "X",
        Tagged("other", 1),
    ]


def test_tags_without_a_reader_may_be_refused() -> None:
    text = '[#inst "2018" #my/tag 1 #_ #other 2]'
    assert read(text, readers={"my/tag": str}, tagged=False)[1:] == ["1"]
    assert refusal(text, tagged=False).position == 14


def test_discarded_tags_call_no_reader_function() -> None:
    calls: list[object] = []
    assert read("[#_ #my/tag 1 2 #_[#my/tag 3]]", readers={"my/tag": calls.append}) == [2]
    assert calls == []


def test_failing_reader_function_is_a_decode_error_with_its_cause() -> None:
    error = refusal('[1 #my/int "x"]', readers={"my/int": int})
    assert error.position == 3
    assert isinstance(error.__cause__ or error.__context__, ValueError)


def test_reader_function_may_read_with_the_same_reader() -> None:
    reader = Reader(readers={"edn": lambda text: reader.decode(text)})
    nested = '[1 #edn "[2 #edn \\"[3 4]\\" 5]" 6]'
    assert reader.decode(nested) == [1, [2, [3, 4], 5], 6]


def test_unhashable_result_of_a_reader_function_is_refused_as_key() -> None:
    error = refusal("#{#l 1}", readers={"l": lambda value: [value]})
    assert (error.position, "unhashable" in error.message) == (2, True)


def test_threads_share_a_reader() -> None:
    reader = Reader(readers={"n": lambda value: value})
    text = "[" + " ".join(f"#n [{n} {{:k{n} #n {n}}}]" for n in range(300)) + "]"
    wanted = reader.decode(text)
    results: list[object] = []
    threads = [
        threading.Thread(target=lambda: results.extend(reader.decode(text) for _ in range(5)))
        for _ in range(4)
    ]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(results) == 20
    assert all(result == wanted for result in results)


# -- what is refused, and where --


@pytest.mark.parametrize(
    ("text", "position", "line", "column"),
    [
        ("", 0, 1, 1),
        (" ;c\n ", 0, 1, 1),
        ("{:a 1 :b}", 8, 1, 9),
        ("[1\n 2)", 5, 2, 3),
        ('["é" x:]', 6, 1, 6),
        ("{:a 1\n :a 2}", 7, 2, 2),
        ("#{1 2 1}", 6, 1, 7),
        ('[1 "abc', 3, 1, 4),
        ('"a\\x"', 2, 1, 3),
        ("[1 2", 0, 1, 1),
        ("[1] 2", 4, 1, 5),
        ("[1/0]", 1, 1, 2),
        ('[#inst "x"]', 1, 1, 2),
        ("[\n\n  @]", 5, 3, 3),
        ("[#_ ]", 1, 1, 2),
        (b'["\xff"]', 2, 1, 3),
        (b"[1 ;\xc3\n]", 4, 1, 5),
        (b"[:a\xe9]", 3, 1, 4),
        ('"\ud800"', 1, 1, 2),
    ],
)
def test_refusals_say_where(text: str | bytes, position: int, line: int, column: int) -> None:
    error = refusal(text)
    assert (error.position, error.line, error.column) == (position, line, column)


MESSAGES = [
    '[[:chat/say {:text "hi \\u00e9 \\" é", :n 1}] "2c4461"]',
    '{:a #{1 2.5 3M 4/5}, "b" (\\a \\newline nil), #:x{:y -1} #inst "2018-01-01"}',
    "[^{:m 1} [##Inf #_ #my/tag 1 a/b] #uuid \"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\"]",
]  # fmt: skip


@pytest.mark.parametrize("text", MESSAGES)
def test_every_prefix_of_a_message_is_refused(text: str) -> None:
    whole = text.encode()
    read(whole)
    for end in range(len(whole)):
        refusal(whole[:end])


@pytest.mark.parametrize("text", [*MESSAGES, "123", ":abc", "abc/def", "\\newline", "1.25", "é"])
def test_nothing_behind_the_end_is_looked_at(text: str) -> None:
    whole = text.encode()
    for end, tail in itertools.product(range(len(whole) + 1), [b"9", b'"', b"]", b"x", b"\x80"]):
        window = memoryview(whole[:end] + tail)[:end]
        assert outcome(window) == outcome(whole[:end])


def outcome(text: bytes | memoryview) -> object:
    try:
        value, end = Reader().decode_one(text)
    except EdnDecodeError as error:
        return error.args
    return tree(value), end


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    outcome(text)


@given(st.lists(st.sampled_from(
    ["{", "}", "[", "]", "(", ")", "#{", "#_", "^", ":a", ":b/c", '"s"', '"', "1", "-", "1/2",
     "2.5M", " ", ",", "\n", ";", "#x ", "#:n", "##NaN", "nil", "\\a", "\\", "é", "#inst", "0",
     '"2018"', "a", "/", ":", "#"]), max_size=25))  # fmt: skip
def test_any_tokens_are_read_or_refused(tokens: list[str]) -> None:
    outcome("".join(tokens).encode())


# -- limits --


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("(", ")"), ("#{", "}"), ("#t ", "")])
def test_depth_is_limited(opening: str, closing: str) -> None:
    read(opening * 500 + "1" + closing * 500)
    error = refusal(opening * 501 + "1" + closing * 501)
    assert error.position == 501 * len(opening)
    assert read(opening * 3 + "1" + closing * 3, max_depth=3)
    refusal(opening * 4 + "1" + closing * 4, max_depth=3)


def test_depth_counts_maps_and_metadata() -> None:
    read("{:a " * 500 + "1" + "}" * 500)
    refusal("{:a " * 501 + "1" + "}" * 501)
    refusal('{"a" ' * 501 + "1" + "}" * 501)
    refusal("^" * 600 + "a " * 600)


def test_deep_keys_that_are_equal_are_compared_or_refused() -> None:
    deep = "[" * 490 + "]" * 490
    assert refusal(f"#{{{deep} {deep}}}").position > 0
    tagged = "#t " * 490 + "1"
    assert refusal(f"#{{{tagged} {tagged}}}").position > 0


@pytest.mark.parametrize("flood", ["#_ " * 100_000 + "1 " * 100_001, "^:a " * 100_000 + "[1]"])
def test_floods_of_prefixes_use_no_stack(flood: str) -> None:
    assert read(flood) in (1, [1])


def test_many_keys_of_one_hash_are_refused() -> None:
    prime = sys.hash_info.modulus
    keys = [str(n * prime) for n in range(33)]
    assert len(read("#{" + " ".join(keys[:32]) + "}")) == 32
    assert len(read("{" + " ".join(f"{key} 1" for key in keys[:32]) + "}")) == 32
    assert "one hash" in refusal("#{" + " ".join(keys) + "}").message
    assert "one hash" in refusal("{" + " ".join(f"{key} 1" for key in keys) + "}").message
    vectors = " ".join(f"[{key}]" for key in keys)
    assert "one hash" in refusal("#{" + vectors + "}").message


def test_ratios_in_keys_and_members_are_bounded_by_the_text() -> None:
    ratios = [f"{2 * n + 1}/2" for n in range(4000)]
    assert len(read(f"[{' '.join(ratios)}]")) == 4000
    assert len(read(f"#{{{' '.join(ratios[:2000])}}}")) == 2000
    for flood in ("#{%s}", "#{[%s]}", "{[%s] 1}", "#{#{-%s}}"):
        error = refusal(flood % " ".join(ratios))
        assert "ratios in keys and members, got more" in str(error)


def nested_sets_of_one_hash(level: int, many: int) -> list[str]:
    if level == 0:
        return [str(n * sys.hash_info.modulus) for n in range(1, many + 2)]
    members = nested_sets_of_one_hash(level - 1, many)
    return [
        f"#{{{' '.join(members[:skip] + members[skip + 1 :])}}}" for skip in range(many, -1, -1)
    ]


def test_sets_of_one_hash_whose_members_have_one_hash_are_bounded() -> None:
    assert len(set(map(frozenset, read(f"[{' '.join(nested_sets_of_one_hash(1, 3))}]")))) == 4
    assert len(read(f"#{{{' '.join(nested_sets_of_one_hash(1, 3))}}}")) == 4
    for level, many in [(2, 12), (3, 6)]:
        text = f"#{{{' '.join(nested_sets_of_one_hash(level, many))}}}"
        assert "soon told apart" in refusal(text).message
        maps = text.replace("#{", "{").replace(" ", " 1 ").replace("}", " 1}")
        assert "soon told apart" in refusal(maps).message


def test_the_edges_of_a_grid_are_no_flood() -> None:
    # hash(-1) == hash(-2), and in the hash of a set two equal ones cancel each other
    edges = " ".join(f"#{{[-1 {y}] [-2 {y}]}}" for y in range(32))
    assert len(read(f"#{{{edges}}}")) == 32


def test_a_namespace_is_not_copied_without_bound() -> None:
    assert [*read(f"#:{'n' * 255}{{:a 1}}")] == ["n" * 255 + "/a"]
    assert "at most 255 bytes, got 256" in refusal(f"#:{'n' * 256}{{:a 1}}").message


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000, "{" * 1_000_000, "#{" * 500_000, "#t " * 300_000, "^" * 1_000_000,
        "{:a " * 300_000, '"' + "x" * 1_000_000, "1" * 1_000_000, "[" + "1" * 1_000_000 + "]",
        "1." + "1" * 1_000_000, "1e" + "1" * 1_000_000, "1" * 1_000_000 + "M",
        "0x" + "f" * 1_000_000, '"' + "\\u00e9" * 150_000 + '"', '"' + "\\né" * 250_000 + '"',
        ":" + "a:" * 500_000 + "a",
        "{" + "".join(f"{n * sys.hash_info.modulus} 1 " for n in range(50_000)) + "}",
        "[" + ("7" * 4300 + "/" + "3" * 4300 + " ") * 100 + "]",
        '#inst "2018-01-01T00:00:00.' + "0" * 1_000_000, "{:a 1 " * 499 + ":a 1 " * 100_000,
    ],
    ids=lambda text: f"{text[:12]}-{len(text)}",
)  # fmt: skip
def test_memory_is_a_small_multiple_of_the_text(text: str) -> None:
    whole = text.encode()
    tracemalloc.start()
    try:
        with suppress(EdnDecodeError):
            Reader().decode(whole)
        assert tracemalloc.get_traced_memory()[1] < 7 * len(whole)
    finally:
        tracemalloc.stop()


def test_many_small_integers_and_floats_are_no_flood() -> None:
    assert len(read("#{" + " ".join(map(str, range(-2000, 2000))) + "}")) == 4000
    assert len(read("#{" + " ".join(f"{n}.5" for n in range(2000)) + "}")) == 2000
    assert len(read("#{" + " ".join(f"[{n}]" for n in range(2000)) + "}")) == 2000


@pytest.mark.parametrize("options", [{"keys": "both"}, {"max_depth": 0}, {"max_depth": 100_000}])
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"expected .*, got"):
        Reader(**options)


def test_text_is_bytes_or_str() -> None:
    assert read("[1]") == read(b"[1]") == read(bytearray(b"[1]")) == read(memoryview(b"[1]"))
    with pytest.raises(TypeError):
        Reader().decode(1)  # type: ignore[arg-type]


def test_one_form_after_another() -> None:
    text = b" 1 [2] ;c\n :x"
    found = []
    pos = 0
    for _ in range(3):
        value, pos = Reader().decode_one(text, pos)
        found.append((value, pos))
    assert found == [(1, 2), ([2], 6), ("x", 13)]
    with pytest.raises(EdnDecodeError):
        Reader().decode_one(text, pos)
    with pytest.raises(ValueError, match="expected 0 to 13, got 14"):
        Reader().decode_one(text, 14)


def test_only_a_mark_at_the_very_start_is_a_byte_order_mark() -> None:
    mark = b"\xef\xbb\xbf"
    assert read(mark + b"[1]") == [1]
    value, end = Reader().decode_one(b" " + mark + b"[1]", 1)
    assert (value, end) == ("\ufeff", 4)
