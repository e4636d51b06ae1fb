"""The AOTInductor engine: the statements of the other engines about potentials that were exported here.

What is refused before anything of a package runs is in test_forces_inductor_packages.py.
"""

import multiprocessing
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import openmm
import pytest
import torch
from conftest import (
    CASES,
    PLATFORMS,
    Case,
    difference,
    energy_and_forces,
    exact,
    random_network,
    scatter,
    system_of,
)
from test_forces_cg_force import (  # noqa: F401
    assert_energy_and_forces_are_those_of_the_network,
    assert_forces_are_minus_the_gradient_of_the_energy,
    assert_forces_turn_with_the_beads,
    cg_system,
    test_a_barostat_moves_by_the_energies_of_the_boxes,
    test_a_checkpoint_restores_a_run,
    test_a_context_takes_new_types_over,
    test_a_potential_of_many_beads_is_the_sum_of_distant_parts,
    test_beads_can_be_a_subset_of_the_particles,
    test_it_adds_to_other_forces_and_has_a_force_group,
    test_massless_beads_stay_and_virtual_sites_pass_their_force_on,
    test_one_lone_bead_has_the_energy_of_its_type_alone,
    test_positions_that_are_not_finite_are_named,
    test_the_cutoff_must_fit_into_half_the_box,
    test_xml_contains_all_that_is_needed,
    types_of,
)
from test_forces_fresh_process import READ, environment
from test_simulation_replicas import (  # noqa: F401
    configurations,
    test_energies_of_replicas_are_those_of_the_present_positions,
    test_energy_and_forces_are_those_of_the_single_systems,
    test_replicas_can_be_a_subset_of_the_particles,
    test_types_of_one_replica_hold_for_all_and_may_differ_between_them,
)

from openmmcg import CGForce, CGPotential
from openmmcg.mapping import cg_topology
from openmmcg.potentials import Ensemble, Repulsion

# A compilation takes a minute.
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Exported:
    """A potential with its network as a package, and the one of which it was exported."""

    original: CGPotential
    potential: CGPotential
    cutoff = 0.6

    @property
    def network(self):
        return self.original.network

    @classmethod
    def of(cls, kind, dtype):
        torch.manual_seed(4)
        network = random_network(2, network=kind, channels=16)
        original = CGPotential(network, [("A", 20.0), ("B", 30.0)], temperature=300)
        return cls(original, original.export_inductor(network, dtype=dtype))

    def to_bytes(self):
        return self.potential.to_bytes()


@pytest.fixture(scope="module")
def schnet():
    return Exported.of("schnet", "float32")


@pytest.fixture(scope="module")
def painn():
    return Exported.of("painn", "float64")


@pytest.fixture
def engine():
    return "inductor"


@pytest.fixture
def potential(painn):
    return painn


@pytest.mark.pairwise
def test_energy_and_forces_are_those_of_the_network(painn, case, engine, box):
    assert_energy_and_forces_are_those_of_the_network(painn, case, engine, box)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_package_in_single_precision_rounds_no_more_than_that(schnet, engine, box, threads):
    positions = scatter(90, box)
    context = Case("CPU", threads).context(cg_system(schnet, positions, box, engine), positions)
    energy, forces = energy_and_forces(context)
    expected_energy, expected_forces = exact(schnet, positions, types_of(90), box)
    assert 1e-12 < difference(energy, expected_energy) < 1e-6
    assert 1e-9 < difference(forces, expected_forces) < 3e-6


def test_a_package_in_double_precision_has_all_digits_on_every_platform(painn, case, engine, box):
    positions = scatter(90, box)
    energy, forces = energy_and_forces(case.context(cg_system(painn, positions, box, engine), positions))
    expected_energy, expected_forces = exact(painn, positions, types_of(90), box)
    assert difference(energy, expected_energy) < (1e-12 if case.platform in ("Reference", "CPU") else 3e-5)
    assert difference(forces, expected_forces) < (1e-12 if case.platform in ("Reference", "CPU") else 3e-5)


@pytest.mark.pairwise
def test_forces_are_minus_the_gradient_of_the_energy(painn, case, engine, box):
    assert_forces_are_minus_the_gradient_of_the_energy(painn, case, engine, box)


@pytest.mark.parametrize("parity", [1, -1], ids=["rotation", "reflection"])
def test_forces_turn_with_the_beads(painn, case, engine, parity):
    assert_forces_turn_with_the_beads(painn, case, engine, parity)


def test_a_package_can_be_swapped_for_another_in_a_running_context(case, engine, painn, schnet):
    positions = scatter(50)
    system = cg_system(painn, positions, None, engine)
    context = case.context(system, positions)
    before = energy_and_forces(context)[1]
    force = CGForce.of(system.getForce(0))
    force.setModel(schnet.to_bytes())
    force.updateParametersInContext(context)
    expected = exact(schnet, positions, types_of(50), None)[1]
    assert difference(energy_and_forces(context)[1], expected) < 2e-5
    assert difference(before, expected) > 0.1


def test_the_engine_is_that_for_which_the_file_has_what_it_needs(schnet):
    """The compiled network stays in the file; the TorchScript module does not."""
    for engine in ("auto", "native"):
        force = CGForce(schnet.to_bytes(), types=[0, 1], engine=engine)
        assert force.profile(CASES[0].context(system_of(force, beads=2), scatter(2)))
    force = CGForce(schnet.to_bytes(), types=[0, 1], engine="torchscript")
    with pytest.raises(openmm.OpenMMException, match='no TorchScript module.*choose engine="native" or engine="induct'):
        CASES[0].context(system_of(force, beads=2), scatter(2))
    force = CGForce(schnet.original.to_bytes(), types=[0, 1], engine="inductor")
    with pytest.raises(openmm.OpenMMException, match="no AOTInductor package, so the inductor engine cannot run it"):
        CASES[0].context(system_of(force, beads=2), scatter(2))


