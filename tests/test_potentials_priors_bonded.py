"""Priors of bonds, angles and dihedrals: formulas, Boltzmann statistics, conventions of other packages."""

import numpy as np
import openmm
import pytest

from openmmcg.fitting.boltzmann_inversion.distributions import find_coordinates
from openmmcg.frames import Frames, FrameWriter, write_frames
from openmmcg.geometry.internal_coordinates import angles, bonded_terms, dihedrals, distances
from openmmcg.potentials import (
    CGPotential,
    CosineAngles,
    HarmonicAngles,
    HarmonicBonds,
    MoleculePrior,
    PeriodicDihedrals,
    PriorForces,
)
from openmmcg.potentials.priors import add_priors, from_cgnet, from_mlcg, from_torchmd_cg, to_xml

KT = 8.31446261815324e-3 * 300
KCAL, ANGSTROM = 4.184, 0.1
CHAIN = [(0, 1), (1, 2), (2, 3), (3, 4)]
TYPES = [0, 1, 2, 1, 0]


def energy(priors, types, bonds, positions):
    system = openmm.System()
    for _ in types:
        system.addParticle(1.0)
    add_priors(system, [to_xml(prior) for prior in priors], types, bonds, periodic=False)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    return context.getState(energy=True).getPotentialEnergy()._value


@pytest.fixture
def positions():
    return np.cumsum(np.random.default_rng(3).normal(size=(5, 3)), 0) * 0.1


def coordinate(kind, positions, indices):
    return kind(positions[None], [indices])[0, 0]


def test_bonds_define_angles_and_dihedrals():
    terms = bonded_terms([(2, 1), (1, 0), (2, 3), (1, 4)])
    assert terms.bonds == [(0, 1), (1, 2), (1, 4), (2, 3)]
    assert terms.angles == [(0, 1, 2), (0, 1, 4), (1, 2, 3), (2, 1, 4)]
    assert terms.dihedrals == [(0, 1, 2, 3), (3, 2, 1, 4)]


def test_terms_act_on_all_beads_of_their_types_in_both_directions(positions):
    bonds = HarmonicBonds({(0, 1): (0.15, 1000.0), (2, 1): (0.2, 2000.0)})
    lengths = distances(positions[None], CHAIN)[0]
    expected = 500 * ((lengths[[0, 3]] - 0.15) ** 2).sum() + 1000 * ((lengths[[1, 2]] - 0.2) ** 2).sum()
    assert energy([bonds], TYPES, CHAIN, positions) == pytest.approx(expected, rel=1e-6)
    bends = HarmonicAngles({(2, 1, 0): (2.0, 100.0)})
    values = angles(positions[None], [[0, 1, 2], [2, 3, 4]])[0]
    assert energy([bends], TYPES, CHAIN, positions) == pytest.approx(50 * ((values - 2.0) ** 2).sum(), rel=1e-6)
    cosines = CosineAngles({(1, 2, 1): (-0.5, 100.0)})
    value = np.cos(coordinate(angles, positions, [1, 2, 3]))
    assert energy([cosines], TYPES, CHAIN, positions) == pytest.approx(50 * (value + 0.5) ** 2, rel=1e-6)


def test_a_dihedral_and_its_reverse_are_one_term(positions):
    series = PeriodicDihedrals({(1, 2, 1, 0): [(1, 0.3, 2.0), (3, -1.0, 5.0)]})
    values = dihedrals(positions[None], [[0, 1, 2, 3], [1, 2, 3, 4]])[0]
    expected = sum(2 * (1 + np.cos(v - 0.3)) + 5 * (1 + np.cos(3 * v + 1)) for v in values)
    assert energy([series], TYPES, CHAIN, positions) == pytest.approx(expected, rel=1e-6)


