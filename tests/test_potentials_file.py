"""CGPotential and its file: what goes in comes out, and what is broken is refused."""

import io
import json
import os
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from conftest import difference, energy_and_forces, exact, random_potential, scatter
from openmm import app
from torch import Tensor

from openmmcg import CGForce, CGPotential
from openmmcg.model_file import FORMAT_VERSION
from openmmcg.potentials import BeadType, Repulsion, SchNet

KEPT = Path(__file__).parent / "continuity"
PRIOR = Repulsion([[0.25, 0.2], [0.2, 0.22]])


@pytest.fixture(scope="module")
def with_prior():
    return random_potential(priors=[PRIOR])


def topology(names, box=None, bonds=()):
    result = app.Topology()
    chain = result.addChain()
    atoms = [result.addAtom(name, None, result.addResidue("M", chain)) for name in names]
    for first, second in bonds:
        result.addBond(atoms[first], atoms[second])
    if box is not None:
        result.setPeriodicBoxVectors(box)
    return result


def context_of(system, positions):
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(positions)
    return context


def test_a_saved_potential_is_loaded_as_it_was(with_prior, tmp_path):
    with_prior.save(tmp_path / "p.pt")
    loaded = CGPotential.load(tmp_path / "p.pt")
    assert loaded.to_bytes() == with_prior.to_bytes()
    assert loaded.bead_types == [BeadType("A", 20.0), BeadType("B", 30.0)]
    assert (loaded.cutoff, loaded.temperature) == (0.6, 300)
    assert loaded.compile() == with_prior.compile()
    assert [openmm.XmlSerializer.serialize(prior) for prior in loaded.priors] == [
        openmm.XmlSerializer.serialize(PRIOR.template())
    ]
    positions, types = scatter(20), [i % 2 for i in range(20)]
    energies = [exact(potential, positions, types, None)[0] for potential in (with_prior, loaded)]
    assert energies[0] == energies[1]


def test_provenance_is_kept(tmp_path):
    network = SchNet(types=1, channels=4, blocks=1)
    provenance = {"frames": "water.h5md", "epochs": 3, "rmse": [1.5, None]}
    CGPotential(network, [("W", 18.0)], provenance=provenance).save(tmp_path / "p.pt")
    loaded = CGPotential.load(tmp_path / "p.pt")
    assert loaded.provenance == provenance
    assert loaded.temperature is None


def test_numbers_that_are_not_finite_are_null_in_the_file():
    network = SchNet(types=1, channels=4, blocks=1)
    provenance = {"rmse": float("nan"), "errors": [1.0, float("inf")], "fold": {"gain": -float("inf")}}
    potential = CGPotential(network, [("W", 18.0)], provenance=provenance)
    assert potential.provenance == {"rmse": None, "errors": [1.0, None], "fold": {"gain": None}}
    more = potential.with_priors([Repulsion([[0.2]])], provenance={"more": float("nan")})
    assert more.provenance["more"] is None
    CGForce(more.to_bytes())


def test_a_file_of_before_that_says_nan_is_read_and_can_be_saved_anew(with_prior, tmp_path):
    """Python's JSON has a word for NaN that no other reader of JSON knows."""
    (tmp_path / "old.pt").write_bytes(altered(with_prior, provenance={"rmse": float("nan")}))
    with pytest.raises(openmm.OpenMMException, match=r"old\.pt' has a model\.json that cannot be read"):
        CGForce(tmp_path / "old.pt")
    loaded = CGPotential.load(tmp_path / "old.pt")
    assert loaded.provenance == {"rmse": None}
    loaded.save(tmp_path / "new.pt")
    CGForce(tmp_path / "new.pt")
    positions, types = scatter(20), [i % 2 for i in range(20)]
    system = CGPotential.load(tmp_path / "new.pt").create_system(topology(["AB"[i] for i in types]))
    energies = [
        energy_and_forces(context_of(system, positions))[0]
        for system in (system, with_prior.create_system(topology(["AB"[i] for i in types])))
    ]
    assert energies[0] == energies[1]
    assert exact(loaded, positions, types, None)[0] == exact(with_prior, positions, types, None)[0]


def test_a_potential_does_not_change_with_the_network_it_was_made_of():
    network = SchNet(types=1, channels=4, blocks=1)
    potential = CGPotential(network, [("W", 18.0)])
    before = potential.network.readout.weight.clone()
    with torch.no_grad():
        network.readout.weight.fill_(0)
    assert torch.equal(potential.network.readout.weight, before)


