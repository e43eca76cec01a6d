"""Who may import whom, and how long a file may get.

The table is the architecture (docs/ARCHITECTURE.md): a module that has no place in it
fails here, and gets one in the commit that adds it. Sources are read as text, so that
nothing needs to be built; `import`, `from`, `cimport`, and the stubs count alike.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "chansock"

# A name stands for the module and for all below it. Within a row of `ACYCLIC` modules may
# import each other without a cycle; within another, only what belongs to the same name.
ROWS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "values",
        "target",
        "config",
        "request",
        "clock",
        "stats",
        "_core.log_limit",
        "_fast.http.request",
        "_fast.io.tasks",
    ),
    ("_fast",),
    (
        "edn",
        "_core",
        "_core.event",
        "_core.wire",
        "_core.request_fields",
        "_core.subprotocol",
        "_core.converters",
        "_core.frameworks",
        "_core.conversion",
        "_core.annotation",
        "packers",
    ),
    (
        "_core.backplane",
        "_core.engine",
        "_core.order",
        "_core.packing",
        "_core.envelope",
        "_core.cluster_keys",
        "_core.presence",
        "_core.guard",
        "_core.posts",
        "_core.session_state",
        "_core.session",
        "_core.session_table",
        "_core.keep_alive",
        "_core.hub",
        "_core.delivery",
        "_core.cluster",
        "_core.homes",
        "_core.lending",
        "_core.shared_presence",
        "_core.handlers",
        "_core.resume",
        "_core.endpoint",
    ),
    ("channel", "backplanes", "routing", "csrf", "_edge", "workers"),
    ("server", "asgi", "uvicorn", "aiohttp", "django", "client"),
    ("", "__main__", "cli", "testing"),
)
ACYCLIC = {0, 2, 3, 4, 6}
# A wing of the engine, and those that it may import.
WINGS: dict[str, set[str]] = {
    "io": set(),
    "http": {"io"},
    "ws": {"io"},
    "edn": {"io"},
    "msgpack": {"io", "edn"},
    "events": {"io", "http", "ws", "edn", "msgpack"},
}
# Within a wing, each stage may import those before it, and its own without a cycle.
STAGES: dict[str, tuple[tuple[str, ...], ...]] = {
    "io": (
        ("cpython_api", "flag", "buffer", "transport", "timers", "tasks"),
        ("socket", "epoll"),
    ),
    "http": (("request",), ("request_reader",)),
    "ws": (("frames",),),
    "edn": (("reader",), ("writer",)),
    "msgpack": (("writer",), ("reader",)),
    "events": (("packet",), ("msgpack_packet",), ("fanout",), ("dispatch",), ("server_protocol",)),
}
MAX_EXTENSIONS = 18  # each costs time to build, to link, and to import
EDGE_USES_EDGE = {("django", "asgi")}
CLIENT_ROWS = 2  # the client knows no server: words, engine, codecs

# frameworks are imported only inside the module that is about them
OWN_MODULE = {
    "aiohttp": "aiohttp",
    "django": "django",
    "starlette": "asgi",
    "uvicorn": "uvicorn",
    "uvicorn_worker": "uvicorn",
}
NOT_IN_THE_ENGINE = {"aiohttp", "django", "starlette", "uvicorn", "uvloop"}
OPTIONAL = {  # may be imported in a function
    "aiohttp",
    "django",
    "starlette",
    "uvicorn",
    "uvicorn_worker",
    "uvloop",
    "aiofastnet",
    "redis",
    "hiredis",
    "msgspec",
    "pydantic",
    "python_socks",
}

# Upward, where a stub alone does it: nothing is imported, and users see the type.
TYPED = {
    (".pyi", "_fast.events.dispatch", "channel"),  # `msg.chsk`
    (".pyi", "_fast.io.transport", "_fast.events.packet"),  # what `write` takes
}
MAX_LINES = {".py": 400, ".pyi": 400, ".pyx": 600, ".pxi": 600, ".pxd": 400}


@dataclass(frozen=True, slots=True)
class Import:
    module: str  # who imports: dotted, without "chansock."; "" is the package itself
    target: str  # what: dotted, in full
    line: int
    in_function: bool
    is_typing: bool  # under `if TYPE_CHECKING`


def modules(package: Path) -> dict[str, list[Path]]:
    """Map each module to its sources: `_fast.ws.frames` to frames.pyx, .pxd, .pyi, and its parts.

    A part is a .pxi that a .pyx includes; a part that nothing includes counts as a module.
    """
    found: dict[str, list[Path]] = {}
    owners: dict[Path, list[str]] = {}
    for path in sorted(package.rglob("*")):
        if path.suffix in MAX_LINES:
            module = module_of(path, package)
            if path.suffix == ".pyx":
                for part, _ in includes(path):
                    owners.setdefault(part, []).append(module)
            if path.suffix != ".pxi":
                found.setdefault(module, []).append(path)
    for path in sorted(package.rglob("*.pxi")):
        for module in owners.get(path, [module_of(path, package)]):
            found.setdefault(module, []).append(path)
    return found


def module_of(path: Path, package: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def includes(path: Path) -> Iterator[tuple[Path, int]]:
    """The parts that a .pyx includes, and where."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if match := re.match(r'include "(.+)"$', line):
            yield Path(os.path.normpath(path.parent / match[1])), number


