"""Boltzmann inversion: the reference's distributions come back, and interruptions leave no trace."""

import json
from dataclasses import replace

import numpy as np
import openmm
import pytest
from conftest import random_potential
from test_fitting_boltzmann_inversion_distributions import (
    KT,
    angle_energy,
    bond_energy,
    chains,
    dihedral_energy,
    draw,
    write,
)

from openmmcg import CGPotential
from openmmcg.analysis import radial_distribution
from openmmcg.fitting import BoltzmannInversion
from openmmcg.fitting.boltzmann_inversion.figures import convergence, distributions
from openmmcg.frames import Frames, FrameWriter
from openmmcg.geometry.internal_coordinates import angles, dihedrals, distances
from openmmcg.mapping import cg_topology
from openmmcg.potentials import Repulsion, TabulatedPairs
from openmmcg.simulation import UnstableSimulationError, minimise, run

QUIET = {"threads": 1, "progress": False}
# Of small molecules: strong friction, for samples that soon forget each other.
FAST = {"replicas": 20, "duration": 20.0, "interval": 0.2, "time_step": 0.005, "friction": 20.0}


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """1500 frames of a chain of 8 beads of one type, with independent bonds, angles and dihedrals."""
    path = tmp_path_factory.mktemp("chain") / "chain.h5md"
    positions = chains(np.random.default_rng(5), 1500, 8)
    return write(path, positions, ["A"] * 8, [(bead, bead + 1) for bead in range(7)])


@pytest.fixture(scope="module")
def triangle(tmp_path_factory):
    """Exact frames of three beads joined by harmonic bonds: each angle follows from the bonds."""
    random, number = np.random.default_rng(6), 30_000
    # The volume element of a triangle in terms of its sides is their product.
    sides = draw(random, lambda r: 0.5 * 4e3 * (r - 0.3) ** 2, lambda r: r, 0.15, 0.45, (number, 3))
    a, b, c = sides[sides.max(1) < sides.sum(1) / 2][:3000].T
    x = (a**2 + b**2 - c**2) / (2 * a)
    positions = np.zeros((len(a), 3, 3))
    positions[:, 1, 0], positions[:, 2, 0], positions[:, 2, 1] = a, x, np.sqrt(b**2 - x**2)
    path = tmp_path_factory.mktemp("triangle") / "triangle.h5md"
    return write(path, positions, ["A"] * 3, [(0, 1), (1, 2), (0, 2)])


