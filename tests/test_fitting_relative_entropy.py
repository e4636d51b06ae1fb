"""Relative entropy: derivatives against OpenMM's energies, minima that are known, and what is refused."""

import json

import numpy as np
import openmm
import pytest

from openmmcg.fitting import RelativeEntropy
from openmmcg.fitting.relative_entropy.estimates import Gradient, Sample, average, gradient, newton_step, plain_average
from openmmcg.fitting.relative_entropy.figures import convergence
from openmmcg.fitting.relative_entropy.linear_terms import linear_terms, sums
from openmmcg.frames import Frames, FrameWriter
from openmmcg.mapping import cg_topology
from openmmcg.mapping.topology import with_bonds
from openmmcg.potentials import (
    CGPotential,
    CosineAngles,
    HarmonicAngles,
    HarmonicBonds,
    LennardJones,
    PeriodicDihedrals,
    Repulsion,
    TabulatedAngles,
    TabulatedBonds,
    TabulatedDihedrals,
    TabulatedPairs,
)
from openmmcg.simulation import UnstableSimulationError, run

GAS_CONSTANT = 0.00831446261815324
QUIET = {"progress": False}
KINDS = [("A", 12.0), ("B", 20.0)]
TYPES = [0, 1, 0, 1, 1, 0]
BONDS = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
LENGTHS = np.linspace(0.1, 0.25, 9)
TURNS = np.linspace(-np.pi, np.pi, 13)[:-1]
SERIES = np.sin(TURNS) + 0.5 * np.cos(2 * TURNS)


def pairs_of(*rows):
    return dict(zip([(0, 0), (0, 1), (1, 1)], rows, strict=True))


PRIORS = {
    "Lennard-Jones": LennardJones([[1e-6, 2e-6], [2e-6, 3e-6]], [[1e-3, 2e-3], [2e-3, 1e-3]], 0.8),
    "C12": LennardJones([[1e-6, 2e-6], [2e-6, 3e-6]], None, 0.8),
    "repulsion": Repulsion([[0.3, 0.25], [0.25, 0.28]], 8.0, 0.7),
    "tabulated pairs": TabulatedPairs(
        pairs_of(*[(k * np.cos(9 * np.linspace(0, 0.8, 12)) * np.linspace(1, 0, 12)).tolist() for k in (3, 5, 7)]), 0.8
    ),
    "bonds": HarmonicBonds({(0, 1): (0.15, 4e4), (1, 1): (0.18, 3e4)}),
    "angles": HarmonicAngles({(0, 1, 0): (1.9, 200.0), (1, 0, 1): (2.1, 150.0), (0, 1, 1): (2.0, 80.0)}),
    "cosines": CosineAngles({(0, 1, 0): (-0.3, 200.0), (1, 0, 1): (-0.5, 150.0), (1, 1, 0): (-0.4, 80.0)}),
    "series": PeriodicDihedrals({(0, 1, 0, 1): [(1, 0.3, 2.0), (3, 1.0, 1.5)], (1, 0, 1, 1): [(2, -0.7, 3.0)]}),
    "tabulated bonds": TabulatedBonds({(0, 1): (0.1, 0.25, (4e3 * (LENGTHS - 0.16) ** 2).tolist())}),
    "tabulated angles": TabulatedAngles({(0, 1, 0): (1.0, 3.0, [9.0, 4.0, 1.0, 2.0, 5.0, 7.0])}),
    "tabulated dihedrals": TabulatedDihedrals({(0, 1, 0, 1): (-np.pi, np.pi, [*SERIES.tolist(), float(SERIES[0])])}),
}


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Frames of a chain of two kinds of beads in a periodic box, and more loose ones of both."""
    path = tmp_path_factory.mktemp("chain") / "chain.h5md"
    types = [*TYPES, 0, 0, 1, 1]
    random = np.random.default_rng(0)
    box = 1.9 * np.eye(3)
    options = {"names": list("abcdefghij"), "types": types, "type_names": ["A", "B"], "bonds": BONDS}
    masses = [KINDS[kind][1] for kind in types]
    with FrameWriter(path, masses=masses, temperature=300.0, forces=False, periodic=True, **options) as writer:
        while len(writer) < 12:
            steps = random.normal(size=(6, 3))
            lengths = random.normal(0.16, 0.02, (6, 1))
            walk = np.cumsum(lengths * steps / np.linalg.norm(steps, axis=1)[:, None], axis=0)
            loose = walk.mean(0) + np.array([[0.6, 0, 0], [0, 0.7, 0], [0, 0, 0.65], [0.5, 0.5, 0]])
            loose += random.normal(0, 0.05, loose.shape)
            beads = np.concatenate([walk, loose])
            apart = beads[:, None] - beads
            if np.linalg.norm(apart - 1.9 * np.round(apart / 1.9), axis=-1)[np.triu_indices(10, 1)].min() > 0.11:
                writer.append(beads, box=box, time=float(len(writer)))
    return path


def energies(prior, path):
    """Of every frame, by OpenMM."""
    with Frames(path) as frames:
        topology = with_bonds(
            cg_topology([KINDS[kind][0] for kind in frames.types], frames.boxes[0]), frames.bonds.tolist()
        )
        bonds = HarmonicBonds({(0, 1): (0.15, 1.0), (1, 1): (0.15, 1.0), (0, 0): (0.15, 1.0)})
        values = []
        for priors in ([bonds, prior], [bonds]):
            system = CGPotential(None, KINDS, priors=priors).create_system(topology)
            platform = openmm.Platform.getPlatformByName("Reference")
            context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
            values.append([])
            for positions in frames.positions:
                context.setPositions(positions)
                values[-1].append(context.getState(energy=True).getPotentialEnergy()._value)
    return np.subtract(*values)


@pytest.mark.parametrize("name", PRIORS)
def test_energies_are_linear_in_the_parameters_as_openmm_computes_them(name, chain):
    """Differences of OpenMM's energies with changed parameters are what the sums over coordinates say."""
    terms = linear_terms(PRIORS[name], 2.5)
    with Frames(chain) as frames:
        phi = sums(frames, [terms], frames.bonds)
    random = np.random.default_rng(1)
    first = terms.start
    second = first + 0.3 * terms.scales(first) * random.uniform(-1, 1, len(first))
    expected = energies(terms.make(second), chain) - energies(terms.make(first), chain)
    assert np.ptp(expected) > 1e-3
    # OpenMM refers tables of dihedrals to free rotation, and harmonic terms have a constant of their own.
    constant = 0.0 if terms.kind == "pairs" or "tabulated" in name else np.mean(expected - phi @ (second - first))
    np.testing.assert_allclose(phi @ (second - first) + constant, expected, rtol=1e-4, atol=2e-4 * np.ptp(expected))


