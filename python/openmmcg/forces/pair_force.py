"""PairForce for Python."""

from __future__ import annotations

import operator

import numpy as np
import openmm
from numpy.typing import NDArray

from openmmcg import _openmmcg
from openmmcg.forces.plugin_force import PluginForce

__all__ = ["PairForce"]


class PairForce(PluginForce):
    """The energy of an OpenMM ``CustomNonbondedForce`` whose particles are of few kinds, at the speed of a force field.

    A kind is all particles with the same parameters, such as the beads of a type. Any expression, tabulated functions
    included, costs the same on the platform CPU, and there may be replicas, consecutive blocks of the System's
    particles that do not see each other, at no more than the cost of each.

    Parameters
    ----------
    force : openmm.CustomNonbondedForce
        For the particles of one replica: with a cutoff, and without interaction groups, computed values and long-range
        correction. It is copied. Global parameters and derivatives with respect to them are those of the Context, as
        of any force.
    replicas : int

    Raises
    ------
    openmm.OpenMMException
        Where the force is no such force, and (when the Context is made) where its particles times the replicas are not
        the System's, they are of more than 64 kinds, or the expression is none.

    Notes
    -----
    On the platform CPU each pair of kinds has a table of the energy, of polynomials of degree three in cells that are
    halved until energies are right within 1e-6 (relative, and 1e-6 kJ/mol) and slopes within 1e-5; where that cannot be
    (near zero distance, or at a kink) the expression itself is evaluated. Forces are the derivative of the tabulated
    energy, so energy is conserved. On Reference every pair is evaluated by the expression, in double precision. On
    other platforms OpenMM's kernels for the ``CustomNonbondedForce`` compute it. A Context keeps what it was made with.

    Examples
    --------
    >>> import openmm
    >>> from openmmcg import PairForce
    >>> repulsion = openmm.CustomNonbondedForce("(0.3/r)^12")
    >>> repulsion.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffNonPeriodic)
    >>> repulsion.setCutoffDistance(0.6)
    >>> _ = repulsion.addParticle([]), repulsion.addParticle([])
    >>> system = openmm.System()
    >>> _ = system.addParticle(10.0), system.addParticle(20.0), system.addForce(PairForce(repulsion))
    >>> platform = openmm.Platform.getPlatformByName("CPU")
    >>> context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    >>> context.setPositions([[0, 0, 0], [0.3, 0, 0]])
    >>> print(context.getState(energy=True).getPotentialEnergy())
    1.0 kJ/mol
    """

    _is_at = staticmethod(_openmmcg.is_pair_force)

    def __init__(self, force: openmm.CustomNonbondedForce, replicas: int = 1) -> None:
        if not isinstance(force, openmm.CustomNonbondedForce):
            raise TypeError(f"a PairForce is made of a CustomNonbondedForce, not of a {type(force).__name__}")
        super().__init__(_openmmcg.pair_force_xml(int(force.this)))
        self.replicas = replicas

    def __copy__(self) -> PairForce:
        result = PairForce.__new__(PairForce)
        result.__setstate__(self.__getstate__())
        return result

    def getDefinition(self) -> openmm.CustomNonbondedForce:
        """A copy of the force that it is the energy of, for one replica."""
        return openmm.XmlSerializer.deserialize(_openmmcg.get_pair_definition(self._number))

    @property
    def replicas(self) -> int:
        """Consecutive blocks of particles of the System that do not see each other."""
        return _openmmcg.get_pair_replicas(self._number)

    @replicas.setter
    def replicas(self, replicas: int) -> None:
        _openmmcg.set_pair_replicas(self._number, operator.index(replicas))

    def getReplicaEnergies(self, context: openmm.Context) -> NDArray[np.float64]:
        """The energy of this force in each replica at the Context's positions, kJ/mol, ``[replicas]``.

        Raises
        ------
        openmm.OpenMMException
            On platforms other than Reference and CPU, and where the force is not that of the Context.
        """
        return _openmmcg.get_pair_replica_energies(self._number, int(context.this))