@pytest.fixture(scope="module")
def finished(triangle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inversion")
    return BoltzmannInversion(**FAST).fit(triangle, folder, **QUIET), folder


def test_independent_coordinates_need_no_iteration(chain, tmp_path):
    result = BoltzmannInversion(**FAST).fit(chain, tmp_path, **QUIET)
    assert (result.converged, result.best, len(result.divergences)) == (True, 0, 1)
    assert result.divergences.max() < 0.005
    # The potential is that of the chain: at positions it visits, up to a constant.
    energies = []
    context = openmm.Context(
        result.potential.create_system(cg_topology_of_chain(), remove_center_of_mass_motion=False),
        openmm.VerletIntegrator(0.001),
        openmm.Platform.getPlatformByName("Reference"),
    )
    with Frames(chain) as frames:
        positions = frames.positions[:200]
    for frame in positions:
        context.setPositions(frame)
        energies.append(context.getState(energy=True).getPotentialEnergy()._value)
    difference = np.array(energies) - exact_energy(positions)
    assert difference.std() < 0.5 * KT  # of 18 coordinates together
    assert exact_energy(positions).std() > 2.5 * KT


def cg_topology_of_chain():
    topology = cg_topology(["A"] * 8)
    atoms = list(topology.atoms())
    for first, second in zip(atoms, atoms[1:], strict=False):
        topology.addBond(first, second)
    return topology


def exact_energy(positions):
    return (
        bond_energy(distances(positions, [[i, i + 1] for i in range(7)])).sum(1)
        + angle_energy(angles(positions, [[i, i + 1, i + 2] for i in range(6)])).sum(1)
        + dihedral_energy(dihedrals(positions, [[i, i + 1, i + 2, i + 3] for i in range(5)])).sum(1)
    )


def test_coordinates_that_follow_from_each_other_converge_by_iterating(finished):
    result, folder = finished
    assert result.divergences[0].max() > 0.005
    assert result.converged
    assert result.divergences[result.best].max() <= 0.005
    assert len(result.divergences) == result.best + 1
    # Bonds and angles both hold the triangle in its shape, so each begins with half of its direct inversion.
    with np.load(folder / "iteration_0.npz") as first:
        histograms = np.split(first["blocks"].sum(axis=0), np.cumsum(first["sizes"])[:-1])
        for index, coordinate in enumerate(result.coordinates):
            exact = spread(coordinate, result.reference[index])
            assert spread(coordinate, histograms[index]) == pytest.approx(exact, rel=0.15)
            assert spread(coordinate, result.simulated[index]) == pytest.approx(exact, rel=0.06)


def spread(coordinate, weights):
    """Standard deviation."""
    mean = np.average(coordinate.centers, weights=weights)
    return np.sqrt(np.average((coordinate.centers - mean) ** 2, weights=weights))


def test_a_finished_inversion_is_a_file_a_table_and_figures(finished):
    result, folder = finished
    assert CGPotential.load(folder / "potential.pt").to_bytes() == result.potential.to_bytes()
    assert result.potential.temperature == 300
    assert [prior.getName() for prior in result.potential.priors] == ["TabulatedBonds", "TabulatedAngles"]
    summary = json.loads((folder / "divergences.json").read_text())
    assert summary == result.summary()
    assert set(summary["divergences"]) == {"bond A-A", "angle A-A-A"}
    assert summary["divergences"]["bond A-A"]["best"] == result.divergences[result.best, 0]
    assert summary["deviations"]["bond A-A, divergence"]["best"] == result.deviations[result.best, 0]
    for figure in (distributions(result), convergence(result)):
        figure.savefig(folder / "figure.png")
        assert (folder / "figure.png").stat().st_size > 5000
    assert len(distributions(result).axes) == 2


def test_a_finished_inversion_is_not_done_again_and_not_with_other_settings(finished, triangle):
    result, folder = finished
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = BoltzmannInversion(**FAST).fit(triangle, folder, **QUIET)
    assert again.potential.to_bytes() == result.potential.to_bytes()
    assert np.array_equal(again.divergences, result.divergences)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == files
    with pytest.raises(ValueError, match=r"holds an inversion with other inputs .*damping 1.0 there, 0.6 here"):
        BoltzmannInversion(**FAST, damping=0.6).fit(triangle, folder, **QUIET)


def test_an_interrupted_inversion_goes_on_where_it_was(triangle, tmp_path, monkeypatch):
    options = {**FAST, "replicas": 4, "duration": 2.0, "iterations": 2, "tolerance": 1e-9}
    whole = BoltzmannInversion(**options).fit(triangle, tmp_path / "whole", **QUIET)
    assert len(whole.divergences) == 3 and not whole.converged
    simulations = []

    def interrupted(*arguments, **keywords):
        simulations.append(arguments[3].name)
        if len(simulations) == 3:
            raise KeyboardInterrupt
        return run(*arguments, **keywords)

    monkeypatch.setattr("openmmcg.fitting.reference_frames.run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        BoltzmannInversion(**options).fit(triangle, tmp_path / "parts", **QUIET)
    result = BoltzmannInversion(**options).fit(triangle, tmp_path / "parts", **QUIET)
    assert simulations == ["iteration_0.h5md", "iteration_1.h5md", "iteration_2.h5md", "iteration_2.h5md"]
    assert np.array_equal(result.divergences, whole.divergences)
    assert result.potential.to_bytes() == whole.potential.to_bytes()


def test_it_stops_where_nothing_improves(triangle, tmp_path):
    options = {**FAST, "replicas": 2, "duration": 1.0, "tolerance": 1e-9, "patience": 1, "iterations": 50}
    result = BoltzmannInversion(**options).fit(triangle, tmp_path, **QUIET)
    worst = result.divergences.max(1)
    assert not result.converged
    assert len(worst) == result.best + 2 and worst[-1] >= worst[result.best] == worst.min()


def test_beads_that_the_integrator_heats_are_an_error(triangle, tmp_path, monkeypatch):
    options = {**FAST, "replicas": 2, "duration": 1.0}
    monkeypatch.setattr(
        "openmmcg.fitting.reference_frames.run",
        lambda *arguments, **keywords: replace(run(*arguments, **keywords), mean_temperature=450.0),
    )
    with pytest.raises(UnstableSimulationError, match="450 K on average instead of 300 K: a time step of 0.005 ps"):
        BoltzmannInversion(**options).fit(triangle, tmp_path, **QUIET)


def test_several_runs_are_one_reference(triangle, tmp_path):
    with Frames(triangle) as frames:
        positions = frames.positions[:]
    bonds = [(0, 1), (1, 2), (0, 2)]
    parts = [write(tmp_path / f"{k}.h5md", positions[k::2], ["A"] * 3, bonds) for k in range(2)]
    options = {**FAST, "replicas": 2, "duration": 1.0, "iterations": 0}
    result = BoltzmannInversion(**options).fit(parts, tmp_path / "parts", **QUIET)
    whole = BoltzmannInversion(**options).fit(triangle, tmp_path / "whole", **QUIET)
    for density, other in zip(result.reference, whole.reference, strict=True):
        assert density == pytest.approx(other)
    other = write(tmp_path / "warm.h5md", positions[:50], ["A"] * 3, bonds, temperature=350.0)
    with pytest.raises(ValueError, match="is of 350.0 K and .* of 300.0 K"):
        BoltzmannInversion(**options).fit([parts[0], other], tmp_path / "mixed", **QUIET)


BEADS, CUTOFF = 216, 0.6
BOX = np.eye(3) * 1.9


def weak_potential(*priors):
    """A network that hardly says anything, so that the priors are the liquid."""
    return random_potential(
        bead_types=[("W", 18.0)],
        priors=[Repulsion([[0.28]], cutoff=0.45), *priors],
        channels=4,
        blocks=1,
        cutoff=CUTOFF,
        energy_scale=1e-6,
    )


def attraction():
    """A well at 0.4 nm that the weak potential knows nothing of."""
    distances = np.linspace(0, CUTOFF, 121)
    return TabulatedPairs({(0, 0): -2.0 * np.exp(-(((distances - 0.38) / 0.03) ** 2))}, CUTOFF)


def simulate(potential, path, duration):
    side = int(np.ceil(BEADS ** (1 / 3)))
    lattice = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)[:BEADS]
    system = potential.create_system(cg_topology(["W"] * BEADS, BOX))
    start = minimise(system, (lattice + 0.5) * BOX[0, 0] / side, BOX)
    options = {"interval": 0.1, "equilibration": 3.0, "time_step": 0.005}
    run(system, start, BOX, path, duration=duration, types=[0] * BEADS, type_names=["W"], **options, **QUIET)
    return path


def structure(path, maximum=0.9, bin_width=0.01):
    with Frames(path) as frames:
        return radial_distribution(frames.positions, frames.boxes, maximum=maximum, bin_width=bin_width)


@pytest.fixture(scope="module")
def liquid(tmp_path_factory):
    return simulate(weak_potential(attraction()), tmp_path_factory.mktemp("liquid") / "liquid.h5md", 10.0)


LIQUID = {"replicas": 1, "duration": 5.0, "interval": 0.1, "time_step": 0.005}


@pytest.mark.parametrize("start", ["potential", "nothing"])
def test_the_structure_of_a_liquid_comes_back(liquid, tmp_path, start):
    options = {**LIQUID, "iterations": 3, "largest_difference": 1e-3}
    if start == "potential":
        inversion = BoltzmannInversion(weak_potential(), damping=0.8, **options)
    else:
        inversion = BoltzmannInversion(cutoff=CUTOFF, **options)
    result = inversion.fit(liquid, tmp_path, **QUIET)
    assert [coordinate.label for coordinate in result.coordinates] == ["pair W-W"]
    assert [criterion.label for criterion in result.criteria] == ["pair W-W, largest |Δg|", "pair W-W, mean |Δg|"]
    assert (result.deviations[result.best] < 0.5 * result.deviations[0]).all()
    target = structure(liquid)
    before, after = (
        structure(tmp_path / f"iteration_{iteration}.0.h5md").mean_absolute_difference(target, 0.2, 0.9)
        for iteration in (0, result.best)
    )
    assert after < 0.4 * before
    assert result.potential.has_network == (start == "potential")


def test_what_is_measured_of_a_liquid_is_its_radial_distribution_function(liquid, tmp_path):
    result = BoltzmannInversion(cutoff=CUTOFF, iterations=0, **LIQUID).fit(liquid, tmp_path, **QUIET)
    exact, ours = (
        structure(path, maximum=CUTOFF, bin_width=0.005) for path in (liquid, tmp_path / "iteration_0.0.h5md")
    )
    np.testing.assert_allclose(result.reference[0], exact.g, atol=1e-9)
    np.testing.assert_allclose(result.simulated[0], ours.g, atol=1e-9)
    difference = np.abs(ours.g - exact.g)[np.argmax(exact.g > 0) :]
    np.testing.assert_allclose(result.deviations, [[difference.max(), difference.mean()]])
    # The divergence hardly sees a peak that is off by some 0.3, and in any sample by twice the tolerance.
    assert result.divergences.max() < 0.005 and difference.max() > 0.2
    assert not result.converged
    summary = json.loads((tmp_path / "divergences.json").read_text())
    assert summary["deviations"]["pair W-W, largest |Δg|"]["best"] == pytest.approx(difference.max())
    figure = convergence(result)
    assert [axes.get_ylabel() for axes in figure.axes] == ["largest |Δg| of g(r)", "mean |Δg| of g(r)"]


def test_without_a_cutoff_pairs_reach_to_where_nothing_is_left_of_the_structure(liquid, tmp_path):
    result = BoltzmannInversion(iterations=0, **{**LIQUID, "duration": 0.5}).fit(liquid, tmp_path, **QUIET)
    cutoff = result.coordinates[0].edges[-1]
    assert cutoff <= BOX[0, 0] / 2
    target = structure(liquid)
    beyond = target.distance > cutoff
    assert np.abs(target.g[beyond] - 1).max(initial=0) < 0.1
    assert np.abs(target.g[target.distance > cutoff - 0.03] - 1).max() > 0.03


def test_a_correction_keeps_what_the_potential_was(liquid, tmp_path):
    potential = weak_potential()
    options = {**LIQUID, "duration": 0.5, "iterations": 1, "largest_difference": 1e-3}
    result = BoltzmannInversion(potential, **options).fit(liquid, tmp_path, **QUIET)
    corrected = result.potential
    assert result.best == 1
    assert [prior.getName() for prior in corrected.priors] == ["Repulsion", "TabulatedPairs"]
    assert corrected.compile() == potential.compile()
    assert (corrected.bead_types, corrected.temperature) == (potential.bead_types, 300)
    assert corrected.provenance["boltzmann_inversion"]["iterations"] == 1
    table = np.array(corrected.priors[1].getTabulatedFunction(0).getFunctionParameters()[0])
    assert table[-1] == pytest.approx(0)
    assert abs(table[-1] - table[-2]) < 0.01


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"coordinates": ["torsions"]}, "some of bonds, angles, dihedrals, pairs"),
        ({"coordinates": []}, "coordinates are some of"),
        ({"iterations": -1}, "iterations from 0 on"),
        ({"replicas": 0}, "replicas from 1 on"),
        ({"damping": 1.5}, "damping above 0 and up to 1"),
        ({"tolerance": 0.0}, "tolerance between 0 and 1"),
        ({"tolerance": 1.0}, "tolerance between 0 and 1"),
        ({"duration": 0.2, "interval": 0.2}, "duration two intervals or more"),
        ({"interval": 0.0}, "must be positive"),
        ({"largest_difference": 0.0}, "that are tolerated must be positive"),
        ({"mean_difference": float("nan")}, "that are tolerated must be positive"),
    ],
)
def test_bad_settings_are_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        BoltzmannInversion(**options)


