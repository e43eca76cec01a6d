"""What is shipped: the content of sdist and wheel, the public names, the marks of typing."""

from __future__ import annotations

import importlib
import os
import pydoc
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import pytest
from dist_content import ROOT, elf_sections, sdist_faults, sources, wheel_faults

import chansock

EXT_SUFFIX: str = sysconfig.get_config_var("EXT_SUFFIX")
PUBLIC = [
    "ALL",
    "ANONYMOUS",
    "LATER",
    "ChannelClosed",
    "ChannelSocket",
    "ChansockError",
    "Config",
    "ConfigError",
    "EdnDecodeError",
    "EncodeError",
    "EdnError",
    "EventMsg",
    "HandshakeRefused",
    "InvalidEvent",
    "ReplyError",
    "ReplyTimeout",
    "Request",
    "Response",
    "connect",
    "run",
    "serve",
]


def test_the_door_shows_the_public_names() -> None:
    assert set(PUBLIC) <= set(chansock.__all__)
    assert [name for name in chansock.__all__ if not hasattr(chansock, name)] == []


def in_a_fresh_python(code: str) -> str:
    """Return what the code prints where chansock was not imported yet."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    return done.stdout


def test_importing_chansock_imports_none_of_its_modules() -> None:
    loaded = "[name for name in sys.modules if name.startswith('chansock.')]"
    assert in_a_fresh_python(f"import sys, chansock; print({loaded})") == "[]\n"


@pytest.mark.parametrize(
    ("name", "other"), [("ChannelSocket", "client"), ("serve", "client"), ("connect", "server")]
)
def test_a_server_does_not_import_the_client_nor_a_client_the_server(name: str, other: str) -> None:
    code = f"import sys, chansock; chansock.{name}; print('chansock.{other}' in sys.modules)"
    assert in_a_fresh_python(code) == "False\n"


def test_each_public_name_is_imported_from_one_module() -> None:
    modules = {name for name in chansock.__all__ if name in chansock._MODULES}
    assert set(chansock.__all__) - modules == set(chansock._HOMES)
    assert len(chansock._HOMES) == sum(map(len, chansock._EXPORTS.values()))
    assert set(dir(chansock)) == {*chansock.__all__, *chansock._MODULES, "__version__"}


def test_what_no_application_catches_is_not_exported() -> None:
    for name in ("PeerError", "FrameError", "PacketError", "EdnEncodeError"):
        assert not hasattr(chansock, name)
    assert issubclass(chansock.packers.PacketError, chansock.ChansockError)


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("aiohttp", "setup"),
        ("django", "channel"),
        ("testing", "World"),
        ("uvicorn", "WebSocketProtocol"),
    ],
)
def test_a_module_for_one_framework_is_imported_when_it_is_used(name: str, member: str) -> None:
    code = (
        "import sys, chansock\n"
        f"assert 'chansock.{name}' not in sys.modules\n"
        f"print(chansock.{name}.{member}.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.stdout, done.stderr) == (f"{member}\n", "")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'chansock' has no attribute 'fastapi'"):
        chansock.fastapi


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ALL", "every client, anonymous ones included"),
        ("ANONYMOUS", "every client without a user id"),
        ("LATER", "return chansock.LATER"),
    ],
)
def test_help_says_what_a_constant_is_for(name: str, text: str) -> None:
    assert text in pydoc.plain(pydoc.render_doc(getattr(chansock, name)))


@pytest.mark.parametrize("settings", [chansock.Config, chansock.Compression])
def test_help_describes_every_setting(settings: type[chansock.Config]) -> None:
    shown = pydoc.plain(pydoc.render_doc(settings))
    missing = [f.name for f in fields(settings) if not re.search(rf"\b{f.name}: [A-Z0-9]", shown)]
    assert missing == []


def test_help_shows_no_setting_of_a_default_config() -> None:
    assert "= Config()" in pydoc.plain(pydoc.render_doc(chansock.ChannelSocket))
    assert repr(chansock.Config(max_threads=4)) == "Config(max_threads=4)"


def test_what_a_module_exports_exists() -> None:
    for path in sources(".py"):
        if path.endswith("__main__.py"):
            continue
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"{path} exports {name}"


def test_the_script_of_the_package_is_there() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "scripts"
    ]
    assert list(scripts) == ["chansock"]
    module, _, name = scripts["chansock"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_each_compiled_module_has_a_stub() -> None:
    stubs = {path.removesuffix(".pyi") for path in sources(".pyi")}
    assert {path.removesuffix(".pyx") for path in sources(".pyx")} <= stubs


def test_the_package_is_marked_as_typed() -> None:
    assert "chansock/py.typed" in sources(".typed")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and the sdist from a copy of the source tree, and return their folder.

    What was built in place is copied too, and not compiled again: ci/wheel.sh shows that an sdist
    builds from nothing.
    """
    pytest.importorskip("Cython")
    if int(version("setuptools").split(".")[0]) < 77:
        pytest.skip("setuptools is older than pyproject.toml asks for")
    hidden = (".git", ".venv*", ".*_cache", ".hypothesis", ".benchmarks")
    unwanted = shutil.ignore_patterns(*hidden, "__pycache__", "*.egg-info", "dist", "node_modules")
    tree = tmp_path_factory.mktemp("package") / "tree"
    shutil.copytree(ROOT, tree, ignore=unwanted)
    for module in (tree / "chansock" / "_fast").rglob("*" + EXT_SUFFIX):
        built = tree / "lib" / module.relative_to(tree)
        built.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(module, built)
    # The wheel first: setuptools compiles everything again after an sdist.
    wheel = ("build", "--build-lib", "lib", "bdist_wheel", "--dist-dir", "dist")
    command = [sys.executable, "setup.py", "-q", *wheel, "sdist", "--dist-dir", "dist"]
    subprocess.run(command, cwd=tree, check=True, timeout=600)
    return tree / "dist"


