"""uvicorn's worker for gunicorn, told of the channel's class as anybody may. No test here."""

from __future__ import annotations

from typing import Any

from uvicorn_worker import UvicornWorker

from chansock.uvicorn import WebSocketProtocol


class Own(UvicornWorker):
    CONFIG_KWARGS: dict[str, Any] = {**UvicornWorker.CONFIG_KWARGS, "ws": WebSocketProtocol}