def test_frames_that_cannot_be_inverted_are_refused_before_anything_is_done(triangle, tmp_path):
    with Frames(triangle) as frames:
        positions = frames.positions[:40]
    bonds, names, folder = [(0, 1), (1, 2), (0, 2)], ["A"] * 3, tmp_path / "inversion"
    few = write(tmp_path / "few.h5md", positions, names, bonds)
    loose = write(tmp_path / "loose.h5md", positions, names, [])
    liquid = write(tmp_path / "liquid.h5md", positions, names, [], box=BOX)
    cases = [
        ({"replicas": 41}, few, "41 replicas need as many frames to start from, .*; there are 40"),
        ({}, loose, "knows no bonds and is not periodic"),
        ({"coordinates": ["bonds", "pairs"]}, few, "pairs need a cutoff"),
        ({"cutoff": 0.96}, liquid, "0.96 nm, exceeds half the smallest width of the box of .*, 0.9500 nm"),
        ({"cutoff": 0.0}, liquid, "must be positive"),
        ({"coordinates": ["angles"]}, few, "bonds must be among the coordinates"),
        ({"potential": weak_potential()}, few, r"has the bead types \['A'\], the potential \['W'\]"),
    ]
    for options, path, problem in cases:
        with pytest.raises(ValueError, match=problem):
            BoltzmannInversion(**options).fit(path, folder, **QUIET)
    with pytest.raises(FileNotFoundError):
        BoltzmannInversion().fit(tmp_path / "nothing.h5md", folder, **QUIET)
    with pytest.raises(ValueError, match="no frames are selected of the 40"):
        BoltzmannInversion().fit(few, folder, frames=slice(100, None), **QUIET)
    assert not folder.exists()
    with pytest.raises(ValueError, match="have 10 or more of the .*; take more frames, or fewer bins"):
        BoltzmannInversion(bins=300).fit(few, folder, **QUIET)


