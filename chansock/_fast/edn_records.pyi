from typing import final

@final
class Shape:
    @property
    def kind(self) -> int: ...
