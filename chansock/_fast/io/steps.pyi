from collections.abc import Generator
from typing import Any

def start(steps: Generator[Any, Any, Any]) -> tuple[Any, bool]: ...
