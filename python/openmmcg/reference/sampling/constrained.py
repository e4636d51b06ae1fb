r"""All-atom configurations that belong to one configuration of the beads, p(r|R): backmapping by restraints.

Stiff harmonic springs hold every bead where it is while its atoms move on (Maier & Jackson, section II D 3). For a
linear map this samples

.. math:: p_k(r) \propto e^{-U(r)/k_BT} \prod_I \mathcal{N}(\sum_i M_{Ii} r_i;\, R_I, k_BT/k)

which becomes p(r|R) itself for large k, without any correction of a Jacobian.
"""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np
import openmm
from numpy.typing import ArrayLike, NDArray
from openmm import unit
from scipy.spatial.transform import Rotation

from openmmcg.constants import GAS_CONSTANT
from openmmcg.mapping import Mapping
from openmmcg.reference.sampling.free import SamplingResult, sample

# 5·10⁴ kcal/mol/Å², Maier & Jackson; a bead then moves by 0.0035 Å at 300 K.
STIFFNESS = 5e4 * 418.4


def restrain_beads(
    system: openmm.System, mapping: Mapping, bead_positions: ArrayLike, stiffness: float = STIFFNESS
) -> openmm.System:
    """A copy of an all-atom System with a spring ½k|R − R₀|² on every bead.

    Motion of the common centre of mass is no longer removed, since the springs hold the molecule in place.

    Parameters
    ----------
    system
        All-atom, not changed.
    mapping
        Any linear map of its atoms.
    bead_positions
        R₀, ``[beads, 3]``, nm.
    stiffness
        k, kJ/mol/nm².

    Raises
    ------
    ValueError
        A map of another number of atoms, bead positions that do not fit it or are not finite, a stiffness that is not
        positive, or a periodic System, whose molecules springs to fixed places would tear at the faces of the box.

    Examples
    --------
    >>> from openmmcg.reference import water_box
    >>> topology, system, positions = water_box("spce", molecules=64)
    >>> restrain_beads(system, Mapping.center_of_mass(topology), np.zeros((64, 3)))
    Traceback (most recent call last):
    ...
    ValueError: the System is periodic; beads are restrained of molecules without a box
    """
    if mapping.number_of_atoms != system.getNumParticles():
        raise ValueError(f"the map is for {mapping.number_of_atoms} atoms, the System has {system.getNumParticles()}")
    targets = _checked_beads(mapping, bead_positions)
    if not (np.isfinite(stiffness) and stiffness > 0):
        raise ValueError(f"the stiffness must be positive, got {stiffness} kJ/mol/nm²")
    if system.usesPeriodicBoundaryConditions():
        raise ValueError("the System is periodic; beads are restrained of molecules without a box")
    restrained = copy.deepcopy(system)
    for index in reversed(range(restrained.getNumForces())):
        if isinstance(restrained.getForce(index), openmm.CMMotionRemover):
            restrained.removeForce(index)
    springs = openmm.CustomCentroidBondForce(1, "0.5*stiffness*((x1-x0)^2+(y1-y0)^2+(z1-z0)^2)")
    springs.setName("BeadRestraint")
    springs.addGlobalParameter("stiffness", stiffness)
    for name in ("x0", "y0", "z0"):
        springs.addPerBondParameter(name)
    matrix = mapping.position_matrix
    for bead, target in enumerate(targets):
        row = slice(matrix.indptr[bead], matrix.indptr[bead + 1])
        group = springs.addGroup(matrix.indices[row].tolist(), matrix.data[row].tolist())
        springs.addBond([group], target.tolist())
    restrained.addForce(springs)
    return restrained