@pytest.mark.slow
def test_the_sdist_carries_what_builds_and_tests_it(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    assert sdist_faults(sdist) == []


@pytest.mark.slow
def test_the_wheel_carries_modules_stubs_and_no_sources(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    assert wheel_faults(wheel) == []
    site = tmp_path / "site"
    shutil.unpack_archive(wheel, site, "zip")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "browser_offer.py", ROOT / "js"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith(f"{site / 'chansock'} offers ['chansock.js'")
    assert done.returncode == 0
    run_with_fixtures(site)


def run_with_fixtures(site: Path) -> None:
    """pytest finds the fixtures by the entry point; asked for none, it imports no chansock."""
    (site.parent / "test_it.py").write_text(
        "import sys\n\n"
        "def test_none():\n"
        "    assert 'chansock' not in sys.modules\n\n"
        "def test_some(chsk_connect):\n"
        "    assert chsk_connect('alice').uid == 'alice'\n"
    )
    (site.parent / "conftest.py").write_text(
        "import pytest\n\n"
        "@pytest.fixture\n"
        "def chsk():\n"
        "    import chansock\n"
        "    return chansock.ChannelSocket()\n"
    )
    for options in ([], ["-p", "pytest_chansock"]):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-W",
                "error",
                "-p",
                "no:asyncio",
                "-c",
                os.devnull,
                *options,
                "test_it.py",
            ],
            cwd=site.parent,
            env={"PYTHONPATH": str(site)},
            stdout=subprocess.PIPE,
            text=True,
            timeout=120,
        )
        assert "3 passed" in done.stdout, done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF")
def test_the_modules_have_no_debug_information() -> None:
    built = sorted((ROOT / "chansock" / "_fast").rglob("*" + EXT_SUFFIX))
    if not built or os.environ.get("CHANSOCK_DEBUG"):
        pytest.skip("nothing was built here, or with CHANSOCK_DEBUG")
    for module in built:
        sections = elf_sections(module.read_bytes())
        assert ".text" in sections
        assert [name for name in sections if name.startswith(".debug_")] == [], module.name


PYENVS = {"none": "", "old ones": "2.7.18\n3.6.15", "others": "pypy3.11-7.3\n3.13t-dev"}


@pytest.mark.parametrize("case", PYENVS)
def test_without_a_python_of_pyenvs_the_scripts_go_on_with_the_one_found(
    case: str, tmp_path: Path
) -> None:
    pyenv = tmp_path / "pyenv"
    pyenv.write_text(f"#!/bin/sh\nprintf '%s\\n' '{PYENVS[case]}'\n")
    pyenv.chmod(0o755)
    python = tmp_path / "python3"
    python.symlink_to(sys.executable)
    script = (
        "set -euo pipefail; . ci/lib.sh; unset PYTHON; found=$(pyenv_pythons); "
        'echo "pyenv: $found"; find_python'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, f"pyenv: \n{python}\n"), done.stderr
