"""Converts a Choreo Connect configuration to `gateway.toml`, with a problem for each lost key.

Called by the command `convert`. Pure: text in, text and problems out. `choreo_keys` maps the keys;
here are the walk, the settings made from several keys, and the check with the rules of the
settings, which may refuse a value. spec: config §1.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.config import choreo_control, tomltext
from trio_gw.config.choreo_keys import rule_for
from trio_gw.config.choreo_rules import AddressPart, Drop, GroupPart, Later, Switch, To
from trio_gw.config.choreo_values import Value, Values
from trio_gw.config.faults import dotted, printable
from trio_gw.config.settings import Settings
from trio_gw.config.settings_schema import every_key, kinds, table_of
from trio_gw.config.toml_lines import key_lines
from trio_gw.errors import Problem, UnusableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.faults import KeyPath

HEAD = "# Made by `trio-gw convert` from a configuration of Choreo Connect.\n"

_VARIABLE = re.compile(r"\$env\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_PORTS = {"listen.http": 9090, "listen.https": 9095, "listen.admin": 9843}
_KEYS = frozenset(every_key(Settings))
_PUBLISHER = "APIM Publisher"


class Converted(msgspec.Struct, frozen=True):
    """The text of `gateway.toml`, the variables it needs, and what was not converted."""

    text: str
    variables: tuple[str, ...]
    problems: tuple[Problem, ...]


def convert(text: str, file: str) -> Converted:
    """Convert a configuration; `file` is its name in messages.

    Raises `UnusableError` if it is not TOML.
    """
    try:
        return _Conversion(text, file).run(tomllib.loads(text))
    except RecursionError:
        problem = Problem(file, 0, 0, "the tables are nested too deeply", "is it the right file?")
        raise UnusableError([problem]) from None
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        place = _PLACE.search(said)
        line = int(place[1]) if place and place[1] else len(text.splitlines())
        what = f"not valid TOML: {_PLACE.sub('', said)}"
        problem = Problem(file, line, 0, what, "fix it first")
        raise UnusableError([problem]) from None


class _Conversion:
    """One call of `convert`."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._problems: list[Problem] = []
        self._lines = key_lines(text)
        self._values = Values()
        self._parts: dict[str, dict[str, Value]] = {}
        self._groups: dict[int, dict[str, Value]] = {}
        self._wanted: dict[str, Value] = {}
        self._variables: dict[str, None] = {}

    def run(self, document: dict[str, Any]) -> Converted:
        for path, value in _leaves(document, ()):
            self._place(path, value)
        for target, parts in self._parts.items():
            self._join(target, parts)
        self._settle_issuers()
        self._settle_git()
        self._settle_control_plane()
        while faults := self._values.faults():
            for found, what, hint in faults:
                where = choreo_control.enclosing(found)
                if not self._discard(where, what, hint) and not self._values.forget(where):
                    raise UnusableError([Problem(self._file, 0, 0, what, hint)])
        built = self._values.built()

        def origin(path: KeyPath) -> str:
            return printable(", ".join(map(dotted, self._values.origins(built.original(path)))))

        lines = list(tomltext.lines(built.values, origin))
        return Converted(
            HEAD + "\n".join(lines).lstrip("\n") + "\n",
            tuple(name for name in self._variables if f"${{{name}}}" in "\n".join(lines)),
            tuple(sorted(self._problems, key=lambda problem: problem.line)),
        )

    # -- key by key --

    def _place(self, path: KeyPath, value: object) -> None:
        rule = rule_for(re.sub(r"\[\d+\]", "[]", dotted(path)))
        if rule is None:
            what = f"{dotted(path)} is not a key of Choreo Connect"
            self._note(path, what, "check its spelling, or remove it")
        elif isinstance(rule, Drop):
            self._note(path, f"{dotted(path)} has no meaning here", rule.why)
        elif isinstance(rule, Later):
            self._note(path, f"{dotted(path)} is not available in this version", rule.why)
        elif isinstance(rule, Switch):
            if value is True:
                self._wanted[rule.target] = Value(True, (path,))
        elif isinstance(rule, AddressPart):
            self._parts.setdefault(rule.target, {})[rule.part] = Value(value, (path,))
        elif isinstance(rule, GroupPart):
            index = next((part for part in path if isinstance(part, int)), 0)
            self._groups.setdefault(index, {})[rule.part] = Value(value, (path,))
        elif rule.target not in _KEYS:
            what = f"{dotted(path)} is not available in this version"
            self._note(path, what, f"`{rule.target}` is to be its name")
        else:
            self._take(path, rule, value)

    def _take(self, path: KeyPath, rule: To, value: object) -> None:
        changed = self._with_variables(value if rule.change is None else rule.change(value))
        indexes = iter(part for part in path if isinstance(part, int))
        target: list[str | int] = []
        kind: Any = Settings
        for part in rule.target.split("."):
            name = part.removesuffix("[]")
            kind = kinds(kind)[name]
            target.append(name)
            if name != part:
                kind = table_of(kind)
                index = next(indexes, None)
                if index is None:  # a list of tables was expected
                    self._note(path, f"{dotted(path)} cannot be taken over", "write [[…]] there")
                    return
                target.append(index)
        try:
            msgspec.convert(changed, kind)
        except msgspec.ValidationError:
            why = rule.cannot or f"`{rule.target}` cannot be set to a value of this kind"
            self._note(path, f"{dotted(path)} cannot be taken over", why)
            return
        if changed == "" and isinstance(target[-2:][0], int):
            return  # in both systems an empty entry means its default
        self._values.put(tuple(target), Value(changed, (path,)))

    def _with_variables(self, value: Any) -> Any:  # noqa: ANN401 - whatever the file has
        """Write `$env{NAME}` as `${NAME}`; a literal `${` is escaped."""
        if isinstance(value, list):
            return [self._with_variables(each) for each in value]
        if not isinstance(value, str):
            return value
        self._variables |= dict.fromkeys(_VARIABLE.findall(value))
        return _VARIABLE.sub(r"${\1}", value.replace("${", "$${"))

    # -- settings that several keys make --

    def _join(self, target: str, parts: dict[str, Value]) -> None:
        """Make an address from host and port; none for a disabled server."""
        origins = tuple(origin for part in parts.values() for origin in part.origins)
        path = tuple(target.split("."))
        if (enabled := parts.get("enabled")) and enabled.value is False:
            self._values.put(path, Value("", origins))
        elif "host" in parts or "port" in parts:  # otherwise it only says that the table is enabled
            host = str(parts["host"].value) if "host" in parts else "0.0.0.0"  # noqa: S104 - theirs
            port = parts["port"].value if "port" in parts else _PORTS[target]
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            self._values.put(path, Value(self._with_variables(address), origins))

    def _settle_issuers(self) -> None:
        """Of two entries for one issuer the later wins; a JWKS has priority over a certificate."""
        entries = self._values.entries("issuers")
        last = {each["issuer"].value: at for at, each in entries.items() if "issuer" in each}
        for index, entry in entries.items():
            name, issuer = entry.get("name"), entry.get("issuer")
            if issuer and last[issuer.value] != index:
                self._discard(
                    ("issuers", index),
                    "a later entry has the same issuer",
                    "the later entry is used",
                )
            elif name and name.value == _PUBLISHER:
                trusted = Value(_PUBLISHER, name.origins)
                self._values.put(("internal_key", "issuer"), trusted)
            elif "jwks" in entry and "certificate" in entry:
                where = ("issuers", index, "certificate")
                self._discard(where, "its jwksURL is used instead", "one of the two is enough")

    def _settle_git(self) -> None:
        """A disabled repository is left out; a user name has priority over an SSH key."""
        if "git" not in self._wanted:
            self._discard(("git",), "sourceControl.enabled is not true", "set it there if it is")
        elif self._values.value(("git", "username")):
            why = "a username is given, so the key had no effect in the reference either"
            self._discard(("git", "ssh_key"), why, "leave it out")

    def _settle_control_plane(self) -> None:
        """A disabled control plane is left out."""
        choreo_control.settle(
            choreo_control.Conversion(
                self._values,
                self._wanted,
                self._groups,
                self._with_variables,
                self._discard,
                self._lost,
            )
        )

    def _discard(self, where: KeyPath, what: str, hint: str) -> bool:
        gone = self._values.discard(where)
        for origin in (origin for value in gone for origin in value.origins):
            self._lost(origin, what, hint)
        return bool(gone)

    def _lost(self, origin: KeyPath, what: str, hint: str) -> None:
        self._note(origin, f"{dotted(origin)} is not taken over: {what}", hint)

    def _note(self, path: KeyPath, what: str, hint: str) -> None:
        known = (path[:end] for end in range(len(path), 0, -1))
        line = next((self._lines[each] for each in known if each in self._lines), 0)
        self._problems.append(
            Problem(self._file, line, 0, printable(what), printable(hint), "warning")
        )


def _leaves(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, object]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _leaves(child, (*path, key))
    elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        for index, child in enumerate(value):
            yield from _leaves(child, (*path, index))
    else:
        yield path, value
