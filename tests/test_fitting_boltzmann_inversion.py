"""Boltzmann inversion: the structure of a liquid comes back, and interruptions leave no trace."""

import numpy as np
import openmm
import pytest
from conftest import random_potential

from openmmcg import CGPotential
from openmmcg.analysis import radial_distribution
from openmmcg.fitting import BoltzmannInversion
from openmmcg.fitting.boltzmann_inversion import pair_potential
from openmmcg.frames import Frames, FrameWriter
from openmmcg.mapping import cg_topology
from openmmcg.potentials import Repulsion
from openmmcg.simulation import minimise, run

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
    return pair_potential(distances, -2.0 * np.exp(-(((distances - 0.38) / 0.03) ** 2)), CUTOFF)


def simulate(potential, path, duration):
    side = int(np.ceil(BEADS ** (1 / 3)))
    lattice = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)[:BEADS]
    system = potential.create_system(cg_topology(["W"] * BEADS, BOX))
    start = minimise(system, (lattice + 0.5) * BOX[0, 0] / side, BOX)
    options = {"interval": 0.1, "equilibration": 3.0, "time_step": 0.005, "threads": 1, "progress": False}
    run(system, start, BOX, path, duration=duration, **options)
    return path


def structure(path):
    with Frames(path) as frames:
        return radial_distribution(frames.positions, frames.boxes, maximum=0.9, bin_width=0.01)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return simulate(weak_potential(attraction()), tmp_path_factory.mktemp("reference") / "liquid.h5md", 20.0)


def inversion(**options):
    return BoltzmannInversion(weak_potential(), **{"duration": 5.0, "time_step": 0.005, **options})


def test_the_structure_of_the_reference_comes_back(reference, tmp_path):
    corrected = inversion(iterations=3, fraction=0.8).fit(reference, tmp_path, threads=1, progress=False)
    target = structure(reference)
    before = structure(simulate(weak_potential(), tmp_path / "before.h5md", 10.0))
    after = structure(simulate(corrected, tmp_path / "after.h5md", 10.0))
    difference = before.mean_absolute_difference(target, 0.2, 0.9)
    assert difference > 0.08
    assert after.mean_absolute_difference(target, 0.2, 0.9) < 0.25 * difference


def test_the_first_correction_is_the_logarithm_of_the_ratio_of_the_distributions(reference, tmp_path):
    fraction = 0.5
    corrected = inversion(fraction=fraction).fit(reference, tmp_path, threads=1, progress=False)
    assert [prior.getName() for prior in corrected.priors] == ["Repulsion", "PairCorrection"]
    curves = []
    for path in (reference, tmp_path / "iteration_0.h5md"):
        with Frames(path) as frames:
            curves.append(radial_distribution(frames.positions, frames.boxes, maximum=CUTOFF, bin_width=0.005))
    with np.errstate(divide="ignore", invalid="ignore"):  # where there are no pairs
        energies = fraction * 8.314462618e-3 * 300 * np.log(curves[1].g / curves[0].g)
    system = openmm.System()
    force = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(corrected.priors[1]))
    for _ in range(2):
        system.addParticle(1.0)
        force.addParticle([0])
    system.addForce(force)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    for place in (64, 70, 76):  # between 0.32 and 0.39 nm, where neither few pairs nor the cutoff matter
        context.setPositions([[0, 0, 0], [curves[0].distance[place], 0, 0]])
        energy = context.getState(energy=True).getPotentialEnergy()._value
        assert energy == pytest.approx(energies[place - 2 : place + 3].mean(), abs=0.1)


def test_a_correction_keeps_what_the_potential_was(reference, tmp_path):
    potential = weak_potential()
    corrected = BoltzmannInversion(potential, duration=1.0, time_step=0.005).fit(
        reference, tmp_path, threads=1, progress=False
    )
    assert corrected.compile() == potential.compile()
    assert (corrected.bead_types, corrected.temperature) == (potential.bead_types, 300)
    assert corrected.provenance["boltzmann_inversion"]["fraction"] == 0.5
    assert CGPotential.load(tmp_path / "corrected.pt").to_bytes() == corrected.to_bytes()


def test_a_finished_correction_is_not_done_again_and_not_with_other_settings(reference, tmp_path):
    first = inversion(duration=1.0).fit(reference, tmp_path, threads=1, progress=False)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = inversion(duration=1.0).fit(reference, tmp_path, threads=1, progress=False)
    assert again.to_bytes() == first.to_bytes()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files
    with pytest.raises(ValueError, match="holds a correction with other settings .*fraction 0.5 there, 0.6 here"):
        inversion(duration=1.0, fraction=0.6).fit(reference, tmp_path, threads=1, progress=False)


def test_a_pair_potential_is_as_given_and_vanishes_smoothly_at_the_cutoff():
    distances = np.linspace(0, CUTOFF, 121)
    force = pair_potential(distances, np.full(121, 3.0), CUTOFF)
    table = np.array(force.getTabulatedFunction(0).getFunctionParameters()[0])
    assert table[:80] == pytest.approx(np.full(80, 3.0))
    assert table[-1] == pytest.approx(0)
    assert abs(table[-1] - table[-2]) < 0.01
    assert (np.diff(table) <= 1e-12).all()


def test_liquids_of_several_bead_types_are_refused():
    with pytest.raises(ValueError, match="one bead type, the potential has 2"):
        BoltzmannInversion(random_potential())


@pytest.mark.parametrize("options", [{"iterations": 0}, {"fraction": 0.0}, {"fraction": 1.5}, {"duration": 0.0}])
def test_bad_settings_are_refused(options):
    with pytest.raises(ValueError, match="needs at least one iteration"):
        inversion(**options)


def test_frames_without_a_box_or_of_other_beads_are_refused(tmp_path):
    for name, box, problem in (("W", None, "not periodic"), ("X", BOX, "has the bead types")):
        path = tmp_path / f"{name}.h5md"
        particles = {"names": [name] * 2, "types": [0, 0], "type_names": [name], "masses": [18.0] * 2}
        options = {"temperature": 300.0, "forces": False, "periodic": box is not None}
        with FrameWriter(path, **particles, **options) as writer:
            writer.append(np.array([[0.0, 0, 0], [0.3, 0, 0]]), box, time=0.0)
        with pytest.raises(ValueError, match=problem):
            inversion().fit(path, tmp_path / "fit", progress=False)
        assert not (tmp_path / "fit").exists()
