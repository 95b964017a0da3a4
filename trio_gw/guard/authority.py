"""The host names that a listener accepts, as a protection against DNS rebinding.

An attacker can let a name of his own resolve to this machine; for a browser, pages of that name
then have the same origin as answers of this machine. But the browser sends the name as `Host`, so
unknown names are refused. Addresses are always accepted: they cannot be rebound.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from trio_gw.config.addresses import is_host_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]@/?#]+)(?::[0-9]{1,5})?")


class AuthorityNames:
    """The names; `further` returns those that may change, such as the names of a certificate.

    A `*.` at the beginning is a wildcard for one label. With `local` every name of one label is
    accepted, as containers have them: they cannot be registered in the public DNS.
    """

    def __init__(
        self,
        names: Iterable[str],
        further: Callable[[], Iterable[str]] = tuple,
        *,
        local: bool = False,
    ) -> None:
        self._names = frozenset(map(_plain, names))
        self._further = further
        self._local = local

    def has(self, authority: str) -> bool:
        """Return whether this is an address or one of the names, with or without a port."""
        if (found := _AUTHORITY.fullmatch(authority)) is None:
            return False
        host = found[1]
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            pass
        else:
            return True
        if not is_host_name(host):
            return False
        name = _plain(host)
        if self._local and "." not in name:
            return True
        pattern = f"*.{name.partition('.')[2]}"
        return any({name, pattern} & set(names) for names in (self._names, self._more()))

    def _more(self) -> Iterable[str]:
        return map(_plain, self._further())


def _plain(name: str) -> str:
    return name.lower().rstrip(".")