def imports(module: str, path: Path) -> Iterator[Import]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".pyx":
        for part, line in includes(path):  # a wing includes parts of its own, or of a lower wing
            if part.parent != path.parent:
                wing = f"chansock._fast.{part.parent.name}"
                yield Import(module, wing, line, in_function=False, is_typing=False)
    read = python_imports if path.suffix in {".py", ".pyi"} else cython_imports
    for base, level, names, line, in_function, is_typing in read(text):
        prefix = ""
        if level:
            here = ["chansock", *filter(None, module.split("."))]
            keep = len(here) - level + (path.stem == "__init__")
            prefix = ".".join(here[:keep])
        origin = ".".join(filter(None, (prefix, base)))
        for name in names or [""]:
            target = ".".join(filter(None, (origin, name)))
            yield Import(module, target, line, in_function, is_typing)


# base, level of dots, names, line, in a function, for types alone
Found = tuple[str, int, list[str], int, bool, bool]


def python_imports(text: str) -> Iterator[Found]:
    tree = ast.parse(text)
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    inner = within(tree, lambda node: isinstance(node, functions))
    typing = within(
        tree, lambda node: isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    )
    for node in ast.walk(tree):
        marks = id(node) in inner, id(node) in typing
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, 0, [], node.lineno, *marks
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            yield node.module or "", node.level, names, node.lineno, *marks


def within(tree: ast.AST, is_outer: Callable[[ast.AST], bool]) -> set[int]:
    """The ids of all nodes that stand in a node of some kind."""
    return {id(node) for outer in ast.walk(tree) if is_outer(outer) for node in ast.walk(outer)}


FROM = re.compile(r"from\s+(\.*)([\w.]*)\s+c?import\s+(.+)$", re.DOTALL)
PLAIN = re.compile(r"c?import\s+(.+)$", re.DOTALL)
FUNCTION = re.compile(r"(async\s+)?def\s|cpdef\s|cdef\s[^=]*\)[^)]*:\s*(#.*)?$")


def cython_imports(text: str) -> Iterator[Found]:
    lines = re.sub(r'"""(?:.|\n)*?"""', lambda m: "\n" * m[0].count("\n"), text).split("\n")
    functions: list[int] = []  # the indents of the functions that are open here
    index = 0
    while index < len(lines):
        number = index + 1
        line = lines[index].split("#")[0]
        index += 1
        statement = line.strip()
        if not statement:
            continue
        indent = len(line) - len(line.lstrip())
        functions = [outer for outer in functions if outer < indent]
        if FUNCTION.match(statement):
            functions.append(indent)
        if not re.match(r"(from|c?import)\s", statement):
            continue
        while statement.count("(") > statement.count(")") or statement.endswith("\\"):
            statement = statement.rstrip("\\") + " " + lines[index].split("#")[0].strip()
            index += 1
        if match := FROM.match(statement):
            names = [name.split()[0] for name in match[3].strip("() ").split(",") if name.strip()]
            yield match[2], len(match[1]), names, number, bool(functions), False
        elif match := PLAIN.match(statement):
            for name in match[1].split(","):
                yield name.split()[0], 0, [], number, bool(functions), False


def place(module: str) -> tuple[int, str] | None:
    """The row of a module and the name in it that the module stands under."""
    best: tuple[int, str] | None = None
    for row, names in enumerate(ROWS):
        for name in names:
            is_under = module == name or (name and module.startswith(name + "."))
            if is_under and (best is None or len(name) > len(best[1])):
                best = row, name
    return best


def is_engine(module: str) -> bool:
    return module == "_fast" or module.startswith("_fast.")