@pytest.mark.parametrize("name", PRIORS)
def test_the_prior_to_begin_with_is_made_of_its_parameters(name):
    terms = linear_terms(PRIORS[name], 2.5)
    made = linear_terms(terms.make(terms.start), 2.5)
    np.testing.assert_allclose(made.start, terms.start, rtol=1e-12, atol=1e-12)
    assert len(terms.labels) == len(set(terms.labels)) == len(terms.start) == len(terms.scales(terms.start))
    assert all(np.isfinite(list(terms.describe(terms.start).values())))


def test_reweighted_averages_and_curvatures_are_those_of_a_normal_distribution():
    """With U = λ₁x²/2 + λ₂x everything is known: mean −λ₂/λ₁, variance 1/(βλ₁)."""
    random = np.random.default_rng(0)
    beta = 0.4

    def sampled(a, b, number=200_000):
        x = random.normal(-b / a, 1 / np.sqrt(beta * a), number)
        return Sample(np.array([a, b]), list(np.stack([x**2 / 2, x], 1).reshape(4, -1, 2)))

    samples = [sampled(2.0, 0.5), sampled(2.2, -0.3), sampled(50.0, 9.0)]
    found = average(samples, np.array([2.1, 0.1]), beta, 0.3)
    assert found.effective > 0.3
    mean, variance = -0.1 / 2.1, 1 / (beta * 2.1)
    np.testing.assert_allclose(found.mean, [(variance + mean**2) / 2, mean], atol=0.01)
    covariance = [[variance**2 / 2 + variance * mean**2, mean * variance], [mean * variance, variance]]
    np.testing.assert_allclose(found.covariance, covariance, atol=0.02)
    assert average(samples[2:], np.array([2.1, 0.1]), beta, 0.3).effective < 0.01

    reference = plain_average(sampled(2.1, 0.1).runs)
    at = gradient([reference], [[sampled(2.08, 0.2)]], np.array([2.08, 0.2]), [beta], 0.3)
    step = newton_step(at, np.array([2.0, 2.0]), np.eye(2))
    # Newton's step in a convex function leads most of the way from so near.
    np.testing.assert_allclose(np.array([2.08, 0.2]) + step.change, [2.1, 0.1], atol=0.02)
    assert step.gain > 10 * step.noise


