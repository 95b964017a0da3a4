"""What the pages and endpoints about documents share: the API, its files, links to its lines."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlencode

from markupsafe import Markup

from trio_gw.admin.json_responses import FaultError
from trio_gw.escaping import escape
from trio_gw.portal.markdown import to_html
from trio_gw.portal.render import environment
from trio_gw.portal.served_apis import ServedApi, find_api, served_apis

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio_gw.documents.project_reading import ProjectDocuments
    from trio_gw.portal.request import PortalRequest

PAGE_LINES = 2000  # lines of a document on one page
_DESCRIPTIONS = 12  # on one page
_DESCRIBED = 32 << 10  # characters of them together; hostile Markdown takes a while


def plain_lines(text: str) -> str:
    """Make hidden characters of a text visible; its lines stay."""
    return "\n".join(map(escape, text.split("\n")))


environment.filters["plain_lines"] = plain_lines


class OpenedApi(NamedTuple):
    """An API on one host, with its documents. `address` is that of its pages."""

    served: ServedApi
    documents: ProjectDocuments
    link: PageLinks


class PageLinks:
    """Writes the addresses of the pages and files of an API.

    `host` is part of them; empty where the API is on one host only.
    """

    def __init__(self, id: str, host: str) -> None:  # noqa: A002 - as in the path
        self._id = quote(id, safe="")
        self.host = host

    def page(self, page: str, /, **query: object) -> str:
        """Return the address of a page: `topics/3`."""
        return self._with_query(f"/portal/apis/{self._id}/{page}", query)

    def topic(self, number: int) -> str:
        """Return the address of the page of a topic."""
        return self.page(f"topics/{number}")

    def line(self, line: int) -> str:
        """Return the address of a line of the definition."""
        first = (line - 1) // PAGE_LINES * PAGE_LINES + 1
        more = {"from": first} if first > 1 else {}
        return f"{self.page('document', **more)}#L{line}"

    def file(self, path: str, /, **query: object) -> str:
        """Return the address of a file, for a download."""
        return self._with_query(f"/portal/api/apis/{self._id}/files/{quote(path)}", query)

    def zip(self) -> str:
        """Return the address of the whole project."""
        return self._with_query(f"/portal/api/apis/{self._id}/zip", {})

    def _with_query(self, path: str, query: dict[str, object]) -> str:
        given = {**query, **({"host": self.host} if self.host else {})}
        return f"{path}?{urlencode(given)}" if given else path


async def open_api(request: PortalRequest) -> OpenedApi:
    """Find the API of a request and read its documents. Raises `FaultError` 404."""
    served = await find_api(request)
    services = request.services
    read = services.context.documents
    assert read is not None
    documents = await services.in_thread(partial(read, served.project))
    everywhere = (await served_apis(services)).by_id.get(served.project.id, ())
    host = served.host if len(everywhere) > 1 else ""
    return OpenedApi(served, documents, PageLinks(served.project.id, host))


def number_of(request: PortalRequest, count: int) -> int:
    """Return the number of a topic in the path. Raises `FaultError` 404."""
    given = request.params["n"]
    if len(given) > 6 or not (given.isascii() and given.isdigit()) or int(given) >= count:
        raise FaultError(404, "this API has no such topic")
    return int(given)


def page_number(request: PortalRequest, key: str = "page") -> int:
    """Return the number of a page in the query; the first one if it makes no sense."""
    given = request.query.get(key, "")
    usable = len(given) <= 8 and given.isascii() and given.isdigit()
    return max(1, int(given)) if usable else 1


def descriptions(texts: Iterable[str]) -> dict[str, Markup]:
    """Turn the first of these texts into HTML, by text; the others stay plain. Blocks."""
    found: dict[str, Markup] = {}
    room = _DESCRIBED
    for text in texts:
        if text.strip() and text not in found and len(found) < _DESCRIPTIONS and len(text) <= room:
            room -= len(text)
            found[text] = Markup(to_html(text))  # noqa: S704 - cleaned
    return found