def test_prior_forces_are_the_negative_gradient(positions):
    priors = [
        HarmonicBonds({(0, 1): (0.15, 1000.0), (1, 2): (0.2, 2000.0)}),
        CosineAngles({(0, 1, 2): (-0.2, 100.0)}),
        PeriodicDihedrals({(0, 1, 2, 1): [(2, 0.3, 2.0)]}),
    ]
    forces = PriorForces(priors, TYPES, CHAIN, periodic=False)(positions, None)
    step = 1e-5
    for bead, axis in [(0, 0), (2, 1), (4, 2)]:
        moved = [positions.copy() for _ in range(2)]
        for sign, copy in zip((1, -1), moved, strict=True):
            copy[bead, axis] += sign * step
        ends = [energy(priors, TYPES, CHAIN, copy) for copy in moved]
        assert forces[bead, axis] == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-5, abs=1e-5)


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory):
    """A chain of three beads with Gaussian bonds and a Gaussian angle, and a fourth whose dihedral has two wells."""
    random = np.random.default_rng(0)
    frames = 4000
    lengths = [0.15 + 0.004 * random.normal(size=frames), 0.2 + 0.006 * random.normal(size=frames)]
    bends = 2.0 + 0.1 * random.normal(size=frames)
    # p(phi) ~ exp(-(3 (1 + cos(2 phi - 0.8))) / kT) by rejection
    turns = random.uniform(-np.pi, np.pi, 20 * frames)
    kept = turns[random.uniform(size=len(turns)) < np.exp(-3 * (1 + np.cos(2 * turns - 0.8)) / KT)][:frames]
    assert len(kept) == frames
    path = tmp_path_factory.mktemp("trajectory") / "chain.h5md"
    particles = {"names": list("ABCD"), "types": [0, 1, 2, 3], "type_names": list("ABCD"), "masses": [12.0] * 4}
    options = {"temperature": 300.0, "forces": False, "periodic": False, "bonds": [(0, 1), (1, 2), (2, 3)]}
    with FrameWriter(path, **particles, **options) as writer:
        places = []
        for i in range(frames):
            b = np.zeros(3)
            a, c = b + [lengths[0][i], 0, 0], b + lengths[1][i] * np.array([np.cos(bends[i]), np.sin(bends[i]), 0])
            axis = (c - b) / lengths[1][i]
            across = a - (a @ axis) * axis
            across /= np.linalg.norm(across)
            upward = np.cross(axis, across)
            d = c + (0.15 + 0.001 * random.normal()) * (
                np.cos(kept[i]) * across + np.sin(kept[i]) * upward + 0.1 * random.normal() * axis
            )
            places.append([a, b, c, d])
        writer.extend(np.array(places), None, np.arange(frames))
    return path


def test_harmonic_priors_have_the_mean_and_thermal_stiffness_of_the_frames(trajectory):
    with Frames(trajectory) as frames:
        bonds, bends = HarmonicBonds.from_frames(frames), HarmonicAngles.from_frames(frames)
        half = HarmonicBonds.from_frames(frames.select(range(2000)))
        both = HarmonicBonds.from_frames([frames.select(range(2000)), frames.select(range(2000, 4000))])
    assert bonds.terms[0, 1] == pytest.approx((0.15, KT / 0.004**2), rel=0.06)  # error of a variance: 2 %
    assert bonds.terms[1, 2] == pytest.approx((0.2, KT / 0.006**2), rel=0.06)
    assert bends.terms[0, 1, 2] == pytest.approx((2.0, KT / 0.1**2), rel=0.06)
    assert half.terms[0, 1] != bonds.terms[0, 1]
    assert both.terms[0, 1] == pytest.approx(bonds.terms[0, 1])


def test_a_fourier_series_recovers_the_potential_of_a_dihedral(trajectory):
    with Frames(trajectory) as frames:
        prior = PeriodicDihedrals.from_frames(frames, order=3)
    series = {n: (phase, k) for n, phase, k in prior.terms[0, 1, 2, 3]}
    phase, k = series[2]
    assert k == pytest.approx(3, abs=0.25)
    assert np.angle(np.exp(1j * (phase - 0.8))) == pytest.approx(0, abs=0.08)
    assert max(series[1][1], series[3][1]) < 0.25


