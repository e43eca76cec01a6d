"""What the application gives for an attempt: URL, headers, params, CSRF token.

Each is a value, or a function that is called anew for each attempt, so that new
credentials need no new client. Nothing is sent from here.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, TypeVar

from chansock.client.address import (
    Address,
    Attempt,
    Pairs,
    TokenPlace,
    check_headers,
    check_params,
    check_token,
    check_token_place,
)
from chansock.client.cookies import Jar
from chansock.client.proxy import ProxySetting, check_proxy, proxy_for
from chansock.errors import ConfigError

__all__ = ["Credentials", "Source"]

T = TypeVar("T")
Source: TypeAlias = T | Callable[[], T | Awaitable[T]]

MAX_CLIENT_ID_LENGTH: Final = 256  # characters: what a server takes


class Credentials:
    """Makes an `Attempt` of what the application gave, and of the cookies so far.

    Values are checked here and now; what functions give, at each attempt. Raises ConfigError.
    """

    def __init__(
        self,
        url: Source[str],
        *,
        headers: Source[Pairs | None] = None,
        params: Source[Pairs | None] = None,
        csrf_token: Source[str | None] = None,
        csrf_token_in: TokenPlace = "param",
        client_id: str | None = None,
        proxy: ProxySetting = True,
    ) -> None:
        if not callable(url):
            Address.parse(url)
        if not callable(headers):
            headers = check_headers(headers)  # kept as pairs: an iterator is read only once
        if not callable(params):
            params = check_params(params)
        if not callable(csrf_token):
            check_token(csrf_token)
        if client_id is None:
            client_id = str(uuid.uuid4())
        elif not isinstance(client_id, str) or not 1 <= len(client_id) <= MAX_CLIENT_ID_LENGTH:
            raise ConfigError("client_id: expected a str of 1 to 256 characters, got another")
        self.client_id = client_id
        self._url = url
        self._headers = headers
        self._params = params
        self._csrf_token = csrf_token
        self._token_place = check_token_place(csrf_token_in)
        self._proxy = check_proxy(proxy)
        self._jar = Jar()

    async def attempt(self) -> Attempt:
        """Ask the application's functions; give what every request of one attempt carries.

        Raises ConfigError, and whatever a function raises.
        """
        address = Address.parse(await _value(self._url))
        return Attempt(
            address=address,
            client_id=self.client_id,
            csrf_token=check_token(await _value(self._csrf_token)),
            params=check_params(await _value(self._params)),
            headers=check_headers(await _value(self._headers)),
            jar=self._jar,
            token_place=self._token_place,
            proxy=proxy_for(address.host, address.port, self._proxy, is_secure=address.is_secure),
        )


async def _value(source: Source[T]) -> T:
    if not callable(source):
        return source
    given = source()
    return await given if inspect.isawaitable(given) else given