def test_the_noise_of_a_gradient_is_its_spread_over_many_samples():
    random = np.random.default_rng(3)
    slopes, noises, gains, expected = [], [], [], []
    for _ in range(300):
        runs = [[random.normal(size=(200, 2)) for _ in range(2)] for _ in range(2)]
        found = gradient([plain_average(runs[0])], [[Sample(np.zeros(2), runs[1])]], np.zeros(2), [1.0], 0.3)
        step = newton_step(found, np.full(2, 1e3), np.eye(2))
        slopes.append(found.slope)
        noises.append(found.noise)
        gains.append(step.gain)
        expected.append(step.noise)
    np.testing.assert_allclose(np.mean(noises, axis=0), np.cov(np.transpose(slopes)), atol=1.2e-3)
    assert np.mean(gains) == pytest.approx(np.mean(expected), rel=0.2)


TRUE = {(0, 1): (0.16, 2.0e4), (1, 1): (0.2, 1.2e4)}


@pytest.fixture(scope="module")
def harmonic_chain(tmp_path_factory):
    """Frames of chains A-B-B-A drawn from the exact distribution of lengths, with free joints."""
    path = tmp_path_factory.mktemp("harmonic") / "chain.h5md"
    random = np.random.default_rng(5)
    options = {"names": ["A", "B", "B", "A"], "types": [0, 1, 1, 0], "type_names": ["A", "B"]}
    with FrameWriter(
        path, masses=[12.0, 20.0, 20.0, 12.0], temperature=300.0, forces=False, periodic=False,
        bonds=[(0, 1), (1, 2), (2, 3)], **options,
    ) as writer:  # fmt: skip
        lengths = []
        for kinds in ((0, 1), (1, 1), (0, 1)):
            center, constant = TRUE[kinds]
            sigma = np.sqrt(GAS_CONSTANT * 300 / constant)
            grid = np.linspace(center - 6 * sigma, center + 6 * sigma, 20001)
            density = grid**2 * np.exp(-((grid - center) ** 2) / (2 * sigma**2))
            lengths.append(np.interp(random.random(4000), np.cumsum(density) / density.sum(), grid))
        for frame, row in enumerate(np.transpose(lengths)):
            steps = random.normal(size=(3, 3))
            walk = np.cumsum(row[:, None] * steps / np.linalg.norm(steps, axis=1)[:, None], axis=0)
            writer.append(np.concatenate([np.zeros((1, 3)), walk]), box=None, time=float(frame))
    return path


def test_a_harmonic_chain_has_its_exact_constants_back(harmonic_chain, tmp_path):
    """Mean and variance alone would be off: r² makes long bonds more frequent."""
    start = HarmonicBonds({(0, 1): (0.15, 3.5e4), (1, 1): (0.22, 9e3)})
    fit = RelativeEntropy([start], replicas=10, duration=40.0, interval=0.2, friction=5.0)
    result = fit.fit(harmonic_chain, tmp_path, platform="Reference", **QUIET)
    assert result.converged, result.verdict
    for kinds, exact in TRUE.items():
        for name, value in zip(("centre", "force constant"), exact, strict=True):
            found, error = result.parameters[f"{name} {kinds}"]
            assert found == pytest.approx(value, abs=4 * error)
            assert error < 0.05 * value
    assert convergence(result).axes[0].get_ylabel().startswith("relative entropy")
    assert json.loads((tmp_path / "relative_entropy.json").read_text())["converged"]
    saved = CGPotential.load(tmp_path / "potential.pt")
    assert saved.provenance["relative_entropy"]["duration"] == 40.0
    assert (tmp_path / "convergence.png").stat().st_size > 1000


