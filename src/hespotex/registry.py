"""A table of named things of one kind, to which other packages add by an entry point.

A line of a table is what an entry point says, too: a name, and `module:attribute` where the thing lies. Nothing is
imported before its name is asked for. docs/extending.md shows how another package adds a line.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib import metadata
from typing import Generic, TypeVar

from hespotex.errors import HESpotExError

T = TypeVar("T")


class PluginWarning(UserWarning):
    """Something that another package adds cannot be used; the message names the package."""


class Registry(Generic[T]):
    """Things of one kind by name: those of this package, then those of other packages.

    What another package adds and cannot be used is told once, as a `PluginWarning`, and left out.

    Args:
        noun: what one of them is called in messages.
        kind: class that each of them is an instance of.
        own: `module:attribute` by name, in the order in which they are listed.
        group: entry points of other packages; empty where none may add to the table.
    """

    def __init__(self, noun: str, kind: type[T], own: Mapping[str, str], group: str = "") -> None:
        self.noun, self.kind, self.own, self.group = noun, kind, own, group
        self._found: dict[str, T | None] = {}

    def __iter__(self) -> Iterator[str]:
        """The names, without those that cannot be used as far as it is known; nothing is imported."""
        usable = self._found.get
        return (name for name in (*self.own, *self._added) if usable(name, self) is not None)

    def __getitem__(self, name: str) -> T:
        """The thing of a name that is known to be there; KeyError where it is not."""
        if (found := self.find(name)) is None:
            raise KeyError(name)
        return found

    def find(self, name: str) -> T | None:
        """The thing of that name; None where there is none, or where another package's cannot be used."""
        if name not in self._found and name in self.own:
            self._found[name] = metadata.EntryPoint(name, self.own[name], "").load()
        elif name and name not in self._found and name in self._added:
            self._found[name] = self._load(*self._added[name])
        return self._found.get(name)

    def all(self) -> dict[str, T]:
        """Everything that can be used, by name."""
        return {name: found for name in self if (found := self.find(name)) is not None}

    @contextmanager
    def blaming(self, name: str, error: type[HESpotExError]) -> Iterator[None]:
        """While the thing of that name is at work: what another package does wrong becomes an error that names it.

        Raises:
            HESpotExError: of the given class.
        """
        try:
            yield
        except (HESpotExError, OSError):
            raise
        except Exception as found:
            if name in self.own:
                raise
            package = self._added[name][1]
            raise error(
                expected=f"{self.noun} {name!r} of package {package} to work",
                found=_words(found),
                remedy=f"update {package}, or tell its makers",
            ) from found

    @contextmanager
    def leaving_out(self, name: str) -> Iterator[None]:
        """While the thing of that name is at work: where another package's fails, it is left out from now on."""
        try:
            yield
        except Exception as error:
            if name in self.own:
                raise
            package = self._added[name][1]
            self._found[name] = None
            self._leave_out(name, package, f"{_words(error)}; update or uninstall {package}")

    @cached_property
    def _added(self) -> Mapping[str, tuple[metadata.EntryPoint, str]]:
        """Entry points of other packages and the packages' names, in the order of the names."""
        added: dict[str, tuple[metadata.EntryPoint, str]] = {}
        seen: set[str] = set()
        for package in metadata.distributions() if self.group else ():
            try:
                points = list(package.entry_points.select(group=self.group))
            except (TypeError, ValueError) as error:  # a line without an equals sign
                _warn(f"what package {_name(package)} adds", f"bad entry_points.txt: {error}")
                continue
            name = _name(package) if points else ""
            if name in seen:  # installed twice: the first on the path counts
                continue
            seen |= {name} - {""}
            for point in points:
                if point.name in self.own or point.name in added:
                    whose = f"package {added[point.name][1]}" if point.name in added else "hespotex"
                    self._leave_out(point.name, name, f"{whose} has one of that name; rename it")
                else:
                    added[point.name] = (point, name)
        return dict(sorted(added.items()))

    def _load(self, point: metadata.EntryPoint, package: str) -> T | None:
        try:
            found = point.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001  of whatever another package does
            self._leave_out(point.name, package, f"{_words(error)}; update or uninstall {package}")
            return None
        if isinstance(found, self.kind):
            return found
        is_a = f"{point.value} is a {type(found).__name__} and no {self.kind.__name__}"
        self._leave_out(point.name, package, f"{is_a}; update or uninstall {package}")
        return None

    def _leave_out(self, name: str, package: str, why: str) -> None:
        _warn(f"{self.noun} {name!r} of package {package}", why)


def _name(package: metadata.Distribution) -> str:
    return str(package.metadata["Name"] or "without a name")


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _warn(what: str, why: str) -> None:
    warnings.warn(f"{what} is left out: {why}", PluginWarning, stacklevel=2)