def test_the_fourth_bead_that_does_not_move_has_no_stiffness(trajectory):
    with Frames(trajectory) as frames:
        fixed = frames.select([0, 0, 0])
        with pytest.raises(ValueError, match="do not vary"):
            HarmonicBonds.from_frames(fixed)
        with pytest.raises(ValueError, match="too few for a Fourier series"):
            PeriodicDihedrals.from_frames(fixed)
        with pytest.raises(ValueError, match="no frames"):
            HarmonicBonds.from_frames(frames.select([]))


def test_a_bond_that_a_constraint_holds_to_its_tolerance_has_no_stiffness(tmp_path):
    """Lengths of 0.15 nm to 1e-4: a spring of k_B T / variance would be of 1e10 kJ/mol/nm²."""
    lengths = 0.15 * (1 + 1e-4 * np.random.default_rng(0).normal(size=50))
    positions = np.zeros((50, 2, 3))
    positions[:, 1, 0] = lengths
    beads = {"names": ["A", "B"], "types": [0, 1], "type_names": ["A", "B"], "masses": [12.0] * 2}
    write_frames(tmp_path / "rigid.h5md", positions, **beads, temperature=300.0, bonds=[(0, 1)])
    with Frames(tmp_path / "rigid.h5md") as frames:
        with pytest.raises(ValueError, match=r"bonds of the types \(0, 1\) do not vary .*1.*e-05.*constrain"):
            HarmonicBonds.from_frames(frames)
        with pytest.raises(ValueError, match="the bond A-B does not vary"):
            find_coordinates([frames], ["bonds"], 60, 0.0)


def test_a_bond_without_a_prior_is_named(positions):
    with pytest.raises(ValueError, match="bond of beads 1 and 2, of types B and C"):
        add_priors(openmm.System(), [to_xml(HarmonicBonds({(0, 1): (0.1, 1.0)}))], TYPES, CHAIN, False, ["A", "B", "C"])


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: HarmonicBonds({(0, 1, 2): (0.1, 1.0)}), "between 2 bead types"),
        (lambda: HarmonicBonds({(0, 1): (0.1, -1.0)}), "positive force constant"),
        (lambda: HarmonicBonds({(0, 1): (0.1, 1.0), (1, 0): (0.1, 1.0)}), "given twice"),
        (lambda: HarmonicAngles({}), "at least one term"),
        (lambda: PeriodicDihedrals({(0, 0, 0, 0): [(0, 0.0, 1.0)]}), "periodicities from 1"),
    ],
)
def test_bad_priors_are_refused(make, problem):
    with pytest.raises(ValueError, match=problem):
        make()


@pytest.fixture
def ends():
    """The first bond of the chain is another one than the last, though both are of the same types."""
    force = openmm.HarmonicBondForce()
    force.addBond(0, 1, 0.1, 1000.0)
    force.addBond(4, 3, 0.2, 3000.0)
    return MoleculePrior(force, TYPES)


def energy_of_ends(positions):
    lengths = distances(positions[None], CHAIN)[0]
    return 500 * (lengths[0] - 0.1) ** 2 + 1500 * (lengths[3] - 0.2) ** 2


def test_terms_of_a_molecule_go_by_the_index_of_its_beads(ends, positions):
    assert energy([ends], TYPES, [], positions) == pytest.approx(energy_of_ends(positions), rel=1e-6)
    inner = HarmonicBonds({(1, 2): (0.2, 2000.0)})
    lengths = distances(positions[None], CHAIN)[0]
    expected = energy_of_ends(positions) + 1000 * ((lengths[1:3] - 0.2) ** 2).sum()
    # Together they hold all bonds; without the ends, the first is missed.
    assert energy([inner, ends], TYPES, CHAIN, positions) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="no prior is for the bond of beads 0 and 1"):
        energy([inner], TYPES, CHAIN, positions)


