"""What tests share: potentials with random weights, boxes of every shape, Contexts on every platform."""

import copy
import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial

import numpy as np
import openmm
import pytest
import torch
from openmm import unit

from openmmcg import CGPotential
from openmmcg.mapping import cg_topology
from openmmcg.potentials import GNN, PaiNN, Repulsion, SchNet

PLATFORMS = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
GPU_PLATFORMS = [name for name in ("OpenCL", "CUDA") if name in PLATFORMS]
BOXES = {
    "no box": None,
    "cubic": np.diag([2.4, 2.4, 2.4]),
    "rectangular": np.diag([3.6, 1.9, 2.1]),
    "triclinic": np.array([[2.6, 0, 0], [-1.2, 2.5, 0], [0.9, -1.1, 2.4]]),
}


@dataclass(frozen=True)
class Case:
    """Where a force is computed, and how well single or double precision allows."""

    platform: str
    threads: int | None = None

    @property
    def is_double(self) -> bool:
        return self.platform == "Reference"

    def __str__(self) -> str:
        return self.platform if self.threads is None else f"{self.platform}-{self.threads}"

    def context(self, system, positions, integrator=None) -> openmm.Context:
        properties = {} if self.threads is None else {"Threads": str(self.threads)}
        if self.platform in GPU_PLATFORMS:
            # Single precision would round the positions before the force sees them.
            properties["Precision"] = "mixed"
        context = openmm.Context(
            system,
            integrator or openmm.VerletIntegrator(0.001),
            openmm.Platform.getPlatformByName(self.platform),
            properties,
        )
        context.setPositions(positions)
        return context


def pytest_collection_modifyitems(config, items):
    """Of a test marked `pairwise`, run so many of its cases that any two values of its parameters meet in one.

    Parameters that the marker names count as one, whose values are all their combinations.
    """
    cases = defaultdict(list)
    for item in items:
        if marker := item.get_closest_marker("pairwise"):
            together = {name: "+".join(marker.args) for name in marker.args}
            values = defaultdict(tuple)
            for name, value in item.callspec.params.items():
                values[together.get(name, name)] += (id(value),)
            pairs = set(itertools.combinations(values.items(), 2))
            cases[item.parent, item.originalname].append((item, pairs))
    dropped = set()
    for all_cases in cases.values():
        met = Counter()
        while any(pairs - met.keys() for _, pairs in all_cases):
            # Of those with as many new meetings, the one whose other meetings were the fewest spreads them evenly.
            chosen = max(all_cases, key=lambda case: (len(case[1] - met.keys()), -sum(met[pair] for pair in case[1])))
            met.update(chosen[1])
            all_cases.remove(chosen)
        dropped |= {item for item, _ in all_cases}
    config.hook.pytest_deselected(items=list(dropped))
    items[:] = [item for item in items if item not in dropped]


CASES = [Case("Reference"), Case("CPU", 1), Case("CPU", 2), *map(Case, GPU_PLATFORMS)]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


@pytest.fixture(params=BOXES)
def box(request):
    return BOXES[request.param]


NETWORKS = {"schnet": SchNet, "gnn": GNN, "painn": PaiNN, "painn of degree 2": partial(PaiNN, degree=2)}


def random_network(types, *, network="schnet", **options):
    """A network that nobody trained, with forces of a liquid's size."""
    neighbors = 10 if network.startswith("painn") else 1
    defaults = {"channels": 24, "blocks": 2, "cutoff": 0.6, "neighbors": neighbors, "energy_scale": 5.0, "seed": None}
    return NETWORKS[network](types=types, **{**defaults, **options})


def random_potential(seed=0, *, bead_types=(("A", 20.0), ("B", 30.0)), priors=(), **options) -> CGPotential:
    """The potential of a random network, by default a SchNet."""
    torch.manual_seed(seed)
    network = random_network(len(bead_types), **options)
    return CGPotential(network, list(bead_types), priors=priors, temperature=300)


@pytest.fixture(scope="session")
def potential():
    return random_potential()


@pytest.fixture(scope="session")
def potential_with_prior():
    return random_potential(priors=[Repulsion([[0.3, 0.25], [0.25, 0.2]], exponent=8, cutoff=0.7)])


@pytest.fixture(scope="session")
def two_type_potential(potential, tmp_path_factory):
    """A file with a compiled network of the bead types A and B."""
    path = tmp_path_factory.mktemp("potential") / "two_types.pt"
    potential.save(path)
    return path


def scatter(beads, box=None, seed=1, closest=0.2):
    """Positions at random, none closer than `closest`, some outside the box."""
    random = np.random.default_rng(seed)
    lattice = np.eye(3) * 1.5 if box is None else box
    places = []
    while len(places) < beads:
        place = (random.random(3) * 1.5 - 0.25) @ lattice
        if not places or np.linalg.norm(images(np.array(places) - place, box), axis=1).min() > closest:
            places.append(place)
    return np.array(places)


def bonded_topology(types, box):
    """Beads of the types A and B, the first 21 a chain."""
    topology = cg_topology(["AB"[bead_type] for bead_type in types], box)
    atoms = list(topology.atoms())
    for first, second in zip(atoms[:20], atoms[1:21], strict=True):
        topology.addBond(first, second)
    return topology


def images(displacements, box):
    """Minimum images, in numpy."""
    if box is None:
        return displacements
    for axis in (2, 1, 0):
        shift = np.round(displacements[..., axis : axis + 1] / box[axis, axis])
        displacements = displacements - shift * box[axis]
    return displacements


def liquid(beads, box=None, seed=1):
    """Many positions quickly: beads scattered a little about the sites of a lattice."""
    random = np.random.default_rng(seed)
    sites = int(np.ceil(beads ** (1 / 3)))
    lattice = np.stack(np.meshgrid(*[np.arange(sites)] * 3, indexing="ij"), -1).reshape(-1, 3)
    chosen = lattice[random.permutation(len(lattice))[:beads]]
    places = (chosen + 0.5 + random.normal(scale=0.15, size=(beads, 3))) / sites
    return places @ (np.eye(3) * 0.32 * sites if box is None else box)


def system_of(*forces, beads, box=None, mass=20.0) -> openmm.System:
    system = openmm.System()
    for _ in range(beads):
        system.addParticle(mass)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
    for force in forces:
        system.addForce(force)
    return system


def energy_and_forces(context, groups=-1):
    state = context.getState(energy=True, forces=True, groups=groups)
    return (
        state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole),
        state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer),
    )


def difference(a, b):
    """Norm of the difference over the norm."""
    return np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b)


def exact(potential, positions, types, box):
    """Energy and forces of the network itself, in float64, over all pairs."""
    network = copy.deepcopy(potential.network).double()
    places = torch.tensor(positions, dtype=torch.float64, requires_grad=True)
    rows, columns = np.triu_indices(len(positions), 1)
    inside = np.linalg.norm(images(positions[columns] - positions[rows], box), axis=1) < potential.cutoff
    rows, columns = rows[inside], columns[inside]
    raw = positions[columns] - positions[rows]
    shift = torch.tensor(images(raw, box) - raw)
    displacements = places[columns] - places[rows] + shift
    energy = network(displacements, torch.tensor(types), torch.tensor(rows), torch.tensor(columns)).sum()
    (gradient,) = torch.autograd.grad(energy, places)
    return energy.item(), -gradient.numpy()
