"""The npm package of js/, as a program gets it: packed, installed in an empty folder, and built.

The tools are those of js/test/package.json, which test_js.py installs. Nothing is fetched for the
empty folder. Next and SvelteKit resolve a package as Vite and Node do here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest
from dist_content import ROOT
from test_js import BIN, JS, LIMIT, node, packages

__all__ = ["node", "packages"]  # fixtures

MODULES = ("chansock", "json", "msgpack")
MAIN = """
import { connect, type Client } from "chansock";
import { json } from "chansock/json";
import { msgpack } from "chansock/msgpack";

type FromServer = { "chat/said": { from: string; text: string } };
type ToServer = { "math/double": (data: number) => number };

export const client: Client<FromServer, ToServer> = connect<FromServer, ToServer>("/chsk");
client.on("chat/said", ({ from, text }) => console.log(from.length, text.length));
export const double = async (n: number): Promise<number> =>
  client.send("math/double", n, { timeout: 5 });
console.log(client.state.open, client.state.reason?.kind, json.binary, msgpack.binary);
"""


def run(folder: Path, *command: str | Path) -> str:
    """Run a program in a folder to its end, and return what it printed."""
    npm = {"npm_config_offline": "true", "npm_config_audit": "false", "npm_config_fund": "false"}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **npm},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def npm() -> str:
    found = shutil.which("npm")
    assert found is not None, "expected npm on PATH, beside node, got none"
    return found


def test_package_has_the_version_and_the_license_of_the_project() -> None:
    package = json.loads((JS / "package.json").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in ("name", "version", "license"):
        assert package[name] == project[name]
    assert (JS / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.fixture
def installed(node: str, packages: None, tmp_path: Path) -> Path:
    """An empty folder in which the packed package is installed, and a program that uses it."""
    name = run(JS, npm(), "pack", "--silent", "--pack-destination", tmp_path).strip()
    with tarfile.open(tmp_path / name) as packed:
        names = {Path(each).relative_to("package").as_posix() for each in packed.getnames()}
    files = {f"{module}.{suffix}" for module in MODULES for suffix in ("js", "d.ts")}
    assert names == files | {"package.json", "README.md", "LICENSE"}
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    run(folder, npm(), "install", tmp_path / name)
    (folder / "main.ts").write_text(MAIN)
    (folder / "index.html").write_text('<script type="module" src="/main.ts"></script>')
    return folder


@pytest.mark.slow
def test_package_builds_type_checks_and_loads_without_a_page(installed: Path, node: str) -> None:
    for how in (("nodenext", "nodenext"), ("esnext", "bundler")):
        options = ("--strict", "--noEmit", "--target", "es2022", "--lib", "es2022,dom")
        resolution = ("--module", how[0], "--moduleResolution", how[1])
        run(installed, BIN / "tsc", *options, *resolution, "main.ts")
    run(installed, BIN / "vite", "build")
    assert list((installed / "dist" / "assets").glob("*.js"))
    run(installed, BIN / "vite", "build", "--ssr", "main.ts", "--outDir", "server")
    closed = "false not-opened false true\n"
    assert run(installed, node, "server/main.js") == closed  # chansock stays an import there
    inline = ("--ssr", "main.ts", "--outDir", "inline")
    (installed / "vite.config.js").write_text("export default { ssr: { noExternal: true } };")
    run(installed, BIN / "vite", "build", *inline)
    assert run(installed, node, "inline/main.js") == closed


@pytest.mark.slow
def test_bundle_of_the_reader_alone_has_no_client(installed: Path, node: str) -> None:
    (installed / "main.ts").write_text('import { read } from "chansock"; console.log(read("[1]"));')
    run(installed, BIN / "vite", "build")
    (bundle,) = (installed / "dist" / "assets").glob("*.js")
    text = bundle.read_text()
    assert "#inst" in text or "expected" in text
    assert "handshake" not in text
