from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Self, TypeVar, final, overload

from typing_extensions import disjoint_base

from chansock.target import UserId

_T = TypeVar("_T")

def site_of(request: Request) -> bytes | None: ...

@disjoint_base
class View(Mapping[str, str]):
    def __getitem__(self, name: str, /) -> str: ...
    @overload
    def get(self, name: str, default: None = None, /) -> str | None: ...
    @overload
    def get(self, name: str, default: str, /) -> str: ...
    @overload
    def get(self, name: str, default: _T, /) -> str | _T: ...
    def getall(self, name: str) -> list[str]: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...

@final
class Headers(View):
    def __init__(self, raw: bytes) -> None: ...
    def fields(self) -> list[tuple[str, str]]: ...

@final
class Params(View):
    def __init__(self, query: bytes, form: bytes = b"") -> None: ...
    def raw(self, name: str) -> list[bytes]: ...

@disjoint_base
class Request:
    client: tuple[str, int] | None
    scheme: str
    def __init__(
        self,
        head: bytes,
        client: tuple[str, int] | None = None,
        scheme: str = "http",
        scope: MutableMapping[str, Any] | None = None,
    ) -> None: ...
    @classmethod
    def from_fields(
        cls,
        method: str,
        target: str | bytes,
        fields: Iterable[tuple[str | bytes, str | bytes]] = (),
        *,
        client: tuple[str, int] | None = None,
        scheme: str = "http",
        scope: MutableMapping[str, Any] | None = None,
    ) -> Self: ...
    def set_form(self, body: bytes) -> None: ...
    def set_host(self, host: str) -> None: ...
    @property
    def head(self) -> bytes: ...
    @property
    def method(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def query(self) -> str: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def cookies(self) -> dict[str, str]: ...
    @property
    def params(self) -> Params: ...
    @property
    def scope(self) -> MutableMapping[str, Any]: ...
    @scope.setter
    def scope(self, scope: MutableMapping[str, Any] | None) -> None: ...
    @property
    def state(self) -> dict[Any, Any]: ...

@final
class Admission:
    kind: str
    request: Request
    uid: UserId | None
    client_id: str
    handshake: Any  # a Packet, or None
    def __new__(
        cls,
        kind: str,
        request: Request,
        uid: UserId | None,
        client_id: str,
        handshake: Any = None,
    ) -> Admission: ...
