# The forms of edn to values: for the engine, by cimport.
from typing import Any

from chansock.values import FrozenDict

def frozen(plain: dict[Any, Any], has_text: bool) -> FrozenDict[Any, Any]: ...
