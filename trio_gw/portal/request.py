"""One request to the portal, as its handlers see it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

import msgspec

from trio_gw.admin.json_responses import JSON, FaultError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from trio_gw.portal.caller import Caller
    from trio_gw.portal.services import PortalServices

T = TypeVar("T")
MAX_BODY = 1 << 20  # bytes


class PortalRequest:
    """A request whose route, host, origin and role are checked.

    `params` are the values of the parameters in the path of the route, percent-decoded.
    """

    def __init__(
        self,
        services: PortalServices,
        caller: Caller,
        params: Mapping[str, str],
        http: Request,
    ) -> None:
        self.services = services
        self.caller = caller
        self.params = params
        self.http = http

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters of the query; of several with one name the last."""
        return self.http.query_params

    @property
    def address(self) -> str:
        """The address of the client."""
        return self.http.client.host if self.http.client else ""

    @property
    def port(self) -> int:
        """The port of the listener."""
        return int(self.http.scope["server"][1])

    async def read(self, most: int = MAX_BODY) -> bytes:
        """Read the whole body. Raises `FaultError` 413 if it is longer than `most` bytes."""
        body = bytearray()
        async with contextlib.aclosing(self.http.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > most:
                    raise FaultError(413, f"the body is larger than {most >> 10} KiB")
        return bytes(body)

    async def body(self, kind: type[T], most: int = MAX_BODY) -> T:
        """Decode the JSON body. Raises `FaultError` 413, 415, 400 or 422."""
        given = self.http.headers.get("content-type", "").partition(";")[0].strip().lower()
        if given != JSON:
            raise FaultError(415, f'unsupported media type "{given[:80]}", send {JSON}')
        data = await self.read(most)
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.ValidationError as error:
            raise FaultError(422, str(error)[:500]) from None
        except (ValueError, RecursionError) as error:
            raise FaultError(400, f"the body is not JSON: {str(error)[:200]}") from None
