"""`python -m chansock`, and the `chansock` script: serve, connect, send.

Nothing is decided here: each command has its room in `chansock.cli`.
"""

from __future__ import annotations

import sys

from chansock.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
