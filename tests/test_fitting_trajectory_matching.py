"""Fits through the trajectory: gradients against differences, observables against analysis, structure of a liquid."""

import copy
import json

import numpy as np
import pytest
import torch

from openmmcg.analysis import radial_distribution
from openmmcg.constants import BAR
from openmmcg.fitting import Mean, PairDistances, Pressure, TrajectoryMatching, TripletAngles
from openmmcg.fitting.trajectory_matching.adjoint import NoseHooverChain, State, adjoint_gradient, trajectory
from openmmcg.fitting.trajectory_matching.observables import Configuration, reference_means
from openmmcg.fitting.trajectory_matching.pair_priors import PairPriors
from openmmcg.fitting.trajectory_matching.reweighting import SampledFrames, effective
from openmmcg.frames import Frames
from openmmcg.mapping import cg_topology
from openmmcg.potentials import GNN, CGPotential, HarmonicBonds, LennardJones, PaiNN, PriorForces, Repulsion, SchNet
from openmmcg.simulation import run
from openmmcg.simulation.pressure import pressures

QUIET = {"threads": 1, "progress": False}
LIQUID = LennardJones.from_sigma_epsilon([0.3405], [0.996], cutoff=0.7)
BOX = 4 * 0.37 * np.eye(3)
CORE = LennardJones([[0.6 * LIQUID.c12[0][0]]], None, 0.7)
THERMAL = 0.998


def liquid_frames(path, duration=60.0):
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3), axis=-1).reshape(-1, 3) * 0.37
    system = CGPotential(None, [("Ar", 39.95)], priors=[LIQUID]).create_system(cg_topology(["Ar"] * 64, BOX))
    run(
        system, grid, BOX, path, duration=duration, interval=0.5, equilibration=10.0, time_step=0.004,
        temperature=120.0, types=[0] * 64, type_names=["Ar"], **QUIET,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def liquid(tmp_path_factory):
    return liquid_frames(tmp_path_factory.mktemp("liquid") / "argon.h5md")


def configurations(path, number=20, dtype=torch.float64, types=None):
    kinds = torch.zeros(64, dtype=torch.long) if types is None else torch.as_tensor(types)
    with Frames(path) as frames:
        box = torch.as_tensor(np.array(frames.boxes[0], float), dtype=dtype)
        return [
            Configuration(torch.as_tensor(np.array(p, float), dtype=dtype), box, kinds)
            for p in frames.positions[:number]
        ]


NETWORKS = {
    "gnn": lambda: GNN(types=1, channels=4, cutoff=0.5, basis_size=8),
    "schnet": lambda: SchNet(types=1, channels=4, blocks=1, cutoff=0.5, basis_size=8),
    "painn": lambda: PaiNN(types=1, channels=4, blocks=1, cutoff=0.5, basis_size=8),
}


def slopes_by_difference(network, gradients, loss, count=3, step=1e-5):
    """dL/dθ along the largest element of some parameters, by central differences."""
    found = []
    for parameter, gradient in list(zip(network.parameters(), gradients, strict=True))[:count]:
        index = int(gradient.abs().flatten().argmax())
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.view(-1)[index] += sign * step
                ends.append(loss())
                parameter.view(-1)[index] -= sign * step
        found.append((float(gradient.flatten()[index]), (ends[0] - ends[1]) / (2 * step)))
    return found


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("moved", "exact"), [(False, False), (True, False), (True, True)])
def test_the_gradient_of_reweighted_means_is_that_of_differences(liquid, name, moved, exact):
    sampled_with = NETWORKS[name]().double()
    frames = configurations(liquid)
    observables = [
        PairDistances(maximum=0.7, bin_width=0.02),
        TripletAngles(cutoff=0.45, bin_width=10.0, weight=0.3),
        Mean(lambda x, box, types: (x[0] - x[1]).norm(), wanted=[0.5], name="distance"),
        Pressure(100.0, scale=500.0),
    ]
    targets = [1.1 * mean for mean in reference_means(observables[:3], frames)] + [observables[3].target]
    given = np.random.default_rng(0).normal(300.0, 100.0, len(frames))
    sampled = SampledFrames(sampled_with, frames, observables, THERMAL, given, torch.float64, exact)
    network = copy.deepcopy(sampled_with)
    if moved:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    gradient = sampled.gradient(network, targets)
    _, means, part = sampled.loss(network, targets)
    assert (part < 0.999) == moved
    parts = gradient.split([each.numel() for each in network.parameters()])
    for found, expected in slopes_by_difference(network, parts, lambda: sampled.loss(network, targets)[0]):
        assert found == pytest.approx(expected, rel=1e-4)
    if not moved:
        assert means[3][0] == pytest.approx(given.mean() / 500.0)


