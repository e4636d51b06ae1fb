"""Modules of other packages as potentials: in their units, with their kind of pairs, and like any other potential."""

import numpy as np
import openmm
import pytest
import torch
from conftest import BOXES, Case, energy_and_forces, images, scatter
from openmm import app
from torch import nn

from openmmcg import CGForce
from openmmcg.fitting import force_rmse
from openmmcg.frames import FrameWriter
from openmmcg.potentials import CGPotential, Ensemble, Repulsion
from openmmcg.potentials.external import from_module

BEADS = 60
KCAL = 4.184
DEPTH, SIZE = 0.2, 3.0  # kcal/mol and Å
CUTOFF = 5.0  # Å


class Displacements(nn.Module):
    """A soft pair energy between types that are called 1 and 8, of displacements with cell shifts."""

    def __init__(self, directed: bool = False, forces: bool = False, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.share, self.size = 0.5 if directed else 1.0, SIZE
        self.register_buffer("depth", torch.tensor(DEPTH, dtype=dtype))

    def pair_energies(self, displacements, types, rows, columns):
        charges = 1 + 0.1 * (types[rows] + types[columns]).to(self.depth.dtype)
        decay = torch.exp(-displacements.square().sum(1) / (self.size * self.size))
        return self.share * self.depth * charges * decay

    def forward(self, positions, box, types, rows, columns, shifts):
        displacements = positions[columns] - positions[rows]
        if box.numel() > 0:
            displacements = displacements + torch.matmul(shifts, box)
        return self.pair_energies(displacements, types, rows, columns)


class WithForces(Displacements):
    def forward(self, positions, box, types, rows, columns, shifts):
        positions = positions.detach().requires_grad_()
        displacements = positions[columns] - positions[rows]
        if box.numel() > 0:
            displacements = displacements + torch.matmul(shifts, box)
        energy = self.pair_energies(displacements, types, rows, columns).sum()
        gradient = torch.autograd.grad([energy], [positions])[0]
        assert gradient is not None
        return energy, -gradient


def expected(positions, box, types):
    """Energy and forces in kJ/mol and nm, pair by pair."""
    i, j = np.triu_indices(len(positions), 1)
    vectors = images(positions[j] - positions[i], box)
    squares = (vectors**2).sum(1)
    numbers = np.array([1, 8])[types]
    energies = KCAL * DEPTH * (1 + 0.1 * (numbers[i] + numbers[j])) * np.exp(-100 * squares / SIZE**2)
    energies[squares >= (CUTOFF / 10) ** 2] = 0
    pulls = (200 / SIZE**2 * energies)[:, None] * vectors
    forces = np.zeros_like(positions)
    np.add.at(forces, j, pulls)
    np.add.at(forces, i, -pulls)
    return energies.sum(), forces


def external(module, **options):
    settings = {"edges": "undirected", "shifts": True, "types": [1, 8], "length": "angstrom", "energy": "kcal/mol"}
    return from_module(module, bead_types=[("A", 10.0), ("B", 20.0)], cutoff=CUTOFF, **{**settings, **options})


def chain(beads=BEADS, box=None):
    topology = app.Topology()
    own = topology.addChain()
    for bead in range(beads):
        topology.addAtom("AB"[bead % 2], None, topology.addResidue("BEA", own))
    if box is not None:
        topology.setPeriodicBoxVectors(box * openmm.unit.nanometer)
    return topology


@pytest.mark.parametrize("edges", ["directed", "undirected"])
@pytest.mark.parametrize("kind", [Displacements, WithForces])
@pytest.mark.parametrize("name", BOXES)
def test_energy_and_forces_are_those_of_the_module(edges, kind, name):
    box = BOXES[name]
    potential = external(kind(edges == "directed"), edges=edges, outputs_forces=kind is WithForces)
    positions = scatter(BEADS, box, closest=0.1)
    if box is not None:  # wherever beads are
        positions = positions + np.random.default_rng(0).integers(-3, 4, (BEADS, 3)) @ box
    context = Case("Reference").context(potential.create_system(chain(box=box)), positions)
    energy, forces = energy_and_forces(context)
    true_energy, true_forces = expected(positions, box, np.arange(BEADS) % 2)
    assert energy == pytest.approx(true_energy, rel=1e-11)
    assert np.allclose(forces, true_forces, atol=1e-11 * np.abs(true_forces).max())


def test_single_precision_keeps_its_digits_far_from_the_origin():
    potential = external(Displacements(dtype=torch.float32), dtype="float32")
    positions = scatter(BEADS, closest=0.1)
    context = Case("CPU", 1).context(potential.create_system(chain()), positions + 1000.0)
    true_forces = expected(positions, None, np.arange(BEADS) % 2)[1]
    assert np.allclose(energy_and_forces(context)[1], true_forces, atol=3e-6 * np.abs(true_forces).max())


@pytest.mark.parametrize("kind", [Displacements, WithForces])
def test_it_is_a_potential_like_any_other(kind, tmp_path):
    """Priors, replicas, ensembles, scaling and files."""
    repulsion = Repulsion([[0.2, 0.2], [0.2, 0.2]])
    module = external(kind(), outputs_forces=kind is WithForces, temperature=300)
    potential = module.with_priors([repulsion])
    positions = scatter(BEADS, closest=0.15)
    energy, forces = energy_and_forces(Case("Reference").context(potential.create_system(chain()), positions))
    alone = energy_and_forces(Case("Reference").context(module.create_system(chain()), positions))
    prior = CGPotential(None, potential.bead_types, priors=[repulsion])
    bare = energy_and_forces(Case("Reference").context(prior.create_system(chain()), positions))
    assert energy == pytest.approx(alone[0] + bare[0], rel=1e-12)

    replicated = Case("Reference").context(potential.create_system(chain(), replicas=3), np.tile(positions, (3, 1)))
    energies, all_forces = energy_and_forces(replicated)
    assert energies == pytest.approx(3 * energy, rel=1e-12)
    assert np.allclose(all_forces, np.tile(forces, (3, 1)), atol=1e-10 * np.abs(forces).max())

    path = tmp_path / "potential.pt"
    potential.scaled(0.5).save(path)
    loaded = CGPotential.load(path)
    assert (loaded.cutoff, loaded.temperature, loaded.is_opaque) == (0.5, 300, True)
    halved = energy_and_forces(Case("Reference").context(loaded.create_system(chain()), positions))
    assert halved[0] == pytest.approx(energy / 2, rel=1e-12)

    both = Ensemble([potential, loaded]).create_system(chain())
    mean = energy_and_forces(Case("Reference").context(both, positions))[0]
    assert mean == pytest.approx(0.75 * energy, rel=1e-12)


def test_its_forces_are_compared_with_those_of_frames(tmp_path):
    box = np.diag([2.4] * 3)
    positions = np.stack([scatter(BEADS, box, seed=seed, closest=0.15) for seed in range(3)])
    types = np.arange(BEADS) % 2
    forces = np.stack([expected(frame, box, types)[1] for frame in positions])
    path = tmp_path / "frames.h5md"
    particles = {"names": ["AB"[t] for t in types], "types": types, "type_names": ["A", "B"], "masses": 10 + 10 * types}
    with FrameWriter(path, **particles, temperature=300.0, forces=True, periodic=True) as writer:
        for step in range(3):
            writer.append(positions[step], box, forces=forces[step] + 2.0, time=float(step))
    assert force_rmse(external(Displacements()), path, progress=False) == pytest.approx(2.0, rel=1e-6)


def test_the_network_is_not_to_be_had():
    with pytest.raises(ValueError, match="holds a module of another package"):
        external(Displacements()).network  # noqa: B018


class Dictionary(Displacements):
    def forward(self, positions, box, types, rows, columns, shifts):
        return {"energy": positions.sum()}


class Constant(Displacements):
    def forward(self, positions, box, types, rows, columns, shifts):
        return positions.detach().sum()


class Endless(Displacements):
    def forward(self, positions, box, types, rows, columns, shifts):
        return positions.sum() / 0.0


class Raising(Displacements):
    def forward(self, positions, box, types, rows, columns, shifts):
        if positions.shape[0] > 0:
            raise ValueError("not today")
        return positions.sum()


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (Displacements(), {"length": "inch"}, "'inch' is no unit of length .* angstrom"),
        (Displacements(), {"energy": -1.0}, "a unit of energy must be a positive number of kJ/mol"),
        (Displacements(), {"edges": "both"}, "edges is 'both'; choose 'directed'"),
        (Displacements(), {"dtype": "float16"}, "no dtype 'float16'; choose 'float32' or 'float64'"),
        (Displacements(), {"types": [1]}, "names 1 types of the module, for 2 bead types"),
        (Displacements(), {"shifts": False}, "shifts"),
        (Displacements(), {"outputs_forces": True}, "returns Tensor, and not Tuple.* outputs_forces=False"),
        (WithForces(), {}, "returns Tuple.* say outputs_forces=True"),
        (Dictionary(), {}, "returns Dict.* wrap it in a module"),
        (Constant(), {}, "does not depend on positions"),
        (Endless(), {}, "the energy of the module Endless are not finite"),
        (Raising(), {}, "(?s)cannot be evaluated for 7 beads with .* pairs without a box.*not today"),
    ],
)
def test_what_does_not_fit_is_refused(module, options, message):
    with pytest.raises(ValueError, match=message):
        external(module, **options)


def test_a_file_of_torchscript_is_read_and_others_are_named(tmp_path):
    path = tmp_path / "module.pt"
    torch.jit.script(Displacements()).save(path)
    assert external(path).cutoff == 0.5
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"module\.pt"):
        external(path)
    with pytest.raises(FileNotFoundError, match=r"other\.pt"):
        external(tmp_path / "other.pt")


def test_a_module_that_is_not_scripted_is_refused_by_the_force():
    with pytest.raises(TypeError, match=r"not a Displacements; translate it: torch\.jit\.script"):
        CGForce(Displacements(), cutoff=0.5)
