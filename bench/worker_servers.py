"""The servers of the scaling bench: one channel, served by several workers on all cores.

`python bench/worker_servers.py NAME` serves by chansock.run and prints its line. A NAME that ends
in ENGINE joins its worker to the engine that REDIS names; several workers have a private one.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from rivals import NEVER, NEWS, client_id, double, has_session

import chansock

ENGINE = " and an engine"
WORKERS = {
    "1 worker": 1,
    "1 worker" + ENGINE: 1,
    "2 workers": 2,
    "4 workers": 4,
}


def main(name: str) -> None:
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    chsk = chansock.ChannelSocket(
        chansock.Config(ws_ping_interval=NEVER),
        user_id=client_id,
        authorize=has_session,
        backplane=os.environ["REDIS"] if name.endswith(ENGINE) else None,
    )

    @chsk.on("math/double")
    def _(msg: Any) -> int:
        return double(msg.data)

    @chsk.on("news/post")
    def _(msg: Any) -> None:
        for number in range(msg.data):
            chsk.send(chansock.ALL, "news/item", f"{number:02} {NEWS}")

    chansock.run(chsk, port=0, workers=WORKERS[name])


if __name__ == "__main__":
    main(sys.argv[1])