@pytest.mark.parametrize("name", NETWORKS)
def test_tables_have_the_energies_and_stretches_of_the_network(liquid, name):
    network = NETWORKS[name]().double()
    graph = SampledFrames(network, configurations(liquid, 1), [], THERMAL, dtype=torch.float64).graphs[0]
    for quick, exact in zip(graph.energy_and_stretch(network), graph.energy_and_stretch(network, True), strict=True):
        assert float(quick) == pytest.approx(float(exact), rel=1e-3)
    assert float(graph.energy(network)) == pytest.approx(float(graph.energy(network, True)), rel=1e-4)


def test_the_pressure_of_frames_changes_as_the_virial_does(liquid):
    """The change of the reweighted frames' pressures against energies of stretched boxes, in OpenMM."""
    first = GNN(types=1, channels=4, cutoff=0.5, basis_size=8)
    second = GNN(types=1, channels=4, cutoff=0.5, basis_size=8, seed=1)
    found = []
    for network in (first, second):
        potential = CGPotential(network, [("Ar", 39.95)], priors=[LIQUID])
        system = potential.create_system(cg_topology(["Ar"] * 64, BOX), engine="torchscript")
        with Frames(liquid) as frames:
            positions, boxes = frames.positions[:3], frames.boxes[:3]
        found.append(pressures(system, positions, boxes, 120.0, platform="Reference", progress=False))
    frames = configurations(liquid, 3)
    sampled = SampledFrames(first.double(), frames, [Pressure(0.0, 1.0)], THERMAL, found[0], torch.float64, exact=True)
    _, stretches = sampled._evaluate(second.double())
    changed = sampled._observed(stretches)[0][:, 0].numpy()
    assert np.abs(found[1] - found[0]).min() > 1.0
    assert changed == pytest.approx(found[1], abs=1e-5 * np.abs(found[1] - found[0]).max())
    assert BAR > 0


def test_weights_of_a_boltzmann_sample_give_the_mean_of_another(tmp_path):
    """A bead in a harmonic trap, whose energy one parameter scales: ⟨x²⟩ goes with its inverse."""
    random = np.random.default_rng(0)
    spring, count = 200.0, 4000
    places = random.normal(scale=np.sqrt(THERMAL / spring), size=count)

    class Spring(torch.nn.Module):
        cutoff = 10.0

        def __init__(self):
            super().__init__()
            self.constant = torch.nn.Parameter(torch.tensor(spring, dtype=torch.float64))

        def forward(self, displacements, types, rows, columns):
            energy = 0.5 * self.constant * (displacements[:, 0] - 1.0) ** 2
            return torch.zeros(len(types), dtype=torch.float64).index_add(0, rows, energy)

    pair = [torch.tensor([[0.0, 0.0, 0.0], [1.0 + x, 0.0, 0.0]], dtype=torch.float64) for x in places]
    frames = [Configuration(each, None, torch.zeros(2, dtype=torch.long)) for each in pair]
    spread = Mean(lambda x, box, types: (x[1, 0] - x[0, 0] - 1.0) ** 2, wanted=[0.0], name="spread")
    sampled = SampledFrames(Spring(), frames, [spread], THERMAL, dtype=torch.float64)
    other = Spring()
    with torch.no_grad():
        other.constant *= 1.2
    _, (mean,), part = sampled.loss(other, [np.zeros(1)])
    assert mean[0] == pytest.approx(THERMAL / (1.2 * spring), rel=0.05)
    assert 0.9 < part < 1
    gradient = sampled.gradient(other, [np.zeros(1)])
    # d(m²)/dk with m = k_BT/k.
    exact = -2 * (THERMAL / (1.2 * spring)) ** 2 / (1.2 * spring)
    assert float(gradient) == pytest.approx(exact, rel=0.15)
    # A step towards half of the first spread, and nothing to be gained where it is what is wanted.
    wanted = [np.array([THERMAL / (2 * spring)])]
    part = sampled.step(other, wanted, 0.6)
    assert 0.6 <= part < 1 and 1.2 * spring < float(other.constant) < 2 * spring
    _, (mean,), _ = sampled.loss(other, wanted)
    assert wanted[0][0] < mean[0] < THERMAL / (1.2 * spring)
    assert sampled.step(other, [mean], 0.6) == 1.0


