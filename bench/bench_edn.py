"""How long one message takes to read and to write: edn, and the same value as JSON.

The five messages of bench/data, from a typing notice to a table of 1,000 orders. edn_format
reads and writes the edn; json, orjson and msgspec get JSON of the same shape, in which
keywords are strings. Each answer is checked, against the value or the text, before it is timed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import edn_format
import msgspec
import orjson
import pytest

from chansock import edn

DATA = Path(__file__).parent / "data"
TEXTS = {
    path.stem: path.read_bytes().strip()
    for path in sorted(DATA.glob("*.edn"), key=lambda path: path.stat().st_size)
}
READERS: dict[str, Callable[[bytes], Any]] = {
    "chansock": edn.loads,
    "edn_format": edn_format.loads,
    "json": json.loads,
    "orjson": orjson.loads,
    "msgspec": msgspec.json.Decoder().decode,
}
WRITERS: dict[str, Callable[[Any], bytes | str]] = {
    "chansock": edn.dumps,
    "edn_format": edn_format.dumps,
    "json": json.dumps,
    "orjson": orjson.dumps,
    "msgspec": msgspec.json.Encoder().encode,
}
ROUND = 0.002  # seconds: shorter than a time slice, so that some rounds are left alone
MOST = 0.4  # seconds for all rounds


def as_json(value: Any) -> Any:
    """Return the value without what JSON has no type for: a keyword becomes its name."""
    if isinstance(value, dict | edn_format.ImmutableDict):
        return {as_json(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | edn_format.ImmutableList):
        return [as_json(item) for item in value]
    if isinstance(value, edn_format.Keyword):
        return value.name  # with its namespace
    return str(value) if isinstance(value, str) else value


def material(implementation: str, text: bytes) -> tuple[bytes, Any]:
    """Return the message as this library reads it, and the value that it writes."""
    if implementation in {"chansock", "edn_format"}:
        return text, READERS[implementation](text)
    value = as_json(edn_format.loads(text))
    return json.dumps(value, separators=(",", ":")).encode(), value


def time_it(benchmark: Any, call: Callable[[], object], *, is_quick: bool) -> None:
    start = perf_counter()
    call()
    took = perf_counter() - start
    iterations = max(1, int(ROUND / took))
    rounds = max(5, int((MOST / 10 if is_quick else MOST) / (took * iterations)))
    benchmark.pedantic(call, iterations=iterations, rounds=rounds, warmup_rounds=1)


def label(benchmark: Any, work: str, message: str, implementation: str) -> None:
    benchmark.group = f"{work} {message}, {len(TEXTS[message]):,} bytes of edn"
    benchmark.extra_info.update(
        implementation=implementation,
        payload=len(TEXTS[message]),
        is_correct=True,  # else the check has failed
        is_least=True,  # no other process is asked, so the quickest round is the code's own time
        mean_of=f"{work}: geometric mean of {len(TEXTS)} messages",
    )


@pytest.mark.parametrize("implementation", READERS)
@pytest.mark.parametrize("message", TEXTS)
def test_read(
    benchmark: Any, request: pytest.FixtureRequest, message: str, implementation: str
) -> None:
    text, _ = material(implementation, TEXTS[message])
    read = READERS[implementation]
    assert as_json(read(text)) == as_json(edn_format.loads(TEXTS[message]))
    label(benchmark, "read", message, implementation)
    time_it(benchmark, partial(read, text), is_quick=request.config.getoption("--quick"))


@pytest.mark.parametrize("implementation", WRITERS)
@pytest.mark.parametrize("message", TEXTS)
def test_write(
    benchmark: Any, request: pytest.FixtureRequest, message: str, implementation: str
) -> None:
    _, value = material(implementation, TEXTS[message])
    write = WRITERS[implementation]
    text = write(value)
    assert as_json(READERS[implementation](text)) == as_json(value)
    if implementation == "chansock":
        assert text == TEXTS[message]  # Clojure's own spelling
    label(benchmark, "write", message, implementation)
    time_it(benchmark, partial(write, value), is_quick=request.config.getoption("--quick"))
