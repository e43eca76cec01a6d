"""A Django project for tests: its files in a folder, its server as a process. No test here."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dist_content import ROOT
from readme_pair import free_port, wait_for

FILES = {
    "settings.py": """
import json
import os
from pathlib import Path

HERE = Path(__file__).parent
SECRET_KEY = "of the tests"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ROOT_URLCONF = "urls"
ASGI_APPLICATION = "asgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": HERE / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = True
globals().update(json.loads(os.environ.get("SETTINGS", "{}")))
""",
    "channel.py": """
import chansock.django
from django.contrib.auth.models import User

chsk = chansock.django.channel()


@chsk.on("test/name", thread=True)
@chansock.django.database
def name(msg):
    return User.objects.get(pk=msg.uid).username


@chsk.on("test/aname")
@chansock.django.database
async def aname(msg):
    return (await User.objects.aget(pk=msg.uid)).username
""",
    "asgi.py": """
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
import chansock.django

application = chansock.django.application("channel.chsk")
""",
    "urls.py": """
from functools import partial

import chansock
from channel import chsk
from django.contrib import auth
from django.db import transaction
from django.http import HttpResponse
from django.middleware.csrf import get_token
from django.urls import path


def token(request):
    return HttpResponse(get_token(request))


def login(request):
    user = auth.authenticate(request, username=request.POST["name"], password="secret")
    auth.login(request, user)
    return HttpResponse(str(user.pk))


def logout(request):
    auth.logout(request)
    return HttpResponse()


async def alogout(request):
    await auth.alogout(request)
    return HttpResponse()


def say(request):
    chsk.send(request.user.pk or chansock.ANONYMOUS, "test/said", request.POST["text"])
    return HttpResponse(status=204)


def commit(request):
    with transaction.atomic():
        call = partial(chsk.send, request.user.pk, "test/said", "committed")
        transaction.on_commit(call)
        chsk.send(request.user.pk, "test/said", "not yet committed")
    return HttpResponse(status=204)


def password(request):
    request.user.set_password("other")
    request.user.save()
    auth.update_session_auth_hash(request, request.user)
    return HttpResponse()


urlpatterns = [
    path(f"{view.__name__}", view)
    for view in (token, login, logout, alogout, say, commit, password)
]
""",
}

USERS = """
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
for name in ("ada", "bob", "cy", "dan", "eve"):
    User.objects.create_user(name, password="secret")
"""


def write(folder: Path) -> None:
    """Make the project, with a database of users: ada is 1, bob 2, cy 3, dan 4, eve 5."""
    for name, text in FILES.items():
        (folder / name).write_text(text.lstrip(), encoding="utf-8")
    subprocess.run([sys.executable, "-c", USERS], cwd=folder, env=environment(), check=True)


def environment(**settings: Any) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": os.pathsep.join((str(ROOT), ".")),
        "DJANGO_SETTINGS_MODULE": "settings",
        "SETTINGS": json.dumps(settings),
    }


COMMANDS = {
    "uvicorn": "uvicorn --port {port} --log-level warning asgi:application",
    "uvicorn with the channel's class": (
        "uvicorn --port {port} --log-level warning --lifespan on "
        "--ws chansock.uvicorn:WebSocketProtocol asgi:application"
    ),
    "hypercorn": "hypercorn --bind 127.0.0.1:{port} asgi:application",
    "daphne": "daphne --port {port} --verbosity 0 asgi:application",
}


@contextmanager
def served(folder: Path, server: str = "uvicorn", **settings: Any) -> Iterator[int]:
    """Run a server, and give its port."""
    port = free_port()
    command = COMMANDS[server].format(port=port)
    with command_served(f"{sys.executable} -m {command}", folder, environment(**settings), port):
        yield port


@contextmanager
def command_served(command: str, folder: Path, env: dict[str, str], port: int) -> Iterator[None]:
    """Run a command that serves on a port."""
    with subprocess.Popen(shlex.split(command), cwd=folder, env=env) as process:
        try:
            wait_for(port, process)
            yield
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