def motion_of(network, frames, priors=()):
    first = frames[0]
    prior = PairPriors(priors, first.types, first.box) if priors else None
    return NoseHooverChain(
        network, torch.full((64,), 39.95).double(), first.types, first.box, THERMAL, 0.2, prior=prior
    )


def start_of(frames):
    random = torch.Generator().manual_seed(0)
    velocities = torch.randn(64, 3, generator=random, dtype=torch.float64) * (THERMAL / 39.95) ** 0.5
    velocities -= velocities.mean(0)
    return State(frames[0].positions, velocities, torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_by_the_adjoint_method_is_that_of_differences(liquid, name):
    network, frames = NETWORKS[name]().double(), configurations(liquid, 1)
    motion, start = motion_of(network, frames, [CORE]), start_of(frames)
    observables = [PairDistances(maximum=0.7, bin_width=0.02), TripletAngles(cutoff=0.45, bin_width=10.0)]
    targets = [1.1 * mean for mean in reference_means(observables, frames)]
    arguments = ([0.016, 0.032], 0.004, observables, targets)
    adjoint_gradient(motion, start, *arguments)
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad.clone() for each in network.parameters()]

    def loss():
        with torch.enable_grad():
            return adjoint_gradient(motion, start, *arguments)[0]

    for found, expected in slopes_by_difference(network, gradients, loss):
        assert found == pytest.approx(expected, rel=1e-4)


def test_the_chain_conserves_its_energy_and_its_temperature(liquid):
    frames = configurations(liquid, 1)
    network = GNN(types=1, channels=4, cutoff=0.5, basis_size=8).double()
    motion, state = motion_of(network, frames, [LIQUID]), start_of(frames)
    with torch.no_grad():
        states = [state, *trajectory(motion, state, (0.004 * np.arange(1, 151)).tolist(), 0.004)]
        kinetic = [float(0.5 * 39.95 * (each.velocities**2).sum()) for each in states]
        # The chain's coordinates, which the state does not hold, from its momenta.
        rates = torch.stack([each.chain / motion.inertia for each in states])
        weights = torch.tensor([motion.degrees, 1.0, 1.0], dtype=torch.float64) * THERMAL
        middle = (rates[1:] + rates[:-1]) / 2 * 0.004
        moved = torch.cat([torch.zeros(1, dtype=torch.float64), (middle @ weights).cumsum(0)])
        energies = [float(motion.conserved(each, shift)) for each, shift in zip(states, moved, strict=True)]
    assert np.ptp(energies) < 0.01 * np.mean(kinetic)
    assert 2 * np.mean(kinetic) / (motion.degrees * THERMAL) == pytest.approx(1.0, abs=0.1)


def test_pair_priors_in_torch_are_openmms(liquid):
    types = np.arange(64) % 2
    frame = configurations(liquid, 1, types=types)[0]
    priors = [
        LennardJones([[1e-6, 2e-6], [2e-6, 4e-6]], [[1e-3, 2e-3], [2e-3, 1e-3]], 0.65),
        Repulsion([[0.25, 0.3], [0.3, 0.28]], 8.0, 0.5),
    ]
    positions = frame.positions.clone().requires_grad_()
    energy = PairPriors(priors, frame.types, frame.box)(positions)
    forces = -torch.autograd.grad(energy, positions)[0]
    exact = PriorForces(priors, types.tolist(), periodic=True)(frame.positions.numpy(), BOX)
    assert forces.numpy() == pytest.approx(exact, abs=1e-4 * np.abs(exact).max())
    with pytest.raises(ValueError, match="pairs alone"):
        PairPriors([HarmonicBonds({(0, 0): (0.3, 100.0)})], frame.types, frame.box)