def test_bonds_too_stiff_for_the_time_step_are_refused_before_anything_is_done(tmp_path):
    random = np.random.default_rng(0)
    positions = np.zeros((200, 2, 3))
    positions[:, 1, 0] = random.normal(0.15, 3e-4, 200)
    path = write(tmp_path / "stiff.h5md", positions, ["A", "A"], [(0, 1)])
    # ω = √(k_B T/μ)/σ with the reduced mass μ = 10 amu, and 1.5/ω is 0.9 fs.
    with pytest.raises(
        ValueError, match=r"bond A-A is so stiff, 0.00029 nm .* 0.002 ps is too long; take 0.0009 ps or less"
    ):
        BoltzmannInversion(bins=20).fit(path, tmp_path / "inversion", **QUIET)
    assert not (tmp_path / "inversion").exists()


def test_frames_without_a_temperature_are_refused(triangle, tmp_path):
    import h5py

    from openmmcg.frames.h5md import TEMPERATURE

    path = tmp_path / "foreign.h5md"
    path.write_bytes(triangle.read_bytes())
    with h5py.File(path, "r+") as file:
        del file[TEMPERATURE]
    with pytest.raises(ValueError, match="does not say at which temperature"):
        BoltzmannInversion().fit(path, tmp_path / "inversion", **QUIET)


def test_frames_of_a_changing_box_are_refused(tmp_path):
    path = tmp_path / "npt.h5md"
    particles = {"names": ["W"] * 2, "types": [0, 0], "type_names": ["W"], "masses": [18.0] * 2}
    with FrameWriter(path, **particles, temperature=300.0, forces=False) as writer:
        for time in range(20):
            writer.append(np.array([[0.0, 0, 0], [0.3, 0, 0]]), BOX * (1 + 0.01 * time), time=float(time))
    with pytest.raises(ValueError, match=r"frame 19 of .* by 0.3610 nm .* frames of constant volume"):
        BoltzmannInversion(cutoff=0.6).fit(path, tmp_path / "inversion", **QUIET)