@pytest.mark.parametrize("types", [[0, 1, 2, 0, 1], [0, 1, 2, 1], [*TYPES, *TYPES]])
def test_terms_of_a_molecule_are_for_no_other_beads(ends, types):
    with pytest.raises(ValueError, match="one molecule of the beads 0 1 2 1 0; the topology has the beads 0 1 2"):
        PriorForces([ends], types, periodic=False)


def test_a_potential_keeps_that_terms_are_those_of_a_molecule(ends, positions):
    potential = CGPotential(None, [("A", 1.0), ("B", 1.0), ("C", 1.0)], priors=[ends])
    twice = potential.scaled(2.0)
    both = twice.with_priors(potential.priors)
    for factor, each in ((1, potential), (2, twice), (2, CGPotential.load(twice.to_bytes())), (3, both)):
        assert energy(each.priors, TYPES, [], positions) == pytest.approx(factor * energy_of_ends(positions), rel=1e-6)
        with pytest.raises(ValueError, match="one molecule"):
            PriorForces(each.priors, TYPES[1:], periodic=False)


def test_a_molecule_has_the_beads_of_its_terms(ends):
    with pytest.raises(ValueError, match="beads of the prior HarmonicBondForce run from 0 to 4; .* are 0 to 3"):
        to_xml(MoleculePrior(ends.force, TYPES[:4]))
    with pytest.raises(ValueError, match="bead types of the molecule are counted from 0"):
        MoleculePrior(ends.force, [0, -1])
    pairs = openmm.CustomNonbondedForce("type1*type2*r")
    pairs.addPerParticleParameter("type")
    with pytest.raises(ValueError, match="not a CustomNonbondedForce"):
        to_xml(MoleculePrior(pairs, TYPES))


def test_cgnet_writes_half_k_and_half_the_repulsion(positions):
    beads = [(0, 1), (3, 4)]
    bonds = {pair: {"mean": 1.4, "k": 30.0} for pair in beads}
    bends = {(1, 2, 3): {"mean": 1.9, "k": 5.0}}
    priors = from_cgnet(TYPES, bonds={**bonds, (1, 2): {"mean": 1.5, "k": 20.0}}, angles=bends)
    r = distances(positions[None] / ANGSTROM, [(0, 1), (3, 4), (1, 2), (2, 3)])[0]
    theta = coordinate(angles, positions, [1, 2, 3])
    kcal = 15 * ((r[:2] - 1.4) ** 2).sum() + 10 * ((r[2:] - 1.5) ** 2).sum() + 2.5 * (theta - 1.9) ** 2
    assert energy(priors, TYPES, CHAIN, positions) == pytest.approx(kcal * KCAL, rel=1e-6)
    (repulsion,) = from_cgnet([0, 1], repulsion={(0, 1): {"ex_vol": 4.0, "exp": 6.0}}, cutoff=50.0)
    pair = np.array([[0.0, 0, 0], [0.45, 0, 0]])
    assert energy([repulsion], [0, 1], [], pair) == pytest.approx(0.5 * (4 / 4.5) ** 6 * KCAL, rel=1e-5)
    with pytest.raises(ValueError, match="types of their own"):
        from_cgnet(TYPES, bonds={(0, 1): {"mean": 1.4, "k": 30.0}, (3, 4): {"mean": 1.5, "k": 30.0}})