def test_smeared_distances_are_the_radial_distribution(liquid):
    frames = configurations(liquid, 100)
    observable = PairDistances(maximum=0.7, bin_width=0.02, smearing=0.002)
    (mean,) = reference_means([observable], frames)
    with Frames(liquid) as source:
        exact = radial_distribution(source.positions[:100], source.boxes[:100], maximum=0.7, bin_width=0.02)
    assert observable.distances == pytest.approx(exact.distance)
    # A narrow Gaussian moves what is near an edge to the next bin.
    assert np.abs(mean - exact.g).mean() < 0.02 and mean.max() == pytest.approx(exact.g.max(), rel=0.05)
    assert np.sum(mean * observable.distances**2) == pytest.approx(np.sum(exact.g * observable.distances**2), rel=0.01)


def test_distances_of_types_add_up_to_those_of_all(liquid):
    types = (np.arange(64) % 4 == 0).astype(int)
    frame = configurations(liquid, 1, types=types)[0]
    everything = PairDistances(maximum=0.7, bin_width=0.02).values(frame)
    number = [48, 16]
    total = 0
    for a, b in ((0, 0), (0, 1), (1, 1)):
        pairs = number[a] * (number[a] - 1) / 2 if a == b else number[a] * number[b]
        total = total + pairs * PairDistances(maximum=0.7, bin_width=0.02, types=(a, b)).values(frame)
    assert total.numpy() / (64 * 63 / 2) == pytest.approx(everything.numpy())


def test_angles_of_an_ideal_gas_have_no_preference():
    random = torch.Generator().manual_seed(0)
    frames = [
        Configuration(
            2 * torch.rand(200, 3, generator=random, dtype=torch.float64),
            2 * torch.eye(3).double(),
            torch.zeros(200).long(),
        )
        for _ in range(20)
    ]
    (mean,) = reference_means([TripletAngles(cutoff=0.5, bin_width=10.0, smearing=0.5)], frames)
    assert mean == pytest.approx(np.ones(18), abs=0.12)


def test_effective_numbers_are_those_of_equal_weights():
    assert effective(torch.full((8,), 1 / 8)) == pytest.approx(1.0)
    assert effective(torch.tensor([0.5, 0.5, 0.0, 0.0])) == pytest.approx(0.5)


def test_curves_of_two_columns_are_read(tmp_path):
    path = tmp_path / "g.csv"
    path.write_text("# nm, g\n0.3, 0.0\n0.5, 2.0\n1.2, 1.0\n")
    observable = PairDistances(maximum=1.0, bin_width=0.1, curve=path)
    assert observable.target[:5] == pytest.approx([0, 0, 0, 0.5, 1.5])
    assert PairDistances(
        maximum=1.0, bin_width=0.1, curve=[[0.3, 0.0], [0.5, 2.0], [1.2, 1.0]]
    ).target == pytest.approx(observable.target)


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        ([[0.3, 0.0], [0.2, 1.0], [1.2, 1.0]], "must rise; row 1 has 0.2 after 0.3"),
        ([[0.3, 0.0], [0.5, np.nan], [1.2, 1.0]], "not finite"),
        ([[0.3, 0.0], [0.5, 1.0]], "ends at 0.5 nm"),
        ([0.3, 0.5], "two columns"),
        ([[0.3, 0.0, 1.0], [0.5, 1.0, 1.0]], "two columns"),
    ],
)
def test_curves_that_make_no_sense_are_refused(curve, message):
    with pytest.raises(ValueError, match=message):
        PairDistances(maximum=1.0, curve=curve)


def test_a_curve_of_angles_must_go_all_the_way():
    curve = np.stack([np.linspace(0, 180, 40), np.ones(40)], axis=1)
    assert TripletAngles(bin_width=30.0, curve=curve).target == pytest.approx(np.ones(6))
    with pytest.raises(ValueError, match="goes from 36.9231 to 180 degrees"):
        TripletAngles(bin_width=30.0, curve=curve[8:])