def stage(module: str) -> tuple[str, int] | None:
    """The wing of a module of the engine, and its stage there; a package itself before all."""
    wing, _, name = module.removeprefix("_fast").removeprefix(".").partition(".")
    if not name:
        return (wing, -1) if not wing or wing in WINGS else None
    stages = STAGES.get(wing, ())
    return next(((wing, i) for i, rooms in enumerate(stages) if name in rooms), None)


def resolve(target: str, known: dict[str, list[Path]]) -> str | None:
    """The module of ours that an import reaches; None for someone else's."""
    parts = target.split(".")
    if parts[0] != "chansock":
        return None
    parts = parts[1:]
    while parts and ".".join(parts) not in known:
        parts = parts[:-1]
    return ".".join(parts)


def violations(package: Path) -> list[str]:
    known = modules(package)
    found: list[str] = []
    edges: dict[str, set[str]] = {module: set() for module in known}
    for module, paths in known.items():
        here = place(module)
        if here is None or (is_engine(module) and stage(module) is None):
            found.append(f"chansock.{module} has no place in the table of layers")
            continue
        for path in paths:
            for item in imports(module, path):
                where = f"{path.relative_to(package.parent)}:{item.line}"
                outside = item.target.split(".")[0]
                if item.in_function and outside not in OPTIONAL:
                    found.append(f"{where} imports {item.target} inside a function")
                reached = resolve(item.target, known)
                if reached is None:
                    if outside in OWN_MODULE and here[1] != OWN_MODULE[outside]:
                        found.append(f"{where} imports {outside} outside of its own module")
                    if outside in NOT_IN_THE_ENGINE and is_engine(module):
                        found.append(
                            f"{where} imports {outside}; the engine is handed what it uses"
                        )
                elif reached != module and (path.suffix, module, reached) not in TYPED:
                    theirs = place(reached)
                    # Within a package, a type alone may point back: nothing depends on it.
                    if not item.is_typing or theirs is None or theirs[1] != here[1]:
                        edges[module].add(reached)
                    if not is_allowed(module, reached):
                        found.append(f"{where} imports chansock.{reached}, which is no lower layer")
    found += [" -> ".join(ring) + " is a cycle" for ring in cycles(edges)]
    return list(dict.fromkeys(found))  # once, however many names a line imports


def is_allowed(module: str, reached: str) -> bool:
    mine, theirs = place(module), place(reached)
    if mine is None or theirs is None:
        return False
    if is_engine(module) and is_engine(reached):
        before, after = stage(reached), stage(module)
        if before is None or after is None:
            return False
        if before[0] != after[0]:
            return before[0] in WINGS.get(after[0], ())
        return before[1] <= after[1]
    if mine[1] == theirs[1]:
        return True  # rooms of one package; a cycle among them is found apart
    if mine[1] == "client" and theirs[0] > CLIENT_ROWS:
        return False
    if theirs[0] == mine[0]:
        return mine[0] in ACYCLIC or (mine[1], theirs[1]) in EDGE_USES_EDGE
    return theirs[0] < mine[0]