def frames_nearby(
    positions: ArrayLike, mapping: Mapping, bead_positions: ArrayLike, number: int
) -> NDArray[np.float64]:
    """Of an equilibrium trajectory those frames whose beads are most like given ones, superposed on them.

    What the beads leave open, such as which way a ring is turned, is in these frames about as often as in p(r|R): runs
    of `sample_constrained` that start from them need not wait for what changes slowly with the beads in place.

    Parameters
    ----------
    positions
        ``[frames, atoms, 3]``, nm, of one molecule that is whole.
    mapping
        Any linear map of the atoms.
    bead_positions
        R, ``[beads, 3]``, nm.
    number
        How many.

    Returns
    -------
    array [number, atoms, 3]
        nm, turned and moved as a whole so that the beads are as near to R as they can be, the nearest frame first.

    Raises
    ------
    ValueError
        Bead positions that do not fit the map, or fewer frames than the number.
    """
    atoms = np.asarray(positions, dtype=np.float64)
    targets = _checked_beads(mapping, bead_positions)
    if not 1 <= number <= len(atoms):
        raise ValueError(f"of {len(atoms)} frames {number} were asked for; give 1 to {len(atoms)}")
    beads = mapping.map_positions(atoms)
    places = beads.mean(axis=1, keepdims=True)
    rotations, distances = zip(
        *(Rotation.align_vectors(targets - targets.mean(axis=0), each) for each in beads - places), strict=True
    )
    nearest = np.argsort(distances)[:number]
    turned = [rotations[frame].apply(atoms[frame] - places[frame]) for frame in nearest]
    return np.array(turned) + targets.mean(axis=0)