def test_an_interrupted_minimisation_goes_on_and_a_finished_one_returns_at_once(harmonic_chain, tmp_path, monkeypatch):
    start = HarmonicBonds({(0, 1): (0.15, 3.0e4), (1, 1): (0.21, 9e3)})
    options = {"replicas": 4, "duration": 10.0, "interval": 0.2, "friction": 5.0}
    calls = []

    def interrupted(*arguments, **keywords):
        calls.append(keywords)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(*arguments, **keywords)

    monkeypatch.setattr("openmmcg.fitting.reference_frames.run", interrupted)
    call = {"platform": "Reference", **QUIET}
    with pytest.raises(KeyboardInterrupt):
        RelativeEntropy([start], **options).fit(harmonic_chain, tmp_path / "a", **call)
    first = RelativeEntropy([start], **options).fit(harmonic_chain, tmp_path / "a", **call)
    whole = RelativeEntropy([start], **options).fit(harmonic_chain, tmp_path / "b", **call)
    for name, found in whole.parameters.items():
        assert first.parameters[name] == pytest.approx(found, rel=1e-6)
    number = len(calls)
    again = RelativeEntropy([start], **options).fit(harmonic_chain, tmp_path / "b", **call)
    assert len(calls) == number and again.parameters == whole.parameters
    with pytest.raises(ValueError, match=r"other inputs \(duration 10.0 there, 20.0 here"):
        RelativeEntropy([start], **{**options, "duration": 20.0}).fit(harmonic_chain, tmp_path / "b", **call)
    damaged = tmp_path / "b" / "iteration_0.npz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.warns(UserWarning, match="damaged"):
        RelativeEntropy([start], **options).fit(harmonic_chain, tmp_path / "b", **call)


FLUID_BOX = 1.8 * np.eye(3)
FLUID_GRID = np.stack(np.meshgrid(*[np.arange(5)] * 3), axis=-1).reshape(-1, 3) * 0.36
ARGON = LennardJones.from_sigma_epsilon([0.3405], [0.996], cutoff=0.85)


def sample_argon(path, temperature, duration, prior=ARGON, box=FLUID_BOX):
    system = CGPotential(None, [("Ar", 39.95)], priors=[prior]).create_system(cg_topology(["Ar"] * 125, box))
    run(
        system, FLUID_GRID * box[0, 0] / 1.8, box, path, duration=duration, interval=0.4, equilibration=20.0,
        time_step=0.004, temperature=temperature, types=[0] * 125, type_names=["Ar"], **QUIET,
    )  # fmt: skip
    return path


@pytest.mark.slow
def test_a_lennard_jones_fluid_has_its_parameters_back(tmp_path):
    source = sample_argon(tmp_path / "argon.h5md", 120.0, 600.0)
    start = LennardJones.from_sigma_epsilon([0.3], [0.6], cutoff=0.85)
    options = {"duration": 40.0, "interval": 0.4, "time_step": 0.004, "replicas": 2}
    result = RelativeEntropy([start], tolerance=1.0, **options).fit(source, tmp_path / "fit", **QUIET)
    sigma, epsilon = result.parameters["sigma 0-0 (nm)"], result.parameters["epsilon 0-0 (kJ/mol)"]
    assert sigma[0] == pytest.approx(0.3405, rel=0.01)
    assert epsilon[1] < 0.05
    assert epsilon[0] == pytest.approx(0.996, abs=4 * epsilon[1])


@pytest.mark.parametrize("c6", [0.0, 1e-17, -1e-17])
def test_an_attraction_that_a_step_took_away_can_come_back(tmp_path, c6):
    source = sample_argon(tmp_path / "argon.h5md", 120.0, 40.0)
    start = LennardJones([[6e-6]], [[c6]], 0.85)
    options = {"duration": 10.0, "interval": 0.4, "time_step": 0.004, "replicas": 2}
    result = RelativeEntropy([start], iterations=1, **options).fit(source, tmp_path / "fit", **QUIET)
    assert result.parameters["C6 0-0 (kJ/mol nm^6)"][0] > 1e-3
    written = json.loads((tmp_path / "fit" / "relative_entropy.json").read_text())
    assert written["parameters"]["sigma 0-0 (nm)"]["value"] > 0.3


