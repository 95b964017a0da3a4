"""The names that a listener answers to, against DNS rebinding.

A page of a name that its owner lets point at this machine is of the same origin as what this
machine answers, for the browser. But the browser sends that name as `Host`. An address in place
of a name cannot be made to point elsewhere.
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
    """The names; `further` gives those that may change, such as a certificate's.

    `*.` at the beginning of one stands for one label. With `local` every name of one label is
    answered, such as containers have: nobody elsewhere can let one point anywhere.
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
        """Tell whether this is an address or one of the names, with a port or without."""
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
