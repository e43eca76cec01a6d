"""The browser's client as HTTP answers: chansock.js, its packers, and the types of each.

A request in, a Response out: validators, codings and methods are decided here, whether a
host may ask is the endpoint's to say. The files are read at the first request for them
and kept; no socket and no hook is known.
"""

from __future__ import annotations

import gzip
import logging
import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from chansock._core.endpoint import Endpoint
from chansock.request import Request, Response

__all__ = ["FILES", "answer", "file_name", "file_response"]

log = logging.getLogger("chansock.browser")

_PACKAGE: Final = Path(__file__).parent.parent
_FOLDERS: Final = (_PACKAGE / "js", _PACKAGE.parent / "js")  # installed; beside it in a checkout

# Browsers run the modules, and show their types to whoever opens them.
_TYPE_OF: Final = {"js": "text/javascript; charset=utf-8", "d.ts": "text/plain; charset=utf-8"}
_KINDS: Final = {
    f"{module}.{suffix}": kind
    for module in ("chansock", "json", "msgpack")
    for suffix, kind in _TYPE_OF.items()
}
FILES: Final = tuple(_KINDS)  # what there is below a channel's path
_FIELDS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-cache"),  # kept, and asked for anew: an upgrade is seen at once
    ("Vary", "Accept-Encoding"),
    # A page of another origin (`allowed_origins`) loads a module by CORS alone. The file is the
    # same for everybody and no cookie is looked at, so there is nothing to keep from anyone.
    ("Access-Control-Allow-Origin", "*"),
)
_NOT_ALLOWED: Final = Response(405, "expected GET or HEAD", headers=(("Allow", "GET, HEAD"),))
_NOT_FOUND: Final = Response(404, "not found")

_WEIGHT: Final = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")  # RFC 9110 section 12.4.2


@dataclass(frozen=True, slots=True)
class _Form:
    """One coding of a file: `tag` is its ETag, `unchanged` the 304."""

    tag: str
    whole: Response
    unchanged: Response


@dataclass(frozen=True, slots=True)
class _File:
    plain: _Form
    gzipped: _Form


def file_name(path: str, channel_path: str) -> str | None:
    """Return which file `path` means below the channel's path, or None.

    `/chsk/chansock.js`, `/chsk/chansock.d.ts` ... for a channel at `/chsk`.
    """
    folder, _, name = path.rpartition("/")
    return name if name in _KINDS and folder == channel_path.removesuffix("/") else None


def file_response(
    endpoint: Endpoint, request: Request, channel_path: str, *, is_loopback: bool = False
) -> Response | None:
    """Return the answer to a request for one of the files, or None for another path.

    The files are public: no hook runs, but the host is checked, as for the channel.
    """
    name = file_name(request.path, channel_path)
    if name is None:
        return None
    return endpoint.check_host(request, is_loopback=is_loopback) or answer(request, name)


def answer(request: Request, name: str) -> Response:
    """Answer a request for a file: 200, 304, 405, or 404 where it was not installed.

    The answer to a HEAD has its body too; that it does not travel is the edge's business.
    """
    if request.method not in ("GET", "HEAD"):
        return _NOT_ALLOWED
    file = _file(name)
    if file is None:
        return _NOT_FOUND
    form = file.gzipped if _takes_gzip(request) else file.plain
    return form.unchanged if _has(request, form.tag) else form.whole


@cache
def _file(name: str) -> _File | None:
    """Read a file and make its answers, once; None, and one line in the log, without it."""
    for folder in _FOLDERS:
        try:
            data = (folder / name).read_bytes()
        except OSError:
            continue
        small = gzip.compress(data, mtime=0)
        return _File(_form(name, data), _form(name, small, ("Content-Encoding", "gzip")))
    log.error("browser_file_missing name=%s: expected it in %s or %s", name, *_FOLDERS)
    return None


def _form(name: str, data: bytes, *own: tuple[str, str]) -> _Form:
    # A strong tag names bytes as they travel, so each coding has its own.
    tag = f'"{sha256(data).hexdigest()[:32]}"'
    fields = (*_FIELDS, ("ETag", tag))
    if name.endswith(".js"):
        # how Deno finds them
        own = (*own, ("X-TypeScript-Types", f"./{name.removesuffix('.js')}.d.ts"))
    return _Form(
        tag, Response(200, data, _KINDS[name], (*fields, *own)), Response(304, headers=fields)
    )


def _has(request: Request, tag: str) -> bool:
    """Return whether If-None-Match names the tag, by weak comparison (RFC 9110 section 13.1.2)."""
    given = request.headers.getall("if-none-match")
    # A tag of ours is quoted hex digits: no other tag, nor what stands between two, holds it.
    return given == ["*"] or any(tag in line for line in given)


def _takes_gzip(request: Request) -> bool:
    """Return whether the client takes gzip, and likes nothing better (RFC 9110 section 12.5.3)."""
    weights: dict[str, float] = {}
    for line in request.headers.getall("accept-encoding"):
        for item in line.lower().split(","):
            coding, semicolon, weight = item.partition(";")
            weights[coding.strip()] = _weight(weight.strip()) if semicolon else 1.0
    other = weights.get("*", 0.0)
    gzipped = weights.get("gzip", weights.get("x-gzip", other))
    return gzipped > 0 and gzipped >= weights.get("identity", 0.0)


def _weight(text: str) -> float:
    found = _WEIGHT.fullmatch(text)
    return float(found[1]) if found else 0.0  # what cannot be read asks for nothing