def fit_of(**options):
    network = GNN(types=1, channels=8, cutoff=0.6, basis_size=16)
    defaults = {
        "priors": [CORE],
        "iterations": 2,
        "duration": 4.0,
        "interval": 0.2,
        "time_step": 0.004,
        "replicas": 2,
    }
    return TrajectoryMatching(network, [PairDistances(maximum=0.7, bin_width=0.02)], **{**defaults, **options})


def test_a_fit_goes_on_where_it_was(liquid, tmp_path, monkeypatch):
    first = fit_of(iterations=1).fit(liquid, tmp_path / "a", **QUIET)
    assert len(first.losses) == 2 and (tmp_path / "a" / "convergence.png").exists()
    longer = fit_of(iterations=2).fit(liquid, tmp_path / "a", **QUIET)
    whole = fit_of(iterations=2).fit(liquid, tmp_path / "b", **QUIET)
    assert longer.losses == pytest.approx(whole.losses, rel=1e-3)
    calls = []
    monkeypatch.setattr("openmmcg.fitting.reference_frames.run", lambda *a, **k: calls.append(1))
    again = fit_of(iterations=2).fit(liquid, tmp_path / "a", **QUIET)
    assert not calls and np.array_equal(again.losses, longer.losses)
    with pytest.raises(ValueError, match="other inputs"):
        fit_of(effective=0.4).fit(liquid, tmp_path / "a", **QUIET)
    written = json.loads((tmp_path / "a" / "trajectory_matching.json").read_text())
    assert written["losses"] == longer.losses.tolist()


def test_a_network_that_is_unstable_is_gone_back_from(liquid, tmp_path, monkeypatch):
    from openmmcg.fitting.trajectory_matching import trajectory_matching as module
    from openmmcg.simulation import UnstableSimulationError

    sample = module._Fit._sample

    def sometimes(self, number):
        if number == 1:
            raise UnstableSimulationError("left all bounds")
        return sample(self, number)

    monkeypatch.setattr(module._Fit, "_sample", sometimes)
    result = fit_of(iterations=2).fit(liquid, tmp_path, **QUIET)
    assert np.isnan(result.losses).tolist() == [False, True, False]
    states = [torch.load(tmp_path / f"network_{n}.pt", weights_only=True)["network"] for n in range(3)]
    for name, values in states[2].items():
        if values.is_floating_point():
            assert torch.allclose(values, (states[0][name] + states[1][name]) / 2)


def test_the_adjoint_method_makes_a_fit(liquid, tmp_path):
    result = fit_of(gradient="adjoint", duration=0.08, interval=0.02, replicas=None, friction=5.0).fit(
        liquid, tmp_path / "a", **QUIET
    )
    assert len(result.losses) == 3 and np.isfinite(result.losses).all()
    again = fit_of(gradient="adjoint", duration=0.08, interval=0.02, replicas=None, friction=5.0, iterations=3).fit(
        liquid, tmp_path / "a", **QUIET
    )
    assert np.array_equal(again.losses[:3], result.losses)
    states = [torch.load(tmp_path / "a" / f"network_{n}.pt", weights_only=True)["network"] for n in (0, 1)]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.slow
def test_a_fluid_gets_the_structure_of_the_reference(liquid, tmp_path):
    fit = fit_of(iterations=8, duration=20.0)
    result = fit.fit(liquid, tmp_path, **QUIET)
    assert result.losses[result.best] < 0.1 * result.losses[0]
    assert result.differences["g(r)"] < 0.04


class Softness(torch.nn.Module):
    """A Gaussian repulsion, times a parameter that is 0."""

    cutoff = 0.6

    def __init__(self):
        super().__init__()
        self.height = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, displacements, types, rows, columns):
        energy = self.height * torch.exp(-((displacements.norm(dim=1) / 0.35) ** 2))
        return torch.zeros(len(types), dtype=torch.float64).index_add(0, rows, energy)


