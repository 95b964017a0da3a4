"""Environment variables that replace the backends of one API, or their credentials.

Called by `project` with the environment as a value. The names contain the SHA-1 of
`<name>:<version>`, so that one image works in every stage. Messages name the variable and never
contain a credential. spec: project-format §6.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Literal

import msgspec

from trio_gw.config import backends, endpoint
from trio_gw.config.api import BasicAuth, Endpoint
from trio_gw.config.faults import WrongError, printable
from trio_gw.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_gw.config.backends import SideBackends

_SHORT = {"production": "prod", "sandbox": "sand"}


def fingerprint(name: str, version: str) -> str:
    """Return the hash of an API in names of variables; it is also the id of an API without one."""
    return hashlib.sha1(f"{name}:{version}".encode()).hexdigest()  # noqa: S324 - no secret


class Overrides:
    """The variables of one API. Faults are collected in `problems`, as faults of `folder`."""

    def __init__(self, environ: Mapping[str, str], api: str, folder: str) -> None:
        """`api` is the API's `fingerprint`."""
        prefix = f"api_{api}_"
        self.problems: list[Problem] = []
        self._prefix = prefix
        self._folder = folder
        self._values = {
            name.removeprefix(prefix): _unquoted(value)
            for name, value in environ.items()
            if name.startswith(prefix)
        }

    def applied(self, kind: str, side: SideBackends) -> SideBackends:
        """Return the side (`kind` is `production` or `sandbox`) with the variables applied.

        Any endpoint replaces the whole list, even an empty one. Credentials are used only if the
        api.yaml enables BASIC.
        """
        found = self._endpoints(_SHORT[kind])
        if found:
            side = side.replaced(*found)
        return self._credentials(kind, side)

    def _endpoints(self, short: str) -> list[Endpoint]:
        found = []
        index = 0
        while (text := self._values.get(name := f"{short}_endpoint_{index}")) is not None:
            index += 1
            try:
                found.append(endpoint.parse(text))
            except WrongError as error:
                self._note(name, error.what, error.hint)
        pattern = re.compile(rf"{short}_endpoint_(?:0|[1-9][0-9]{{0,8}})")
        for name in sorted(self._values):
            if pattern.fullmatch(name) and int(name.rpartition("_")[2]) > index:
                what = f"not read, because `{self._prefix}{short}_endpoint_{index}` is missing"
                self._note(name, what, "count from 0 without a gap", "warning")
        return found

    def _credentials(self, kind: str, side: SideBackends) -> SideBackends:
        names = [f"{_SHORT[kind]}_basic_{part}" for part in ("username", "password")]
        if side.basic is None:
            for name in filter(self._values.__contains__, names):
                what = f"no effect, as `endpoint_security` of {kind} does not enable BASIC"
                hint = "write `enabled: true` and `type: BASIC` there, or unset the variable"
                self._note(name, what, hint, "warning")
            return side
        username, password = (self._values.get(name) for name in names)
        for name, basic in zip(
            names, (BasicAuth(username or "", ""), BasicAuth("", password or "")), strict=True
        ):
            try:
                backends.check_basic(basic)
            except WrongError as error:
                self._note(name, error.what, error.hint)
        basic = BasicAuth(
            side.basic.username if username is None else username,
            side.basic.password if password is None else password,
        )
        return msgspec.structs.replace(side, basic=basic)

    def _note(
        self,
        name: str,
        what: str,
        hint: str,
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        said = printable(f"environment variable `{self._prefix}{name}`: {what}")
        self.problems.append(Problem(self._folder, 0, 0, said, printable(hint), severity))


def _unquoted(value: str) -> str:
    """Remove one pair of quotes, which some tools leave around a value."""
    text = value.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return value