def test_what_is_not_defined_is_null_in_the_file(tmp_path):
    source = sample_argon(tmp_path / "argon.h5md", 120.0, 10.0)
    start = LennardJones([[6e-6]], [[-1e-4]], 0.85)
    options = {"duration": 2.0, "interval": 0.4, "time_step": 0.004, "replicas": 2}
    RelativeEntropy([start], iterations=0, **options).fit(source, tmp_path / "fit", **QUIET)
    written = json.loads((tmp_path / "fit" / "relative_entropy.json").read_text())
    assert written["parameters"]["sigma 0-0 (nm)"] == {"value": None, "error": None}


@pytest.mark.slow
def test_two_state_points_are_fitted_together(tmp_path):
    sources = [
        sample_argon(tmp_path / "cold.h5md", 120.0, 60.0),
        sample_argon(tmp_path / "hot.h5md", 200.0, 60.0, box=2.0 * np.eye(3)),
    ]
    start = LennardJones.from_sigma_epsilon([0.32], [0.8], cutoff=0.85)
    options = {"duration": 20.0, "interval": 0.4, "time_step": 0.004, "replicas": 2}
    result = RelativeEntropy([start], **options).fit(sources, tmp_path / "fit", **QUIET)
    assert result.converged, result.verdict
    for name, exact in (("sigma 0-0 (nm)", 0.3405), ("epsilon 0-0 (kJ/mol)", 0.996)):
        value, error = result.parameters[name]
        assert value == pytest.approx(exact, abs=4 * error + 0.002 * exact)
    assert {path.name for path in (tmp_path / "fit").glob("iteration_0_*.0.h5md")} == {
        "iteration_0_0.0.h5md",
        "iteration_0_1.0.h5md",
    }


def test_a_potential_that_acts_as_well_remains_as_it_is(tmp_path):
    source = sample_argon(tmp_path / "argon.h5md", 150.0, 20.0)
    attraction = CGPotential(None, [("Ar", 39.95)], priors=[LennardJones([[1e-9]], ARGON.c6, 0.85)])
    start = LennardJones([[0.7 * ARGON.c12[0][0]]], None, 0.85)
    options = {"duration": 10.0, "interval": 0.4, "time_step": 0.004, "replicas": 2}
    result = RelativeEntropy([start], attraction, **options).fit(source, tmp_path / "fit", **QUIET)
    value, error = result.parameters["C12 0-0 (kJ/mol nm^12)"]
    assert value + 1e-9 == pytest.approx(ARGON.c12[0][0], abs=4 * error)
    assert len(result.potential.priors) == 2