def test_mlcg_writes_k_cosines_and_sine_series(positions):
    priors = from_mlcg(
        bonds={(7, 8): {"x_0": 1.4, "k": 30.0}, (8, 9): {"x_0": 1.5, "k": 20.0}},
        angles={(8, 9, 8): {"x_0": -0.3, "k": 5.0}},
        dihedrals={(7, 8, 9, 8): {"k1s": {"k1_1": 0.5, "k1_2": -0.2}, "k2s": {"k2_1": 1.5, "k2_2": 0.4}, "v_0": 0.0}},
        type_of={7: 0, 8: 1, 9: 2},
    )
    r = distances(positions[None] / ANGSTROM, [(0, 1), (3, 4), (1, 2), (2, 3)])[0]
    cosine = np.cos(coordinate(angles, positions, [1, 2, 3]))
    kcal = 30 * ((r[:2] - 1.4) ** 2).sum() + 20 * ((r[2:] - 1.5) ** 2).sum() + 5 * (cosine + 0.3) ** 2
    constant = 0.0
    for phi in dihedrals(positions[None], [[0, 1, 2, 3], [4, 3, 2, 1]])[0]:
        kcal += 0.5 * np.sin(phi) - 0.2 * np.sin(2 * phi) + 1.5 * np.cos(phi) + 0.4 * np.cos(2 * phi)
        constant += np.hypot(0.5, 1.5) + np.hypot(0.2, 0.4)
    assert energy(priors, TYPES, CHAIN, positions) == pytest.approx((kcal + constant) * KCAL, rel=1e-6)
    (repulsion,) = from_mlcg(repulsion={(0, 0): {"sigma": 4.0}}, cutoff=50.0)
    pair = np.array([[0.0, 0, 0], [0.45, 0, 0]])
    assert energy([repulsion], [0, 0], [], pair) == pytest.approx((4 / 4.5) ** 6 * KCAL, rel=1e-5)
    with pytest.raises(ValueError, match="not in type_of"):
        from_mlcg(repulsion={(3, 3): {"sigma": 4.0}}, type_of={7: 0})


def test_torchmd_cg_writes_k_degrees_and_lennard_jones_parameters(positions):
    force_field = {
        "bonds": {"(A, B)": {"req": 1.4, "k0": 30.0}, "(C, B)": {"req": 1.5, "k0": 20.0}, "(Z, Z)": {}},
        "angles": {"(B, C, B)": {"theta0": 110.0, "k0": 5.0}},
        "dihedrals": {"(A, B, C, B)": {"terms": [{"phi_k": 0.7, "phase": 40.0, "per": 2}]}},
    }
    priors = from_torchmd_cg({**force_field, "bonds": dict(list(force_field["bonds"].items())[:2])}, list("ABC"))
    r = distances(positions[None] / ANGSTROM, [(0, 1), (3, 4), (1, 2), (2, 3)])[0]
    theta = coordinate(angles, positions, [1, 2, 3])
    kcal = 30 * ((r[:2] - 1.4) ** 2).sum() + 20 * ((r[2:] - 1.5) ** 2).sum() + 5 * (theta - np.radians(110)) ** 2
    for phi in dihedrals(positions[None], [[0, 1, 2, 3], [4, 3, 2, 1]])[0]:
        kcal += 0.7 * (1 + np.cos(2 * phi - np.radians(40)))
    assert energy(priors, TYPES, CHAIN, positions) == pytest.approx(kcal * KCAL, rel=1e-6)
    lennard_jones = {"A": {"sigma": 4.0, "epsilon": 0.2}, "B": {"sigma": 5.0, "epsilon": 0.8}}
    (repulsion,) = from_torchmd_cg({"lj": lennard_jones}, ["A", "B"], cutoff=50.0)
    pair = np.array([[0.0, 0, 0], [0.45, 0, 0]])
    expected = 4 * 0.4 * (4.5 / 4.5) ** 6 * KCAL
    assert energy([repulsion], [0, 1], [], pair) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: from_cgnet([0, 1], bonds={(0, -1): {"mean": 1.0, "k": 1.0}}), "beads of terms are counted from 0"),
        (lambda: from_cgnet([0, 1], bonds={(0, 2): {"mean": 1.0, "k": 1.0}}), "from 0 to 2; the particles are 0 to 1"),
        (lambda: from_cgnet([0, 0.5], bonds={(0, 1): {"mean": 1.0, "k": 1.0}}), "types must be whole numbers"),
        (lambda: HarmonicBonds({(0.5, 1): (0.1, 10.0)}), "whole numbers from 0 on"),
        (lambda: HarmonicBonds({(-1, 1): (0.1, 10.0)}), "whole numbers from 0 on"),
    ],
)
def test_beads_and_types_that_there_are_not_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
