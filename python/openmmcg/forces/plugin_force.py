"""What the plugin's forces have in common: their C++ objects are the plugin's own, without SWIG of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import openmm

from openmmcg import _openmmcg

if TYPE_CHECKING:
    from typing_extensions import Self


def _load_gpu_engines() -> None:
    """Let the GPU platforms that OpenMM has on this machine know their engine."""
    folder = Path(_openmmcg.__file__).parent / "lib"
    for index in range(openmm.Platform.getNumPlatforms()):
        library = folder / f"libOpenMMCG{openmm.Platform.getPlatform(index).getName()}.so"
        if library.exists():
            openmm.Platform.loadPluginLibrary(str(library))


_load_gpu_engines()


class PluginForce(openmm.Force):
    """A force of the plugin.

    Parameters
    ----------
    xml
        OpenMM's XML of such a force.
    """

    #: whether at this address is a C++ object of the class
    _is_at: ClassVar[Callable[[int], bool]]

    def __init__(self, xml: str) -> None:
        # The SWIG proxy of the C++ object that the plugin's serialization proxy makes becomes our own.
        self.this = openmm.XmlSerializer.deserialize(xml).this

    @property
    def _address(self) -> int:
        return int(self.this)

    @classmethod
    def of(cls, force: openmm.Force) -> Self:
        """The force of this class behind a plain proxy, for example ``CGForce.of(system.getForce(0))``.

        Raises
        ------
        TypeError
            Where the force is of another kind.
        """
        if not cls._is_at(int(force.this)):
            raise TypeError(f"{force.getName()} is not a {cls.__name__}")
        result = cls.__new__(cls)
        result.this = force.this
        return result

    def __copy__(self) -> Self:
        return self.of(openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(self)))

    def __deepcopy__(self, memo: Any) -> Self:
        return self.__copy__()
