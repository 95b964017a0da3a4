"""The static files of the portal, compressed once; the path holds the digest of their contents."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from starlette.responses import Response

from trio_gw.admin.json_responses import FaultError
from trio_gw.portal.compression import accepts_gzip
from trio_gw.portal.routes import Kind, PortalRoute, Role

if TYPE_CHECKING:
    from trio_gw.portal.request import PortalRequest

FOLDER = Path(__file__).with_name("static")
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_CACHED = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}


class StaticFile(NamedTuple):
    """A file with its type, plain and compressed."""

    kind: str
    plain: bytes
    packed: bytes


class StaticFiles:
    """All static files. Blocks while it reads them."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {}
        digest = hashlib.sha256()
        for path in sorted(folder.iterdir()):
            if kind := _TYPES.get(path.suffix):
                data = path.read_bytes()
                digest.update(f"{path.name}\0{len(data)}\0".encode() + data)
                self._files[path.name] = StaticFile(kind, data, gzip.compress(data, mtime=0))
        self.digest = digest.hexdigest()[:16]

    def url(self, name: str) -> str:
        """Return the path of a file. Raises KeyError if there is none."""
        self._files[name]
        return f"/portal/static/{self.digest}/{name}"

    def route(self) -> PortalRoute:
        """Return the route of the files."""
        return PortalRoute("GET", "/static/{digest}/{name}", Role.NOBODY, self._answer, Kind.FILE)

    async def _answer(self, request: PortalRequest) -> Response:
        found = self._files.get(request.params["name"])
        if found is None or request.params["digest"] != self.digest:
            raise FaultError(404, "there is no such file")
        headers = {"Content-Type": found.kind, **_CACHED}
        if not accepts_gzip(request.http.headers):
            return Response(found.plain, headers=headers)
        return Response(found.packed, headers={**headers, "Content-Encoding": "gzip"})