def test_a_profile_and_derivatives_are_the_other_engines(schnet, engine):
    force = CGForce(schnet.to_bytes(), types=[0, 1], engine=engine)
    context = CASES[0].context(system_of(force, beads=2), scatter(2))
    assert force.profile(context) == []


def test_an_exported_potential_is_one_value_and_one_file(painn, tmp_path):
    exported = painn.potential
    exported.save(tmp_path / "p.pt")
    loaded = CGPotential.load(tmp_path / "p.pt")
    assert loaded.to_bytes() == exported.to_bytes()
    assert loaded.compile() == painn.original.compile()
    assert (loaded.cutoff, loaded.bead_types) == (0.6, painn.original.bead_types)
    more = loaded.with_priors([Repulsion([[0.3, 0.25], [0.25, 0.2]])])
    assert len(more.priors) == 1
    assert more._file.entry("module.pt2") == exported._file.entry("module.pt2")
    for use in (lambda: loaded.module, lambda: loaded.network):
        with pytest.raises(ValueError, match="AOTInductor package, which cannot be .*of which it was exported"):
            use()


def test_a_scaled_package_gives_scaled_energies_and_forces(painn, engine):
    positions = scatter(30)
    energy, forces = exact(painn, positions, types_of(30), None)
    scaled = painn.potential.scaled(0.5).scaled(0.5)
    context = CASES[0].context(cg_system(scaled, positions, None, engine), positions)
    found = energy_and_forces(context)
    assert found[0] == pytest.approx(0.25 * energy, rel=1e-12)
    assert difference(found[1], 0.25 * forces) < 1e-12
    assert CGForce.of(context.getSystem().getForce(0)).replica_energies(context) == pytest.approx([found[0]], rel=1e-12)


def test_packages_make_an_ensemble(painn, schnet):
    positions, topology = scatter(20), cg_topology(["AB"[type_] for type_ in types_of(20)])
    system = Ensemble([painn.potential, schnet.potential]).create_system(topology, engine="inductor")
    expected = [exact(member, positions, types_of(20), None)[1] for member in (painn, schnet)]
    assert difference(energy_and_forces(CASES[0].context(system, positions))[1], np.mean(expected, 0)) < 3e-6


def test_a_pt2_of_one_s_own_runs_when_it_is_said_what_it_is(painn, engine, tmp_path):
    path = tmp_path / "own.pt2"
    path.write_bytes(painn.potential._file.entry("module.pt2"))
    with pytest.raises(openmm.OpenMMException, match=r"no model\.json.*or a \.pt2 .*cutoff and bead types"):
        CGForce(path)
    positions = scatter(30)
    expected = exact(painn, positions, types_of(30), None)[1]
    for model in (path, path.read_bytes()):
        force = CGForce(model, cutoff=0.6, bead_types=["A", "B"], types=types_of(30))
        assert (
            difference(energy_and_forces(CASES[0].context(system_of(force, beads=30), positions))[1], expected) < 1e-9
        )


def test_a_package_of_other_arguments_says_so_and_computes_nothing(painn):
    """It was compiled for positions in float64; without a look at them it would read whatever lies in memory."""
    content = painn.potential._file.entry("module.pt2")
    for options, message in (
        ({"cutoff": 0.6, "dtype": "float32"}, "unmatched dtype"),
        ({"contract": "plain"}, "could not be evaluated"),
        ({"cutoff": 0.6, "outputs_forces": False}, "has to return .energy, forces."),
        ({"cutoff": 0.6, "global_parameters": {"scale": 1.0}}, "could not be evaluated"),
    ):
        force = CGForce(content, bead_types=["A", "B"], types=types_of(9), **options)
        with pytest.raises(openmm.OpenMMException, match=message):
            energy_and_forces(CASES[0].context(system_of(force, beads=9), scatter(9)))


def test_a_system_is_read_where_only_openmm_was_imported(painn, engine, tmp_path):
    positions = scatter(30)
    system = system_of(CGForce(painn.to_bytes(), types=types_of(30), engine=engine), beads=30)
    path = tmp_path / "system.xml"
    path.write_text(openmm.XmlSerializer.serialize(system))
    (tmp_path / "system.xml.positions").write_text(str(positions.tolist()))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-c", READ, str(path), "Reference", "CPU"]
    variables = {**environment(), "TMPDIR": str(temporary)}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=True)
    expected = energy_and_forces(CASES[0].context(system, positions))[0]
    assert f'"energies": [{expected}' in done.stdout
    assert not list(temporary.iterdir()), "what was unpacked is still there"


def test_it_runs_on_the_host_of_a_gpu_which_is_said(painn, tmp_path):
    platforms = [name for name in PLATFORMS if name not in ("Reference", "CPU")]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for name in platforms:
            assert "AOTInductor packages are run by the processor" in pool.apply(stderr_of, (painn.to_bytes(), name))


def stderr_of(model, platform):
    import os
    import tempfile

    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        Case(platform).context(system_of(CGForce(model, types=[0, 1], engine="inductor"), beads=2), np.eye(3)[:2])
        os.dup2(kept, 2)
        file.seek(0)
        return file.read().decode()
