"""Registries of what has a name: the project's own, and what installed packages add.

A package adds something by an entry point, for instance in its pyproject.toml:

    [project.entry-points."intertitle.importers"]
    activitynet = "my_package.activitynet:IMPORTER"

The project's own are listed as the same kind of reference. None is imported before it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from intertitle.pipeline.errors import UserError

T = TypeVar("T")
OWN_PACKAGE = "intertitle"


@dataclass(frozen=True)
class Registry(Generic[T]):
    """Things of one kind by their names.

    Attributes:
        group: group of entry points, such as "intertitle.importers".
        noun: word for one of them in messages, such as "importer".
        kind: class that each of them is an instance of.
        own: the project's own by name: a reference, "module:attribute", or the thing itself.
    """

    group: str
    noun: str
    kind: type[T]
    own: Mapping[str, str | T] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Return all names without importing anything: the project's own, then those added."""
        return [*self.own, *self.added()]

    def added(self) -> list[str]:
        """Return the names that packages add, sorted, without importing anything."""
        return sorted({point.name for point in self._points()} - {*self.own})

    def check(self, name: str, where: str) -> None:
        """Check that a name is known.

        Args:
            name: name that a user gave.
            where: field or command that it was given for, for the message.

        Raises:
            UserError: the name is unknown, or several packages add it.
        """
        if name not in self.own and all(point.name != name for point in self._points()):
            raise UserError(f"{where}: {name!r}, allowed: {', '.join(self.names())}")
        self._point(name)

    def load(self, name: str, where: str) -> T:
        """Import one by its name.

        Args:
            name: name that a user gave.
            where: field or command that it was given for, for the message.

        Raises:
            UserError: the name is unknown, several packages add it, it can't be imported, or it
                declares another name.
        """
        self.check(name, where)
        own = self.own.get(name)
        if own is not None and not isinstance(own, str):
            return own
        point = self._point(name)
        loaded = self.import_reference(name, point.value)
        label = f"{self.noun} {name!r} of the package {package_of(point)}: {point.value}"
        if not isinstance(loaded, self.kind):
            raise UserError(f"{label} is {type(loaded).__name__}, expected {self.kind.__name__}")
        # What is recorded or listed under the declared name must not be taken for another one.
        if (declared := getattr(loaded, "name", name)) != name:
            raise UserError(f"{label} is named {declared!r}, expected the entry point's name")
        return loaded

    def import_reference(self, name: str, reference: str) -> Any:
        """Import what a declaration refers to.

        Args:
            name: name of the declaration, which is known.
            reference: "module:attribute".

        Raises:
            UserError: the package that adds the name can't be imported. Errors of the project's own
                modules are raised as they are.
        """
        try:
            return EntryPoint(name, reference, self.group).load()
        except Exception as error:
            if name in self.own:
                raise
            # Whatever the module of a package raises, its user has to know which package it is.
            raise UserError(
                f"{self.noun} {name!r} of the package {package_of(self._point(name))}: "
                f"{reference}: {type(error).__name__}: {error}"
            ) from error

    def load_all(self) -> tuple[dict[str, T], dict[str, str]]:
        """Import all that can be imported.

        Returns:
            Those that were imported, and the messages about those that were not, by name.
        """
        loaded: dict[str, T] = {}
        failures: dict[str, str] = {}
        for name in self.names():
            try:
                loaded[name] = self.load(name, self.noun)
            except UserError as error:
                failures[name] = str(error)
        return loaded, failures

    def _points(self) -> tuple[EntryPoint, ...]:
        return _entry_points(self.group, tuple(sys.path))

    def _point(self, name: str) -> EntryPoint:
        points = [point for point in self._points() if point.name == name]
        if name in self.own:
            points.append(EntryPoint(name, str(self.own[name]), self.group))
        if len(points) > 1:
            packages = " and ".join(sorted(package_of(point) for point in points))
            raise UserError(f"{self.noun} {name!r}: is in the packages {packages}, expected one")
        return points[0]


def package_of(point: EntryPoint) -> str:
    """Return the name of the package that an entry point belongs to."""
    return point.dist.name if point.dist is not None else OWN_PACKAGE


@lru_cache
def _entry_points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    # Reading the metadata of all packages takes some 50 ms, so it is done once a search path.
    return tuple(entry_points(group=group))