def sample_constrained(
    system: openmm.System,
    topology: Any,
    positions: ArrayLike,
    mapping: Mapping,
    path: str | os.PathLike[str],
    *,
    bead_positions: ArrayLike | None = None,
    frames: int,
    interval: float,
    stiffness: float = STIFFNESS,
    time_step: float = 5e-5,
    temperature: float = 300.0,
    equilibration: float = 0.0,
    friction: float = 1.0,
    platform: str | None = "Reference",
    threads: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> SamplingResult:
    """Sample p(r|R) of the beads' configuration R to which given atoms belong, or of another one.

    A frame of an equilibrium trajectory is itself a sample of p(r|R) of its beads, so that starting from one needs no
    equilibration but that of the velocities, which are drawn anew.

    Parameters
    ----------
    system, topology
        All-atom, without a box.
    positions
        ``[atoms, 3]``, nm.
    mapping
        Any linear map of the atoms.
    bead_positions
        R, ``[beads, 3]``, nm, where the beads are held; by default where they are. Atoms of other beads nearby are
        moved there, each with its bead, and the energy is minimised: that needs an equilibration of some ps.
    path
        The H5MD file to write; a run may be interrupted at any moment and goes on when called again.
    frames, interval, equilibration, temperature, friction, threads, seed, progress
        As of `sample`.
    stiffness
        k, kJ/mol/nm². Beads move about their places by √(k_B T/k) in each direction.
    time_step
        ps; that of the paper by default. The integrator samples harmonic motion exactly as long as it is stable, which
        for a bead of mass m is up to 2 √(m/k), 1.6 fs for 14 amu: steps of 0.25 fs do for the default stiffness.
    platform
        Reference by default, which is the fastest for a small molecule.

    Returns
    -------
    SamplingResult

    Raises
    ------
    ValueError
        As `restrain_beads` and `sample`, and for a time step with which a spring is not stable.
    FileExistsError, openmmcg.simulation.resumable.UnstableSimulationError
        As `sample`.

    Notes
    -----
    What moves slowly at fixed beads, such as side chains inside one bead, has to be sampled by the run itself: make
    several, from `frames_nearby`.
    """
    start = np.asarray(positions, dtype=np.float64)
    targets = mapping.map_positions(start) if bead_positions is None else _checked_beads(mapping, bead_positions)
    restrained = restrain_beads(system, mapping, targets, stiffness)
    limit = 2 * np.sqrt(_lightest(system, mapping) / stiffness)
    if not time_step < limit:
        raise ValueError(
            f"springs of {stiffness:g} kJ/mol/nm² need time steps below {limit:.2g} ps on the lightest bead, got "
            f"{time_step} ps; take shorter steps or softer springs"
        )
    if bead_positions is not None:
        start = _moved(start, _masses(system), mapping, targets)
    return sample(
        restrained,
        topology,
        start,
        path,
        minimisation=None if bead_positions is None else 10.0,
        frames=frames,
        interval=interval,
        equilibration=equilibration,
        temperature=temperature,
        time_step=time_step,
        friction=friction,
        platform=platform,
        threads=threads,
        seed=seed,
        progress=progress,
    )


def restraint_energy(
    positions: ArrayLike, mapping: Mapping, bead_positions: ArrayLike, stiffness: float = STIFFNESS
) -> NDArray[np.float64]:
    """Energy of the springs, the bias V of equation 17, ``[frames]``, kJ/mol.

    Parameters
    ----------
    positions
        ``[frames, atoms, 3]``, nm.
    mapping, bead_positions, stiffness
        As of `restrain_beads`.
    """
    moved = mapping.map_positions(positions) - np.asarray(bead_positions, dtype=np.float64)
    return np.asarray(0.5 * stiffness * (moved**2).sum(axis=(-2, -1)))


def release_weights(bias_energy: ArrayLike, temperature: float = 300.0) -> NDArray[np.float64]:
    r"""Weights of frames that take a bias out again, the largest being one.

    .. math:: \langle A \rangle_U = \langle A e^{\beta V} \rangle_{U+V} / \langle e^{\beta V} \rangle_{U+V}

    Maier & Jackson, equation 17.

    Parameters
    ----------
    bias_energy
        V, ``[frames]``, kJ/mol.
    temperature
        K.

    Notes
    -----
    The averages are those of the molecule without springs, over all configurations of its beads, and the weights'
    variance is finite only where the springs are softer than what they hold. For springs as stiff as the default they
    give the few frames with the most extended springs all the weight, and the conditional average that one wants is
    closer to the one without weights: its bias is of the order k_B T/k, its error does not suffer. Judge by
    `openmmcg.electronic.ConditionalNoise.samples`.

    Examples
    --------
    >>> release_weights([0.0, 2.494], temperature=300.0).round(3).tolist()
    [0.368, 1.0]
    """
    energy = np.asarray(bias_energy, dtype=np.float64)
    if not temperature > 0:
        raise ValueError(f"the temperature must be positive, got {temperature} K")
    return np.exp((energy - energy.max()) / (GAS_CONSTANT * temperature))


def _checked_beads(mapping: Mapping, bead_positions: ArrayLike) -> NDArray[np.float64]:
    targets = np.asarray(bead_positions, dtype=np.float64)
    if targets.shape != (mapping.number_of_beads, 3) or not np.isfinite(targets).all():
        raise ValueError(
            f"bead positions must be finite and of shape [{mapping.number_of_beads}, 3] for this map, got "
            f"{list(targets.shape)}"
        )
    return targets


def _moved(
    positions: NDArray[np.float64], masses: NDArray[np.float64], mapping: Mapping, targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The atoms with the least mass-weighted displacement to where their beads are at the targets.

    Of centres of mass without common atoms, the atoms of a bead move together.
    """
    matrix = mapping.position_matrix.toarray()
    weighted = matrix / masses
    return positions + weighted.T @ np.linalg.solve(weighted @ matrix.T, targets - mapping.map_positions(positions))


def _masses(system: openmm.System) -> NDArray[np.float64]:
    return np.array([system.getParticleMass(i).value_in_unit(unit.dalton) for i in range(system.getNumParticles())])


def _lightest(system: openmm.System, mapping: Mapping) -> float:
    """The least of the masses with which springs move beads, amu: 1 / Σ M²/m."""
    with np.errstate(divide="ignore"):
        return float(1 / (mapping.position_matrix.power(2) @ (1 / _masses(system))).max())
