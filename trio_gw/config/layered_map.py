"""An immutable mapping of which small changes make a new one without copying all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, TypeVar, cast, overload

if TYPE_CHECKING:
    from collections.abc import Iterable

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

MAX_CHANGES = 256  # changed keys beside the base; more are merged into a new base

_REMOVED: Final = object()


class LayeredMap(Mapping[K, V]):
    """A base, which is never changed, and a few changed keys on top of it. No value is None.

    A look-up costs at most two look-ups in dictionaries. `changed` copies the changed keys only;
    once in `MAX_CHANGES` changes it copies everything.
    """

    __slots__ = ("_base", "_changes", "_length")

    def __init__(self, items: Mapping[K, V] | Iterable[tuple[K, V]] = ()) -> None:
        self._base: dict[K, V] = dict(items)
        self._changes: dict[K, object] = {}
        self._length = len(self._base)

    def changed(self, put: Mapping[K, V], removed: Iterable[K] = ()) -> LayeredMap[K, V]:
        """Return a mapping with these items, and without the keys in `removed`."""
        changes, length = self._changes.copy(), self._length
        for key, value in put.items():
            length += key not in self
            changes[key] = value
        for key in removed:
            if key in put or key in self:
                length -= changes.get(key) is not _REMOVED
                changes[key] = _REMOVED
        new: LayeredMap[K, V] = LayeredMap.__new__(LayeredMap)
        new._base, new._changes, new._length = self._base, changes, length
        if len(changes) > MAX_CHANGES:
            new._base, new._changes = new._merged(), {}
        return new

    def differing(self, other: LayeredMap[K, V]) -> set[K]:
        """Return the keys with different values in another mapping, or in only one of both.

        Between a mapping and one that a few changes made of it this looks at the changes only.
        """
        keys: Iterable[K] = self._changes.keys() | other._changes.keys()
        if self._base is not other._base:
            keys = self.keys() | other.keys()
        missing = object()
        return {key for key in keys if self.get(key, missing) != other.get(key, missing)}

    def _merged(self) -> dict[K, V]:
        merged = self._base.copy()
        for key, value in self._changes.items():
            if value is _REMOVED:
                merged.pop(key, None)
            else:
                merged[key] = cast("V", value)
        return merged

    def __getitem__(self, key: K) -> V:
        if self._changes and (found := self._changes.get(key)) is not None:
            if found is _REMOVED:
                raise KeyError(key)
            return cast("V", found)
        return self._base[key]

    @overload
    def get(self, key: K, default: None = None, /) -> V | None: ...
    @overload
    def get(self, key: K, default: V | T, /) -> V | T: ...
    def get(self, key: K, default: object = None, /) -> object:
        """Return the value of a key; half the cost of what `Mapping` has."""
        if self._changes and (found := self._changes.get(key)) is not None:
            return default if found is _REMOVED else found
        return self._base.get(key, default)

    def __contains__(self, key: object) -> bool:
        if self._changes and (found := self._changes.get(cast("K", key))) is not None:
            return found is not _REMOVED
        return key in self._base

    def __iter__(self) -> Iterator[K]:
        changes = self._changes
        for key in self._base:
            if changes.get(key) is not _REMOVED:
                yield key
        for key, value in changes.items():
            if value is not _REMOVED and key not in self._base:
                yield key

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"LayeredMap(<{self._length} items>)"