def test_the_file_is_a_zip_of_the_documented_entries(with_prior, tmp_path):
    with_prior.save(tmp_path / "p.pt")
    with zipfile.ZipFile(tmp_path / "p.pt") as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        entries = {name: archive.read(name) for name in archive.namelist()}
    compiled = {"compiled_network.json", "compiled_network.bin"}
    assert entries.keys() == {"model.json", "priors.json", "module.pt"} | compiled
    description = json.loads(entries["model.json"])
    assert description["format"] == "openmm-cg potential"
    assert description["format_version"] == 2
    assert description["contract"] == "neighbor-list"
    assert description["cutoff"] == 0.6
    assert description["bead_types"] == [{"name": "A", "mass": 20.0}, {"name": "B", "mass": 30.0}]
    assert description["dtype"] == "any"
    assert description["temperature"] == 300
    assert len(json.loads(entries["priors.json"])) == 1
    assert json.loads(entries["compiled_network.json"])["types"] == 2
    module = torch.jit.load(io.BytesIO(entries["module.pt"]))
    assert torch.equal(module.network.readout.weight, with_prior.network.readout.weight)


def test_priors_are_added_without_torch(with_prior, tmp_path):
    with_prior.save(tmp_path / "p.pt")
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from openmmcg import CGPotential\n"
        f"potential = CGPotential.load({str(tmp_path / 'p.pt')!r})\n"
        f"potential.with_priors(potential.priors).save({str(tmp_path / 'more.pt')!r})\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    more = CGPotential.load(tmp_path / "more.pt")
    assert len(more.priors) == 2
    assert more._file.entry("module.pt") == with_prior._file.entry("module.pt")
    assert more.compile() == with_prior.compile()


@pytest.mark.parametrize("kept", sorted(KEPT.glob("*/*.pt")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_becomes_of_an_earlier_version_s_file_is_of_this_version(kept):
    old = CGPotential.load(kept)
    assert old.to_bytes() == kept.read_bytes()
    new = CGPotential.load(old.with_priors([PRIOR]).to_bytes())
    assert new._file.description["format_version"] == FORMAT_VERSION
    assert new.prior_templates[:-1] == old.prior_templates
    assert new.compile() == old.compile()
    if old.has_network:
        assert new.module.code == old.module.code == old.scaled(2.0).module.code


def zipped(entries, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def entries_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def of_two_sizes(content):
    """The directory says that model.json is longer than what is stored."""
    place = content.rindex(b"PK\x01\x02", 0, content.rindex(b"model.json"))
    return content[: place + 24] + struct.pack("<I", 1 << 31) + content[place + 28 :]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda content: zipped(entries_of(content) + [("model.json", "{}")]), "twice"),
        (lambda content: zipped(entries_of(content), compression=zipfile.ZIP_DEFLATED), "compressed"),
        (of_two_sizes, "two sizes"),
    ],
    ids=["an entry twice", "compressed entries", "an entry of two sizes"],
)
def test_an_archive_that_means_two_things_or_unpacks_to_more_is_refused(damage, problem, with_prior):
    content = damage(with_prior.to_bytes())
    with pytest.raises(ValueError, match=problem):
        CGPotential.load(content)
    with pytest.raises(openmm.OpenMMException, match=problem):
        CGForce(content)


class PairEnergies(torch.nn.Module):
    """A network outside the family of the primitives."""

    def __init__(self):
        super().__init__()
        self.cutoff = 0.6
        self.strength = torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, displacements: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        energies = self.strength * (0.6 - displacements.square().sum(1).sqrt()) ** 2
        return torch.zeros(types.shape[0], dtype=energies.dtype).index_add(0, rows, energies)


def test_a_network_of_another_family_has_no_compiled_form():
    assert CGPotential(PairEnergies(), [("A", 20.0)]).compile() is None