def test_numbers_of_several_priors_keep_names_of_their_own(chain, tmp_path):
    priors = [
        HarmonicBonds({(0, 1): (0.15, 4e4), (1, 1): (0.15, 4e4)}),
        Repulsion([[0.2] * 2] * 2, 8.0, 0.5),
        LennardJones([[1e-7] * 2] * 2, [[1e-4] * 2] * 2, 0.6),
    ]
    fit = RelativeEntropy(priors, iterations=0, replicas=2, duration=0.4, interval=0.1, time_step=0.001, friction=20.0)
    result = fit.fit(chain, tmp_path, platform="Reference", **QUIET)
    names = list(result.parameters)
    assert "sigma 0-1 (nm) of prior 1" in names and "sigma 0-1 (nm) of prior 2" in names
    assert result.values.shape == (1, len(names))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": -1}, "iterations from 0 on"),
        ({"replicas": 0}, "replicas from 1 on"),
        ({"tolerance": 0.0}, "tolerance must be positive"),
        ({"effective": 1.0}, "between 0 and 1"),
        ({"duration": 0.3}, "four intervals or more"),
        ({"duration": 1.1}, "must be a whole number of times"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        RelativeEntropy([ARGON], **change)


def test_priors_that_cannot_be_fitted_and_frames_that_do_not_fit_are_refused(chain, harmonic_chain, tmp_path):
    with pytest.raises(ValueError, match="needs priors"):
        RelativeEntropy([])
    with pytest.raises(ValueError, match="cannot be fitted by relative entropy; those of LennardJones"):
        RelativeEntropy([openmm.HarmonicBondForce()])
    bonds = HarmonicBonds(TRUE)
    with pytest.raises(ValueError, match="exceeds half the smallest width of the box"):
        RelativeEntropy([LennardJones([[1e-6] * 2] * 2, None, 1.5)], replicas=2).fit(chain, tmp_path / "a", **QUIET)
    with pytest.raises(ValueError, match=r"nothing in the frames .* depends on k/2 \(0, 0\)"):
        RelativeEntropy([bonds, HarmonicBonds({(0, 0): (0.1, 1e4)})], replicas=2).fit(chain, tmp_path / "b", **QUIET)
    with pytest.raises(ValueError, match="there are 2 in"):
        RelativeEntropy([bonds]).fit(harmonic_chain, tmp_path / "c", frames=slice(2), **QUIET)
    with pytest.raises(ValueError, match="no frames are selected"):
        RelativeEntropy([bonds]).fit(harmonic_chain, tmp_path / "d", frames=slice(0, 0), **QUIET)
    other = CGPotential(None, [("C", 12.0)], priors=[LennardJones([[1e-6]])])
    with pytest.raises(ValueError, match="has the bead types"):
        RelativeEntropy([bonds], other).fit(harmonic_chain, tmp_path / "e", **QUIET)
    with pytest.raises(ValueError, match="knows 1 bead types, .* has 2"):
        RelativeEntropy([LennardJones([[1e-6]])], replicas=2).fit(chain, tmp_path / "f", **QUIET)
    with pytest.raises(ValueError, match="a LennardJones cannot be fitted from where it is: C12 is not positive"):
        RelativeEntropy([LennardJones([[0.0]])])
    with pytest.raises(ValueError, match="no files"):
        RelativeEntropy([bonds]).fit([], tmp_path / "f", **QUIET)
    with pytest.raises(ValueError, match="nothing in the frames .* depends on C12 0-0"):
        near = LennardJones([[1e-6] * 2] * 2, None, 0.1)
        RelativeEntropy([bonds, near], replicas=2).fit(chain, tmp_path / "f", **QUIET)
    with pytest.raises(FileNotFoundError):
        RelativeEntropy([bonds]).fit(tmp_path / "none.h5md", tmp_path / "f", **QUIET)


def test_a_start_that_explodes_is_an_error_and_a_later_one_is_taken_back(harmonic_chain, tmp_path, monkeypatch):
    from openmmcg.fitting.reference_frames import ReferenceFrames

    start = HarmonicBonds({(0, 1): (0.15, 3.0e4), (1, 1): (0.21, 9e3)})
    simulate = ReferenceFrames.simulate
    failing = {0}

    def unstable(self, potential, path, *arguments, **keywords):
        if int(path.name.split("_")[1]) in failing:
            raise UnstableSimulationError("positions are not finite")
        return simulate(self, potential, path, *arguments, **keywords)

    monkeypatch.setattr(ReferenceFrames, "simulate", unstable)
    fit = RelativeEntropy([start], replicas=4, duration=10.0, interval=0.2, friction=5.0)
    with pytest.raises(UnstableSimulationError, match="parameters to begin with"):
        fit.fit(harmonic_chain, tmp_path / "a", platform="Reference", **QUIET)
    failing.clear()
    failing.add(1)
    result = fit.fit(harmonic_chain, tmp_path / "b", platform="Reference", **QUIET)
    first, second = (np.load(tmp_path / "b" / f"iteration_{number}.npz")["parameters"] for number in (0, 1))
    third = np.load(tmp_path / "b" / "iteration_2.npz")["parameters"]
    np.testing.assert_allclose(third, (first + second) / 2)
    assert result.converged


def test_places_of_a_table_that_nobody_visited_go_on_with_the_slope_beside():
    terms = linear_terms(TabulatedPairs({(0, 0): np.linspace(9, 0, 10).tolist()}, 0.9), 2.5)
    information, slope = np.zeros(9), np.zeros(9)
    information[3:], slope[3:] = 1.0, -np.array([0.5, 0.3, 0.2, 0.1, 0.0, 0.0])
    found = Gradient(slope, np.diag(information), np.zeros((9, 9)), 1.0, 10_000)
    change = newton_step(found, terms.scales(terms.start), terms.stiffness).change
    np.testing.assert_allclose(change[3:], -slope[3:], atol=1e-3)
    np.testing.assert_allclose(change[:3], [1.1, 0.9, 0.7], atol=0.01)