@pytest.mark.slow
def test_both_gradients_agree(liquid):
    """Linear response: after a time t, the mean of O has changed by −β(⟨OV⟩ − ⟨O(t)V(0)⟩), where V = ∂U/∂θ.

    The adjoint method gives the left hand side, from single trajectories; the right hand side is what reweighting
    gives, less what has not decayed yet.
    """
    frames = configurations(liquid, 120)[::5]
    observable = Mean(lambda x, box, types: PairDistances(0.7, 0.02).values(Configuration(x, box, types))[17:20].sum())
    random = torch.Generator().manual_seed(3)
    network = Softness()

    def slope(positions, box, types):
        r = Configuration(positions, box, types)
        graph = SampledFrames(network, [r], [observable], THERMAL, dtype=torch.float64).graphs[0]
        network.zero_grad()
        graph.energy(network).backward()
        return float(network.height.grad)

    rows = []
    for frame in frames:
        motion = motion_of(network, [frame], [LIQUID])
        velocities = torch.randn(64, 3, generator=random, dtype=torch.float64) * (THERMAL / 39.95) ** 0.5
        chain = torch.randn(3, generator=random, dtype=torch.float64) * torch.sqrt(motion.inertia * THERMAL)
        start = State(frame.positions, velocities - velocities.mean(0), chain)
        before = slope(*frame)
        network.zero_grad()
        # With a target of −1/2 below the value, the loss has the slope of the observable.
        value = float(
            observable.values(Configuration(trajectory(motion, start, [0.2], 0.01)[0].positions.detach(), *frame[1:]))
        )
        _, _, end = adjoint_gradient(motion, start, [0.2], 0.01, [observable], [np.array([value - 0.5])])
        found = float(network.height.grad)
        rows.append([found, value, before, slope(end.positions, *frame[1:])])
    gradients, values, first, last = np.array(rows).T
    products = -(values - values.mean()) * ((last - last.mean()) - (first - first.mean())) / THERMAL
    errors = [each.std(ddof=1) / len(each) ** 0.5 for each in (gradients, products)]
    assert abs(gradients.mean()) > 3 * errors[0]
    assert gradients.mean() == pytest.approx(products.mean(), abs=3 * np.hypot(*errors))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient": "guess"}, "must be 'reweighting' or 'adjoint'"),
        ({"iterations": -1}, "iterations from 0 on"),
        ({"learning_rate": 0.0}, "learning rate must be positive"),
        ({"effective": 1.0}, "between 0 and 1"),
        ({"duration": 0.4}, "four intervals or more"),
        ({"duration": 4.1}, "must be a whole number of times"),
        ({"gradient": "adjoint", "replicas": 2}, "one replica"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fit_of(**options)


def test_frames_and_observables_that_do_not_fit_are_refused(liquid, tmp_path):
    network = GNN(types=1, channels=4)
    with pytest.raises(ValueError, match="nothing to fit to"):
        TrajectoryMatching(network, [])
    with pytest.raises(ValueError, match="labels of their own"):
        TrajectoryMatching(network, [PairDistances(0.7), PairDistances(0.6)])
    with pytest.raises(ValueError, match="does not know the pressure"):
        TrajectoryMatching(network, [Pressure(1.0)], gradient="adjoint")
    with pytest.raises(ValueError, match="farther than half"):
        TrajectoryMatching(network, [PairDistances(maximum=1.0)]).fit(liquid, tmp_path / "fit", **QUIET)
    with pytest.raises(ValueError, match="knows 2 bead types"):
        TrajectoryMatching(GNN(types=2, channels=4), [PairDistances(maximum=0.7)]).fit(
            liquid, tmp_path / "fit", **QUIET
        )
    with pytest.raises(ValueError, match="no files"):
        TrajectoryMatching(network, [PairDistances(maximum=0.7)]).fit([], tmp_path / "fit", **QUIET)
    assert not (tmp_path / "fit").exists()


def test_another_function_under_the_same_name_is_refused(liquid, tmp_path):
    def fit(function):
        options = {"iterations": 0, "duration": 0.8, "interval": 0.2, "time_step": 0.004, "replicas": 2}
        network = GNN(types=1, channels=4, cutoff=0.5, basis_size=8)
        observable = Mean(function, wanted=[1.0])
        return TrajectoryMatching(network, [observable], priors=[CORE], **options).fit(liquid, tmp_path, **QUIET)

    fit(lambda x, box, types: x[0, 0] - x[1, 0])
    fit(lambda x, box, types: x[0, 0] - x[1, 0])
    with pytest.raises(ValueError, match="other inputs"):
        fit(lambda x, box, types: x[0, 1] - x[1, 1])