def test_an_interrupted_save_leaves_the_old_file(with_prior, tmp_path, monkeypatch):
    path = tmp_path / "p.pt"
    with_prior.save(path)
    before = path.read_bytes()

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        random_potential(7).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["p.pt"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.pt"):
        CGPotential.load(tmp_path / "nowhere.pt")


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(kept, with_prior, tmp_path):
    content = with_prior.to_bytes()
    (tmp_path / "p.pt").write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(ValueError, match="is damaged, or not a potential of this package"):
        CGPotential.load(tmp_path / "p.pt")


def test_a_corrupted_file_is_refused(with_prior, tmp_path):
    content = bytearray(with_prior.to_bytes())
    content[content.index(b'"format_version"') + 1] ^= 1
    (tmp_path / "p.pt").write_bytes(content)
    with pytest.raises(ValueError, match="corrupted"):
        CGPotential.load(tmp_path / "p.pt")


def altered(potential, **changes):
    """The file with other entries in its model.json."""
    entries = dict(entries_of(potential.to_bytes()))
    description = {**json.loads(entries["model.json"]), **changes}
    return zipped({**entries, "model.json": json.dumps(description)}.items())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format": "something else"}, "something else"),
        ({"format_version": FORMAT_VERSION + 1}, "upgrade openmm-cg"),
        ({"contract": "plain"}, "give it to CGForce instead"),
        ({"bead_types": []}, "at least one bead type"),
        ({"bead_types": [{"name": "A", "mass": 0.0}]}, "mass of bead type 'A' must be positive"),
    ],
)
def test_files_of_another_kind_are_refused(changes, problem, with_prior, tmp_path):
    with pytest.raises(ValueError, match=problem):
        CGPotential.load(altered(with_prior, **changes))


def test_a_torchscript_archive_without_description_is_refused(tmp_path):
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), buffer)
    with pytest.raises(ValueError, match="model.json"):
        CGPotential.load(buffer.getvalue())


@pytest.mark.parametrize(
    ("bead_types", "problem"),
    [
        ([("A", 1.0), ("B", 1.0)], "network knows 1 bead types, but 2 are given"),
        ([("A", 0.0)], "mass of bead type 'A' must be positive"),
        ([("A", float("nan"))], "mass of bead type 'A' must be positive"),
    ],
)
def test_bead_types_must_fit_the_network(bead_types, problem):
    with pytest.raises(ValueError, match=problem):
        CGPotential(SchNet(types=1, channels=4, blocks=1), bead_types)


def test_bead_types_need_different_names():
    with pytest.raises(ValueError, match="different names"):
        CGPotential(SchNet(types=2, channels=4, blocks=1), [("A", 1.0), ("A", 2.0)])


def test_a_system_has_the_masses_priors_and_forces_of_its_beads(with_prior, box):
    positions, types = scatter(30, box), [i % 2 for i in range(30)]
    system = with_prior.create_system(topology(["AB"[i] for i in types], box), remove_center_of_mass_motion=False)
    masses = [system.getParticleMass(i)._value for i in range(30)]
    assert masses == [[20.0, 30.0][i] for i in types]
    assert [force.getName() for force in system.getForces()][0] == "Repulsion"
    assert CGForce.of(system.getForce(1)).getTypes() == types
    assert system.usesPeriodicBoundaryConditions() == (box is not None)
    for index, force in enumerate(system.getForces()):
        force.setForceGroup(index)
    energy, forces = energy_and_forces(context_of(system, positions), groups={1})
    expected_energy, expected_forces = exact(with_prior, positions, types, box)
    assert difference(energy, expected_energy) < 1e-6
    assert difference(forces, expected_forces) < 3e-5


def test_center_of_mass_motion_is_removed_unless_told_otherwise(potential):
    kinds = [type(force).__name__ for force in potential.create_system(topology("AB")).getForces()]
    assert "CMMotionRemover" in kinds
    system = potential.create_system(topology("AB"), remove_center_of_mass_motion=False)
    assert len(system.getForces()) == 1


def test_bonded_beads_are_excluded_from_the_priors(with_prior):
    system = with_prior.create_system(topology("ABA", bonds=[(0, 1)]))
    prior = system.getForce(0)
    assert prior.getNumExclusions() == 1
    assert prior.getExclusionParticles(0) in ([0, 1], [1, 0])


def test_a_system_can_be_made_without_the_box_of_its_topology(potential):
    system = potential.create_system(topology("AB", np.eye(3) * 2), periodic=False)
    assert not system.usesPeriodicBoundaryConditions()


def test_unknown_bead_names_are_refused_with_the_known_ones(potential):
    with pytest.raises(ValueError, match=r"atom 1 .* 'OW', which is no bead type .* known are A, B"):
        potential.create_system(topology(["A", "OW"]))


def test_a_box_too_small_for_the_cutoff_is_refused(potential):
    with pytest.raises(ValueError, match=r"0.6 nm, is more than half the smallest box width, 1.1000 nm"):
        potential.create_system(topology("AB", np.diag([2.0, 1.1, 3.0])))


def test_periodic_systems_need_a_box(potential):
    with pytest.raises(ValueError, match="no periodic box"):
        potential.create_system(topology("AB"), periodic=True)
