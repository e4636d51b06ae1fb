"""What the plugin's forces have in common: their C++ objects are the plugin's own, without SWIG of ours."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import openmm

from openmmcg import _openmmcg

if TYPE_CHECKING:
    from typing_extensions import Self


def integers(values: Iterable[Any], name: str) -> list[int]:
    """The values as integers; nothing is rounded, and a mask of truth values is no list of indices.

    Raises
    ------
    TypeError
        Where one is no integer.
    """
    result = []
    for place, value in enumerate(values):
        try:
            if isinstance(value, bool):
                raise TypeError
            result.append(operator.index(value))
        except TypeError:
            raise TypeError(f"{name}[{place}] is {value!r}; give integers") from None
    return result


class PluginForce(openmm.Force):
    """A force of the plugin.

    Its C++ object has a number that no other ever gets, by which all methods find it: a System deletes its forces, and
    what is left of them in Python does not learn of it.

    Parameters
    ----------
    xml
        OpenMM's XML of such a force.
    """

    #: whether at this address is a C++ object of the class
    _is_at: ClassVar[Callable[[int], bool]]
    #: make the first force equal to the second
    _assign: ClassVar[Callable[[int, int], None]]

    def __init__(self, xml: str) -> None:
        # The SWIG proxy of the C++ object that the plugin's serialization proxy makes becomes our own.
        self._take(openmm.XmlSerializer.deserialize(xml))

    def _take(self, force: openmm.Force) -> None:
        self.this = force.this
        self._number = _openmmcg.number_at(int(force.this))

    @classmethod
    def of(cls, force: openmm.Force) -> Self:
        """The force of this class behind a plain proxy, for example ``CGForce.of(system.getForce(0))``.

        The System owns it: when the System is gone, the methods of what is returned raise an error.

        Raises
        ------
        TypeError
            Where the force is of another kind, or its System is gone.
        """
        if not cls._is_at(int(force.this)):
            raise TypeError(f"{type(force).__name__} is not a {cls.__name__}, or its System is gone")
        result = cls.__new__(cls)
        result._take(force)
        return result

    def _require_living(self) -> None:
        _openmmcg.require_living(self._number, type(self).__name__)

    # OpenMM's own methods follow an address, whatever is there.

    def getForceGroup(self) -> int:
        """The force group."""
        self._require_living()
        return super().getForceGroup()

    def setForceGroup(self, group: int) -> None:
        """Choose the force group, 0 to 31; a Context that exists keeps the one it was made with."""
        self._require_living()
        super().setForceGroup(group)

    def getName(self) -> str:
        """The name, by default that of the class."""
        self._require_living()
        return super().getName()

    def setName(self, name: str) -> None:
        """Give it a name."""
        self._require_living()
        super().setName(name)

    def usesPeriodicBoundaryConditions(self) -> bool:
        """Whether distances are those of the minimum image."""
        self._require_living()
        return super().usesPeriodicBoundaryConditions()

    def __getstate__(self) -> str:
        self._require_living()
        return openmm.XmlSerializer.serialize(self)

    def __setstate__(self, xml: str) -> None:
        self._take(openmm.XmlSerializer.deserialize(xml))

    def _empty(self) -> Self:
        """A new force of the same kind, without content."""
        raise NotImplementedError

    def __copy__(self) -> Self:
        self._require_living()
        result = self._empty()
        type(self)._assign(result._number, self._number)
        return result

    def __deepcopy__(self, memo: Any) -> Self:
        return self.__copy__()
