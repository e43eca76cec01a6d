"""docs/cli.md: its application is served, and each command prints what the page says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import ENVIRONMENT, LIMIT, MODULE_LIMIT, in_terminal, serving
from dist_content import ROOT

from chansock.__main__ import main
from chansock.cli import status

TEXT = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
PAGE_URL = "http://127.0.0.1:8000/chsk"
# (command, what it prints) of each `$` line
RUNS = [
    (command, printed)
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.S)
    for command, printed in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M)
]
SERVE, *OTHERS = RUNS
SESSION = next(run for run in OTHERS if "\n> " in run[1])
SCRIPTS = [run for run in OTHERS if run != SESSION and run[0] != "echo $?"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the page's application by the page's command, on another port."""
    folder = tmp_path_factory.mktemp("page")
    (app,) = re.findall(r"```python\n# app.py\n(.*?)```", TEXT, re.S)
    (folder / "app.py").write_text(app)
    python, m, chansock, _, name, *options = SERVE[0].split()
    assert (python, m, chansock, options) == ("python", "-m", "chansock", ["--port", "8000"])
    with serving(name, "--port=0", cwd=folder, limit=MODULE_LIMIT) as (program, url):
        yield url
        program.send_signal(signal.SIGTERM)
        assert program.wait(LIMIT) == 0


def test_every_command_of_the_page_is_run() -> None:
    commands = re.findall(r"^\$ ", TEXT, re.M)
    assert len(commands) == len(RUNS) == len(SCRIPTS) + 3
    assert SERVE[1] == f"chansock: serving {PAGE_URL} (Ctrl+C ends it)\n"
    assert ("echo $?", "2\n") in OTHERS


def shell(command: str, url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of the page as a shell does, where `python` is the one of the tests."""
    python = folder / "python"  # no symlink, which would leave its virtual environment behind
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return subprocess.run(
        ["sh", "-c", command.replace(PAGE_URL, url)],
        env={**ENVIRONMENT, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.mark.parametrize(("command", "printed"), SCRIPTS)
def test_a_script_prints_what_the_page_says(
    command: str, printed: str, url: str, tmp_path: Path
) -> None:
    done = shell(command, url, tmp_path)
    assert done.stdout == printed
    following = OTHERS[OTHERS.index((command, printed)) + 1 :]
    expected = int(following[0][1]) if following and following[0][0] == "echo $?" else 0
    assert done.returncode == expected


def test_the_session_shows_what_the_page_says(url: str) -> None:
    command, printed = SESSION
    _, _, _, *arguments = command.replace(PAGE_URL, url).split()
    with in_terminal(*arguments) as (program, terminal):
        prompts = 0
        for line in printed.splitlines():
            if line.startswith(">"):
                # Where the prompt stands is not the point: a push moves it to another line.
                prompts += 1
                terminal.wait_for("> ", prompts)
                terminal.type(line[2:] + "\n" if line[2:] else "\x04")
            else:
                terminal.wait_for(line)
        terminal.rest()
        assert program.wait(LIMIT) == 0


@pytest.mark.parametrize("command", ["serve", "connect", "send"])
def test_the_options_of_the_page_are_those_of_the_help(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    offered = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S))
    told = set(re.findall(r"--[a-z][a-z-]+", sections[command]))
    if command != "serve":
        told |= set(re.findall(r"--[a-z][a-z-]+", sections["Options of connect and send"]))
    assert told - {"--param"} == offered - {"--param"}


def test_the_statuses_of_the_page_are_those_of_the_commands() -> None:
    told = {int(number) for number in re.findall(r"^\| (\d+) \|", TEXT, re.M)}
    assert told == {
        status.OK,
        status.CLOSED,
        status.USAGE,
        status.NO_REPLY,
        status.REPLY_ERROR,
        status.INTERRUPTED,
        status.CLOSED_PIPE,
    }
