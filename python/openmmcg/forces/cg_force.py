"""CGForce for Python."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import openmm
from numpy.typing import NDArray

from openmmcg import _openmmcg
from openmmcg.forces.plugin_force import PluginForce, integers
from openmmcg.model_file import describe_module, is_inductor_package, to_bytes

if TYPE_CHECKING:
    import torch

__all__ = ["CGForce", "KernelTime"]


def _import_torch() -> None:
    """Load libtorch through the package, so that operators registered from Python find the same one."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise openmm.OpenMMException(
            "CGForce: this model runs on the TorchScript or AOTInductor engine, which needs torch: "
            "pip install openmm-cg[train]. "
            "A potential with a compiled network runs without it, engine='native'"
        ) from error


class KernelTime(NamedTuple):
    """How long a kernel took, and the least it had to do in that time."""

    name: str
    #: s, of one run
    seconds: float
    #: floating point; a fused multiply and add is two
    operations: float
    #: bytes, if every array came from memory, or went there, just once
    memory: float
    #: bytes that a convolution's loads and stores ask the caches for
    cache: float


class CGForce(PluginForce):
    """A coarse-grained potential given by a neural network, as one Force of an OpenMM System.

    Parameters
    ----------
    model
        A file written by :meth:`openmmcg.CGPotential.save`, or its bytes; or a ``torch.jit.ScriptModule``, or a
        ``.pt2`` that AOTInductor compiled, that follows one of the contracts of docs/model-contract.md. A ``.pt2`` is a
        program: take one only from whom you trust.
    types
        The bead type of each bead, by name or by index into the model's bead types, or of each bead of one replica;
        not needed where the model has one type only. A bead keeps the name of its type when the model is replaced.
    particles
        The particles that are beads, in the order of ``types``, at least one; None: all of the System's particles.
    replicas
        The beads are this many copies of one system, one after the other (``[replicas * n]``). They do not see each
        other, wherever they are: the energy is the sum of theirs.
    periodic
        Whether distances are those of the minimum image. The cutoff may be at most half the smallest box width.
    engine
        ``"native"`` (needs a compiled network in the file), ``"inductor"`` (needs an AOTInductor package),
        ``"torchscript"``, or ``"auto"``: the first of them that is possible.
    module_options
        For a ``ScriptModule`` or a ``.pt2`` only: ``cutoff`` in nm, ``contract``, ``bead_types``, ``outputs_forces``,
        ``global_parameters`` and ``dtype`` as in :func:`openmmcg.model_file.describe_module`.

    Raises
    ------
    TypeError
        Where types or particles are no integers.
    ValueError
        Where the module options do not describe the module, or particles or types are empty.
    openmm.OpenMMException
        Where the model cannot be read, names no such bead type, or (when the Context is made) does not fit the
        System.

    Notes
    -----
    The parts can be set in any order: whether they fit each other is checked when a Context is made, in
    :meth:`updateParametersInContext`, and when the force is written to XML or pickled.

    The XML of a System that holds a CGForce contains the model, so it needs no other file, and is read by
    ``openmm.XmlSerializer`` and ``pickle`` wherever openmm-cg is installed beside OpenMM, also in processes that did
    not import it. ``system.getForce(i)`` gives a plain ``openmm.Force``; :meth:`CGForce.of` turns it back. A System
    deletes its forces: keep it for as long as you use them.

    Examples
    --------
    >>> import openmm
    >>> from openmmcg import CGForce
    >>> system = openmm.System()
    >>> for _ in range(512):
    ...     _ = system.addParticle(18.015)
    >>> system.setDefaultPeriodicBoxVectors((2.5, 0, 0), (0, 2.5, 0), (0, 0, 2.5))
    >>> index = system.addForce(CGForce("water.pt", periodic=True))  # doctest: +SKIP
    """

    _is_at = staticmethod(_openmmcg.is_cgforce)
    _assign = staticmethod(_openmmcg.assign_cgforce)

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | torch.jit.ScriptModule,
        *,
        types: Sequence[int | str] | None = None,
        particles: Sequence[int] | None = None,
        replicas: int = 1,
        periodic: bool = False,
        engine: str = "auto",
        **module_options: Any,
    ) -> None:
        super().__init__(_openmmcg.empty_cgforce_xml())
        self.setEngine(engine)
        self.setModel(model, **module_options)
        self.setUsesPeriodicBoundaryConditions(periodic)
        self.replicas = replicas
        self.setParticles(particles)
        self.setTypes(types)

    def _empty(self) -> CGForce:
        result = CGForce.__new__(CGForce)
        PluginForce.__init__(result, _openmmcg.empty_cgforce_xml())
        return result

    def getModel(self) -> bytes:
        """The bytes of the model file."""
        return _openmmcg.get_model(self._number)

    def setModel(self, model: str | os.PathLike[str] | bytes | torch.jit.ScriptModule, **module_options: Any) -> None:
        """Replace the model; a running Context takes it over by :meth:`updateParametersInContext`.

        The beads keep the names of their types, and global parameters the defaults that were set. Where the new model
        does not know them, they have to be set anew before the force is used.

        Parameters
        ----------
        model, module_options
            As of the class.
        """
        if not isinstance(model, (str, os.PathLike, bytes, bytearray)):
            _openmmcg.set_model(self._number, to_bytes(model, describe_module(model, **module_options)))
        elif module_options:
            content = bytes(model) if isinstance(model, (bytes, bytearray)) else Path(model).expanduser().read_bytes()
            if not is_inductor_package(content):
                raise TypeError(
                    f"only a ScriptModule or a .pt2 of AOTInductor needs {', '.join(module_options)}; a model file "
                    "says it itself"
                )
            description = describe_module(None, **{"outputs_forces": True, **module_options})
            _openmmcg.set_model(self._number, to_bytes(None, description, {"module.pt2": content}))
        elif isinstance(model, (bytes, bytearray)):
            _openmmcg.set_model(self._number, bytes(model))
        else:
            _openmmcg.set_model_file(self._number, str(Path(model).expanduser()))
        if self.getEngine() in ("torchscript", "inductor") or not self.hasCompiledNetwork():
            _import_torch()

    def hasCompiledNetwork(self) -> bool:
        """Whether the model can run on the native engine."""
        return _openmmcg.has_compiled_network(self._number)

    def getCutoff(self) -> float:
        """The distance in nm within which the model is given pairs of beads; 0 where it finds them itself."""
        return _openmmcg.get_cutoff(self._number)

    def getBeadTypes(self) -> list[str]:
        """The names of the model's bead types."""
        return _openmmcg.get_bead_types(self._number)

    def getEngine(self) -> str:
        """``"auto"``, ``"native"``, ``"inductor"`` or ``"torchscript"``."""
        return _openmmcg.get_engine(self._number)

    def setEngine(self, engine: str) -> None:
        """Choose the engine, see the class."""
        _openmmcg.set_engine(self._number, engine)

    def getParticles(self) -> list[int] | None:
        """The particles that are beads; None: all."""
        return _openmmcg.get_particles(self._number) or None

    def setParticles(self, particles: Sequence[int] | None) -> None:
        """Choose the particles that are beads, at least one; None: all."""
        chosen = None if particles is None else integers(particles, "particles")
        if chosen == []:
            raise ValueError("particles is empty: a CGForce needs at least one bead; None means all particles")
        _openmmcg.set_particles(self._number, chosen or [])

    def getTypes(self) -> list[int] | None:
        """The bead type of each bead, or of those of one replica; None: all are the model's only type."""
        return _openmmcg.get_types(self._number) or None

    def setTypes(self, types: Sequence[int | str] | None) -> None:
        """Give the bead type of each bead, or of each bead of one replica, by name or index; None: the only type."""
        known = {name: index for index, name in enumerate(self.getBeadTypes())}
        given = [] if types is None else list(types)
        if types is not None and not given:
            raise ValueError("types is empty: give the type of each bead; None means the model's only type")
        for bead, type_ in enumerate(given):
            if isinstance(type_, str) and type_ not in known:
                raise openmm.OpenMMException(
                    f"CGForce: bead {bead} has the unknown bead type '{type_}'; the model knows {', '.join(known)}"
                )
        indices = [known[type_] if isinstance(type_, str) else type_ for type_ in given]
        _openmmcg.set_types(self._number, integers(indices, "types"))

    @property
    def replicas(self) -> int:
        """How many copies of one system the beads are."""
        return _openmmcg.get_replicas(self._number)

    @replicas.setter
    def replicas(self, replicas: int) -> None:
        _openmmcg.set_replicas(self._number, operator.index(replicas))

    def replica_energies(self, context: openmm.Context) -> NDArray[np.float64]:
        """The energy of each replica ``[replicas]`` in kJ/mol, of this force at the present positions of a Context.

        They are computed anew; no step is slower for it. Only the native engine does not evaluate one replica after
        the other.

        Raises
        ------
        openmm.OpenMMException
            Where the Context does not hold this force.
        """
        return _openmmcg.get_replica_energies(self._number, int(context.this))

    def profile(self, context: openmm.Context, repeats: int = 20) -> list[KernelTime]:
        """Take the time of each kernel of the native engine, in an evaluation of energy and forces.

        Parameters
        ----------
        context
            A Context that holds this force, at positions of interest. With several threads it is the first one's time.
        repeats
            How often each kernel runs for its average.

        Returns
        -------
        list of KernelTime
            In no order that means anything; empty where another engine runs.
        """
        return [KernelTime(*row) for row in _openmmcg.profile(self._number, int(context.this), repeats)]

    def setUsesPeriodicBoundaryConditions(self, periodic: bool) -> None:
        """Whether distances are those of the minimum image."""
        _openmmcg.set_periodic(self._number, periodic)

    def getGlobalParameters(self) -> dict[str, float]:
        """The model's global parameters and their defaults."""
        return _openmmcg.get_global_parameters(self._number)

    def setGlobalParameterDefaultValue(self, name: str, value: float) -> None:
        """Set what a global parameter is in a new Context."""
        _openmmcg.set_global_parameter_default(self._number, name, value)

    def getEnergyParameterDerivatives(self) -> list[str]:
        """The global parameters whose derivatives are computed."""
        return _openmmcg.get_energy_parameter_derivatives(self._number)

    def addEnergyParameterDerivative(self, name: str) -> None:
        """Ask for dE/d(name) in ``State.getEnergyParameterDerivatives()`` (TorchScript engine)."""
        _openmmcg.add_energy_parameter_derivative(self._number, name)

    def updateParametersInContext(self, context: openmm.Context) -> None:
        """Let a Context that holds this force use its present model and bead types.

        Raises
        ------
        openmm.OpenMMException
            Where anything else is not as it was when the Context was made: contract, cutoff, engine, particles,
            replicas, periodicity, global parameters, their defaults and derivatives. The Context stays as it is.
        """
        _openmmcg.update_parameters_in_context(self._number, int(context.this))