def cycles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Each cycle once, as the modules along it."""
    rings: list[list[str]] = []
    done: set[str] = set()

    def walk(module: str, trail: list[str]) -> None:
        if module in trail:
            rings.append([*trail[trail.index(module) :], module])
            return
        if module in done:
            return
        for following in sorted(edges.get(module, ())):
            walk(following, [*trail, module])
        done.add(module)

    for module in sorted(edges):
        walk(module, [])
    return rings


def test_every_import_reaches_a_lower_layer() -> None:
    assert violations(PACKAGE) == []


def planted(tmp_path: Path, files: dict[str, str]) -> list[str]:
    package = tmp_path / "chansock"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return violations(package)


def test_an_upward_import_is_caught(tmp_path: Path) -> None:
    files = {"errors.py": "", "target.py": "", "_core/hub.py": "", "channel.py": ""}
    assert planted(tmp_path, files | {"_core/hub.py": "from chansock.errors import X\n"}) == []
    for line in (
        "from chansock.channel import X",
        "import chansock.channel",
        "from ..channel import X",
    ):
        (found,) = planted(tmp_path, files | {"_core/hub.py": line + "\n"})
        assert found == "chansock/_core/hub.py:1 imports chansock.channel, which is no lower layer"


def test_the_core_that_imports_what_edges_share_is_caught(tmp_path: Path) -> None:
    files = {"_edge/http1.py": "import chansock._core.wire\n", "_core/wire.py": ""}
    files |= {"_edge/sockets.py": "from chansock.channel import X\n", "channel.py": ""}
    assert planted(tmp_path, files) == []
    (found,) = planted(tmp_path, {"_core/posts.py": "from chansock._edge import http1\n"})
    assert found.startswith("chansock/_core/posts.py:1 imports chansock._edge.http1")


def test_an_import_of_the_package_itself_is_upward(tmp_path: Path) -> None:
    (found,) = planted(tmp_path, {"__init__.py": "", "edn.py": "import chansock\n"})
    assert found.startswith("chansock/edn.py:1 imports chansock.,")


def test_an_upward_cimport_is_caught(tmp_path: Path) -> None:
    files = {
        "_fast/io/buffer.pyx": '"""from chansock._fast.ws.frames cimport Parser"""\n',
        "_fast/ws/frames.pyx": "from chansock._fast.io.buffer cimport (\n    Span,\n    Tail,\n)\n",
        "_fast/events/packet.pxd": "from chansock._fast.events.dispatch cimport Inbox\n",
        "_fast/events/dispatch.pyx": "from libc.string cimport memcpy\n",
        "_fast/events/dispatch.pyi": "from chansock._core.hub import Hub\n",
        "_core/hub.py": "",
    }
    assert sorted(planted(tmp_path, files)) == [
        "chansock/_fast/events/dispatch.pyi:1 imports chansock._core.hub, which is no lower layer",
        "chansock/_fast/events/packet.pxd:1 imports chansock._fast.events.dispatch, "
        "which is no lower layer",
    ]


def test_an_import_of_a_wing_that_is_not_below_is_caught(tmp_path: Path) -> None:
    files = {
        "_fast/io/socket.pyx": "from chansock._fast.http cimport request\n",
        "_fast/http/request.pyx": "from chansock._fast.io.buffer cimport Span\n",
        "_fast/io/buffer.pyx": "",
        "_fast/edn/reader.pyx": "from chansock._fast.ws.frames import frame\n",
        "_fast/ws/frames.pyx": "",
    }
    assert sorted(planted(tmp_path, files)) == [
        "chansock/_fast/edn/reader.pyx:1 imports chansock._fast.ws.frames, which is no lower layer",
        "chansock/_fast/io/socket.pyx:1 imports chansock._fast.http.request, "
        "which is no lower layer",
    ]


def test_a_part_has_the_place_of_the_modules_that_include_it(tmp_path: Path) -> None:
    files = {
        "_fast/io/buffer.pyx": 'include "spans.pxi"\n',
        "_fast/io/spans.pxi": "from chansock._fast.ws.frames cimport Parser\n",
        "_fast/ws/frames.pyx": 'include "accept.pxi"\n',
        "_fast/ws/accept.pxi": "from chansock._fast.io.transport cimport Link\n",
        "_fast/io/transport.pyx": "",
    }
    assert planted(tmp_path, files) == [
        "chansock/_fast/io/spans.pxi:1 imports chansock._fast.ws.frames, which is no lower layer"
    ]


def test_a_part_of_a_wing_that_is_not_below_is_caught(tmp_path: Path) -> None:
    files = {
        "_fast/edn/__init__.py": "",
        "_fast/edn/writer.pyx": 'include "values.pxi"\n',
        "_fast/edn/values.pxi": "",
        "_fast/msgpack/writer.pyx": 'include "../edn/values.pxi"\n',
        "_fast/io/socket.pyx": 'include "../edn/values.pxi"\n',
    }
    assert planted(tmp_path, files) == [
        "chansock/_fast/io/socket.pyx:1 imports chansock._fast.edn, which is no lower layer"
    ]


def test_a_part_that_nothing_includes_is_caught(tmp_path: Path) -> None:
    assert planted(tmp_path, {"_fast/edn/misc.pxi": ""}) == [
        "chansock._fast.edn.misc has no place in the table of layers"
    ]


def test_a_framework_in_the_engine_is_caught(tmp_path: Path) -> None:
    files = {"_fast/events/server_protocol.pyx": "import httptools\n\nimport uvloop\n"}
    (found,) = planted(tmp_path, files)
    assert found == (
        "chansock/_fast/events/server_protocol.pyx:3 imports uvloop; "
        "the engine is handed what it uses"
    )


def test_a_cycle_within_a_row_is_caught(tmp_path: Path) -> None:
    files = {
        "_core/hub.py": "from chansock._core import presence\n",
        "_core/presence.py": "from chansock._core.hub import Hub\n",
        "_core/__init__.py": "",
    }
    assert planted(tmp_path, files) == ["_core.hub -> _core.presence -> _core.hub is a cycle"]


def test_a_type_may_point_back_within_a_package_alone(tmp_path: Path) -> None:
    back = "if TYPE_CHECKING:\n    from chansock.testing.world import World\n"
    files = {"testing/world.py": "from chansock.testing.ws import Ws\n", "testing/ws.py": back}
    assert planted(tmp_path, files) == []
    (found,) = planted(tmp_path, files | {"edn.py": back})
    assert found == "chansock/edn.py:2 imports chansock.testing.world, which is no lower layer"


def test_an_edge_that_uses_another_edge_is_caught(tmp_path: Path) -> None:
    files = {"server.py": "", "asgi.py": "import chansock.server\n", "django.py": ""}
    files |= {
        "django.py": "from chansock import asgi\n",
        "client/__init__.py": "",
        "__init__.py": "",
    }
    assert planted(tmp_path, files) == [
        "chansock/asgi.py:1 imports chansock.server, which is no lower layer"
    ]


def test_a_client_that_uses_the_core_is_caught(tmp_path: Path) -> None:
    files = {"_core/hub.py": "", "edn.py": "", "client/state.py": ""}
    files |= {"client/link.py": "import chansock.edn\nimport chansock.client.state\n"}
    assert planted(tmp_path, files) == []
    (found,) = planted(tmp_path, files | {"client/link.py": "import chansock._core.hub\n"})
    assert found.startswith("chansock/client/link.py:1 imports chansock._core.hub")


def test_a_framework_outside_of_its_module_is_caught(tmp_path: Path) -> None:
    files = {"aiohttp.py": "from aiohttp import web\n", "client/ws.py": "import ssl\n"}
    assert planted(tmp_path, files) == []
    assert len(planted(tmp_path, files | {"server.py": "import aiohttp\n"})) == 1


def test_an_import_inside_a_function_is_caught(tmp_path: Path) -> None:
    text = "def run():\n    import uvloop\n    import json\n"
    files = {
        "server.py": text,
        "_fast/io/timers.pyx": "cdef int go(int n) except -1:\n    import json\n",
    }
    assert sorted(planted(tmp_path, files)) == [
        "chansock/_fast/io/timers.pyx:2 imports json inside a function",
        "chansock/server.py:3 imports json inside a function",
    ]


def test_a_module_without_a_place_is_caught(tmp_path: Path) -> None:
    assert planted(tmp_path, {"util.py": "", "_fast/io/misc.pyx": ""}) == [
        "chansock._fast.io.misc has no place in the table of layers",
        "chansock.util has no place in the table of layers",
    ]


def test_a_long_file_says_in_its_header_why() -> None:
    long: list[str] = []
    for folder in ("chansock", "bench", "ci", "examples"):  # tests: one room, one file
        for path in sorted((ROOT / folder).rglob("*")):
            limit = MAX_LINES.get(path.suffix)
            if limit is None:
                continue
            lines = path.read_text(encoding="utf-8").splitlines()
            header = " ".join(lines[:15])
            if len(lines) > limit and not re.search(rf"past {limit} lines", header):
                long.append(f"{path.relative_to(ROOT)} has {len(lines)} lines, expected {limit}")
    assert long == []


def test_the_engine_has_at_most_18_extension_modules() -> None:
    assert len(list((PACKAGE / "_fast").rglob("*.pyx"))) <= MAX_EXTENSIONS


def test_the_wings_of_the_engine_are_those_of_the_documentation() -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    engine = text.partition("### The engine")[2]
    diagram, _, rest = engine.partition("```mermaid")[2].partition("```")
    drawn: dict[str, set[str]] = {}
    for wing, names in re.findall(r'(\w+)\["\w+/<br>(.+)"\]', diagram):
        drawn[wing] = set(names.split(", "))
    # What every wing uses for its declarations is not drawn.
    assert drawn == {
        wing: {name for stage in stages for name in stage} - {"cpython_api", "flag"}
        for wing, stages in STAGES.items()
    }
    arrows: dict[str, set[str]] = {wing: set() for wing in WINGS}
    for above, below in re.findall(r"^ *([\w& ]+) --> ([\w& ]+)$", diagram, re.MULTILINE):
        for wing in above.split(" & "):
            arrows[wing] |= set(below.strip().split(" & "))
    assert arrows == WINGS
    table = set(re.findall(r"`_fast/(\w+)/(\w+)`", rest))
    assert table == {
        (wing, name) for wing, stages in STAGES.items() for stage in stages for name in stage
    }
