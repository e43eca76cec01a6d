"""docs/django.md, followed word by word in an empty folder; its files are those of the example."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from dist_content import ROOT
from django_site import COMMANDS as SERVED
from django_site import command_served
from readme_pair import free_port

import chansock

TEXT = (ROOT / "docs" / "django.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "django"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.M | re.S)
NAMED = re.compile(r"(?:# |<!-- )(\w+/[\w/]+\.(?:py|html))")
COMMANDS = [block.splitlines() for kind, block in BLOCKS if kind == "console"]
FILES = {found[1]: block for _, block in BLOCKS if (found := NAMED.match(block))}
SNIPPETS = [block for kind, block in BLOCKS if kind == "python" and not NAMED.match(block)]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT),
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


def run(command: str, folder: Path) -> str:
    done = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def test_all_blocks_are_found() -> None:
    assert len(FILES) == 9
    assert len(SNIPPETS) == 4
    assert [len(block) for block in COMMANDS] == [3, 3, 4, 1]


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_page_is_that_of_the_example(name: str) -> None:
    text = (EXAMPLE / name).read_text(encoding="utf-8")
    if name == "mysite/settings.py":
        assert text.endswith(FILES[name].partition("\n")[2])
    else:
        assert text == FILES[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do what the page says, up to the server."""
    folder = tmp_path_factory.mktemp("empty")
    install, *begin = COMMANDS[0]
    assert install.startswith("pip install chansock ")
    for command in begin:
        run(command, folder)
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open("a" if name == "mysite/settings.py" else "w", encoding="utf-8") as file:
            file.write(text)
    for command in COMMANDS[1][:-1]:
        run(command, folder)
    return folder


@pytest.fixture(scope="module", params=["uvicorn", "daphne's runserver"])
def port(folder: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    port, command = free_port(), COMMANDS[1][-1]
    if request.param != "uvicorn":
        (setting,) = re.findall(r"`(ASGI_APPLICATION = .*?)`", TEXT)
        with (folder / "mysite" / "settings.py").open("a", encoding="utf-8") as file:
            file.write(f'{setting}\nINSTALLED_APPS.insert(0, "daphne")\n')
        command = "python manage.py runserver --noreload 8000"
    with command_served(command.replace("8000", str(port)), folder, ENVIRONMENT, port):
        yield port


def browser(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=60)  # a password's hash takes its time


async def sign_up(http: httpx.AsyncClient, name: str) -> Any:
    """Fill in the form, and give a client with the cookies of that browser."""
    page = (await http.get("/sign-up/")).text
    (token,) = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    form = {"username": name, "password1": "a long enough one", "password2": "a long enough one"}
    answer = await http.post("/sign-up/", data={**form, "csrfmiddlewaretoken": token})
    assert answer.headers.get("location") == "/", answer.text
    page = (await http.get("/")).text
    (token,) = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in http.cookies.jar)
    return {"csrf_token": token, "headers": {"Cookie": cookies}}


@pytest.mark.slow
def test_two_users_chat(port: int) -> None:
    async def main() -> None:
        url = f"http://127.0.0.1:{port}"
        async with browser(url) as one, browser(url) as two:
            ada = await sign_up(one, f"ada{port}")
            bob = await sign_up(two, f"bob{port}")
            async with (
                chansock.connect(f"{url}/chsk", transport="ws", **ada) as first,
                chansock.connect(f"{url}/chsk", transport="ajax", **bob) as second,
            ):
                said = {"text": "hello"}
                assert (await first.send("chat/say", said, timeout=60))["readers"] >= 1
                async for event in second:
                    if event.id == "chat/said":
                        assert event.data == {"from": f"ada{port}", "text": "hello"}
                        break

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.slow
def test_its_own_tests_pass(folder: Path) -> None:
    assert "Ran 2 tests" in run(COMMANDS[3][0], folder)


CHECKED = """
import django

django.setup()

import chansock
from chat.channel import chsk
from chat.models import Message

{snippet}
assert isinstance(chsk, chansock.ChannelSocket)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs_in_the_project(number: int, folder: Path) -> None:
    (folder / "snippet.py").write_text(CHECKED.format(snippet=SNIPPETS[number]))
    run("env DJANGO_SETTINGS_MODULE=mysite.settings python -W error snippet.py", folder)


def test_the_servers_are_those_that_are_tried() -> None:
    tried = {
        re.sub(r" --(port|bind|log-level|verbosity|lifespan) \S+", "", command)
        for command in SERVED.values()
    }
    words = {frozenset(command.split()) for command in tried}
    assert {frozenset(each.replace("mysite.", "").split()) for each in COMMANDS[2]} == words


@pytest.mark.slow
def test_the_example_is_whole_and_its_own_tests_pass(tmp_path: Path) -> None:
    unwanted = shutil.ignore_patterns("__pycache__", "db.sqlite3")
    folder = shutil.copytree(EXAMPLE, tmp_path / "mine", ignore=unwanted)
    run("python manage.py makemigrations --check", folder)
    assert "Ran 2 tests" in run(COMMANDS[3][0], folder)
