"""Compare what an installed chansock offers to browsers with the files of a folder.

Run as a program by ci/wheel.sh and test_package.py, with an interpreter that has the wheel:
`browser_offer.py FOLDER`. Only the standard library is used, besides chansock itself.
"""

from __future__ import annotations

import asyncio
import sys
import urllib.request
from pathlib import Path

import chansock

NAMES = [
    f"{module}.{suffix}" for module in ("chansock", "json", "msgpack") for suffix in ("js", "d.ts")
]


async def offered() -> dict[str, bytes]:
    """Serve a channel, and fetch each file from below its path."""

    def fetch(url: str) -> bytes:
        with urllib.request.urlopen(url, timeout=60) as answer:
            data: bytes = answer.read()
            return data

    async with chansock.serve(chansock.ChannelSocket(), port=0) as listener:
        urls = {name: f"{listener.url}/{name}" for name in NAMES}
        return {name: await asyncio.to_thread(fetch, url) for name, url in urls.items()}


def main(folder: str) -> int:
    found = asyncio.run(offered())
    faults = [name for name in NAMES if found[name] != Path(folder, name).read_bytes()]
    place = Path(chansock.__file__).parent
    print(f"{place} offers another {faults}" if faults else f"{place} offers {NAMES}")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
