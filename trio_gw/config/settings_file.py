"""Reading `gateway.toml` and the environment into `Settings`.

Called by the commands. It reads one file and collects every problem before it raises, each with
the line of the key, or the name of the variable, that caused it.

There are four layers, later ones win: defaults, the file (with `${NAME}` from the environment),
`TRIO_GW_<SECTION>_<KEY>` variables, and values derived from other keys: `tls` follows `certs`, and
without `[[issuers]]` the gateway trusts its own test keys.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import msgspec

from trio_gw.config import regular
from trio_gw.config.faults import KeyPath, dotted
from trio_gw.config.settings import MGW, Settings
from trio_gw.config.settings_rules import check
from trio_gw.config.settings_schema import (
    DROPPED,
    every_key,
    fields,
    from_text,
    is_struct,
    kinds,
    named_tables,
    put,
    resolve,
    table_of,
)
from trio_gw.config.toml_lines import key_lines
from trio_gw.config.variables import expand
from trio_gw.errors import Problem, UnusableError, has_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "TRIO_GW_"
MAX_BYTES = 1 << 20  # thousands of times the size of a real file
# Not settings: the command line reads these itself.
_NOT_SETTINGS = frozenset({"TRIO_GW_BYPASS", "TRIO_GW_CONFIG", "TRIO_GW_PURE"})

_TOML_END = " (at end of document)"
_TOML_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$")
_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text in quotes",
    int | str: 'a whole number, or a text like "3KB"',
}


class LoadedSettings(msgspec.Struct, frozen=True):
    """Valid settings, the folder to which their paths are relative, and the warnings."""

    settings: Settings
    base: Path
    problems: tuple[Problem, ...]


def load(path: Path | None, environ: Mapping[str, str]) -> LoadedSettings:
    """Read the settings from a file, or from defaults and environment alone if path is None.

    Raises UnusableError with every problem found, warnings included.
    """
    loader = _Loader("settings" if path is None else str(path), environ)
    document = {} if path is None else loader.read(path)
    settings = loader.settings(document)
    base = Path.cwd() if path is None else path.absolute().parent
    return LoadedSettings(settings, base, tuple(loader.problems))


def parse(document: dict[str, Any], environ: Mapping[str, str]) -> LoadedSettings:
    """Read the settings from tables, as `load` does from a file. Raises UnusableError."""
    loader = _Loader("settings", environ)
    return LoadedSettings(loader.settings(document), Path.cwd(), tuple(loader.problems))


class _Loader:
    """One call of `load`: collects problems and remembers which variable set which key."""

    def __init__(self, file: str, environ: Mapping[str, str]) -> None:
        self.file = file
        self.environ = environ
        self.problems: list[Problem] = []
        self._lines: dict[KeyPath, int] = {}
        self._variables: dict[KeyPath, str] = {}

    def read(self, path: Path) -> dict[str, Any]:
        try:
            data = regular.read(path, MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                self._give_up("the settings are larger than 1 MiB", "name another file")
            text = data.decode("utf-8-sig")
            document = tomllib.loads(text)
        except OSError as error:
            self._give_up(f"the settings cannot be read: {error.strerror}", "name another file")
        except UnicodeDecodeError:
            self._give_up("the settings are not UTF-8 text", "save the file as UTF-8")
        except RecursionError:
            self._give_up("the settings are nested too deeply", "they need three levels at most")
        except tomllib.TOMLDecodeError as error:
            what, line, column = str(error), 0, 0
            if place := _TOML_PLACE.search(what):
                line, column = int(place[1]), int(place[2])
                what = what[: place.start()]
            elif what.endswith(_TOML_END):
                line, what = len(text.splitlines()), what.removesuffix(_TOML_END)
            hint = 'write it like key = "text", [table] or # comment'
            self._give_up(f"not valid TOML: {what}", hint, line=line, column=column)
        except ValueError:
            self._give_up("a number in the settings has thousands of digits", "write a shorter one")
        self._lines = key_lines(text)
        return document

    def settings(self, document: dict[str, Any]) -> Settings:
        try:
            given = expand(document, self.environ, self._report)
        except RecursionError:  # deeply nested tables, by keys with very many dots
            self._give_up("the settings are nested too deeply", "they need three levels at most")
        values = self._clean_table(Settings, given, ())
        own_issuers = "issuers" not in document
        self._overlay(values)
        _derive(values, own_issuers)
        self._require(Settings, values, ())
        self._stop_on_errors()
        settings = msgspec.convert(values, Settings)
        for fault in check(settings):
            self._report(fault.path, fault.what, fault.hint, fault.severity)
        self._stop_on_errors()
        return settings

    # --- the file ---

    def _clean(self, kind: object, value: object, path: KeyPath) -> object:
        """Return the values that fit the type; report the others."""
        if is_struct(kind):
            if isinstance(value, dict):
                return self._clean_table(kind, value, path)
            self._report(path, f"{dotted(path)} must be a table", f"write [{dotted(path)}]")
            return DROPPED
        if (item := table_of(kind)) is not None:
            if isinstance(value, list) and all(isinstance(one, dict) for one in value):
                return [
                    self._clean_table(item, one, (*path, index)) for index, one in enumerate(value)
                ]
            what = f"{dotted(path)} must be a list of tables"
            self._report(path, what, f"write [[{dotted(path)}]]")
            return DROPPED
        if (item := named_tables(kind)) is not None:
            if isinstance(value, dict):
                cleaned = {
                    name: self._clean(item, one, (*path, name)) for name, one in value.items()
                }
                return {name: one for name, one in cleaned.items() if one is not DROPPED}
            what = f"{dotted(path)} must be a table of tables"
            self._report(path, what, f"write [{dotted(path)}.NAME]")
            return DROPPED
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            self._report(path, f"{dotted(path)} must be {_KINDS.get(kind, 'a list of texts')}")
            return DROPPED
        return value

    def _clean_table(
        self, kind: type[msgspec.Struct], table: dict[str, Any], path: KeyPath
    ) -> dict[str, Any]:
        known = kinds(kind)
        cleaned = {}
        for key, value in table.items():
            if key not in known:
                self._unknown(path, key, list(known))
            elif (kept := self._clean(known[key], value, (*path, key))) is not DROPPED:
                cleaned[key] = kept
        return cleaned

    def _unknown(self, path: KeyPath, key: str, known: list[str]) -> None:
        hint = "remove it"
        if close := difflib.get_close_matches(key.lower(), known, n=1):
            hint = f"did you mean {dotted((*path, close[0]))}?"
        elif homes := [other for other in every_key(Settings) if other.rpartition(".")[2] == key]:
            hint = f"did you mean {homes[0]}?"
        self._report((*path, key), f"unknown key {dotted((*path, key))}", hint)

    # --- the environment ---

    def _overlay(self, values: dict[str, Any]) -> None:
        found: list[tuple[KeyPath, Any, str]] = []
        for name in sorted(self.environ):
            if not name.startswith(PREFIX) or name in _NOT_SETTINGS:
                continue
            if (target := resolve(Settings, name.removeprefix(PREFIX))) is None:
                self._unknown_variable(name)
            else:
                found.append((*target, name))
        for path, kind, name in sorted(found, key=lambda one: one[0]):
            self._variables[path] = name
            value = from_text(kind, self.environ[name])
            if value is DROPPED:
                self._report(
                    path, f"{dotted(path)} must be {_KINDS[kind].removesuffix(' in quotes')}"
                )
            elif not put(Settings, values, path, value):
                what = f"{dotted(path)} leaves a gap in the list"
                self._report(path, what, "number the entries 0, 1, 2 and so on")

    def _unknown_variable(self, name: str) -> None:
        index = re.search(r"_(\d+)_", name)
        known = [
            key.replace("[]", f".{index[1] if index else 0}").replace(".", "_").upper()
            for key in every_key(Settings)
        ]
        close = difflib.get_close_matches(name.removeprefix(PREFIX).upper(), known, n=1)
        hint = f"did you mean {PREFIX}{close[0]}?" if close else "unset it"
        self.problems.append(Problem(name, 0, 0, "no setting has this variable", hint))

    # --- both ---

    def _require(self, kind: type[msgspec.Struct], values: dict[str, Any], path: KeyPath) -> None:
        for field in fields(kind):
            where = (*path, field.name)
            if field.required and field.name not in values:
                # The problem of a dropped value has been reported.
                if where not in self._lines and where not in self._variables:
                    self._report(where, f"{dotted(where)} is missing")
            elif (item := table_of(field.type)) is not None:
                for index, one in enumerate(values.get(field.name, ())):
                    self._require(item, one, (*where, index))
            elif is_struct(field.type):
                self._require(field.type, values.get(field.name, {}), where)

    def _place(self, path: KeyPath) -> tuple[str, int]:
        for end in range(len(path), 0, -1):
            part = path[:end]
            if name := self._variables.get(part):
                return name, 0
            if line := self._lines.get(part):
                return self.file, line
            if isinstance(part[-1], int):  # an entry made by variables only
                for other, name in self._variables.items():
                    if other[:end] == part:
                        return name, 0
        return self.file, 0

    def _report(
        self,
        path: KeyPath,
        what: str,
        hint: str = "",
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        file, line = self._place(path)
        self.problems.append(Problem(file, line, 0, what, hint, severity))

    def _give_up(self, what: str, hint: str = "", *, line: int = 0, column: int = 0) -> NoReturn:
        raise UnusableError([Problem(self.file, line, column, what, hint)]) from None

    def _stop_on_errors(self) -> None:
        if has_errors(self.problems):
            raise UnusableError(self.problems)


def _derive(values: dict[str, Any], own_issuers: bool) -> None:
    """Fill in the defaults that depend on other keys."""
    defaults = Settings()
    tls = values.setdefault("tls", {})
    folder = Path(values.get("certs", defaults.certs))
    tls.setdefault("cert", str(folder / Path(defaults.tls.cert).name))
    tls.setdefault("key", str(folder / Path(defaults.tls.key).name))
    for key in ("revocations", "denials"):
        values.setdefault(key, str(folder / Path(getattr(defaults, key)).name))
    if own_issuers:
        first = values.setdefault("issuers", [{}])[0]
        first.setdefault("name", MGW.name)
        issuer = values.get("testkey", {}).get("issuer", defaults.testkey.issuer)
        first.setdefault("issuer", issuer)
        if not first.get("jwks"):
            first.setdefault("certificate", tls["cert"] or MGW.certificate)
