"""Labels: the energies are those of the programs that compute them, and no frame is ever lost."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import mdtraj
import numpy as np
import pytest

from openmmcg.frames import Frames
from openmmcg.mapping.topology import with_bonds
from openmmcg.reference import (
    BITHIOPHENE,
    Labels,
    find_atoms,
    label_frames,
    orbital_energies,
    organic_molecule,
    sample,
    turn_dihedral,
)
from openmmcg.reference.quantum import label_frames as labelling
from openmmcg.reference.quantum.label_frames import compute_chunk

distributed = pytest.importorskip("distributed")

HARTREE = 27.211386245988  # eV
BOHR = 0.0529177210903  # nm
ELEMENTS = ["O", "H", "H"]
WATER = np.array([[0, 0, 0], [0, 0.0757, 0.0587], [0, -0.0757, 0.0587]])
METHYL = (["C", "H", "H", "H"], 0.108 * np.array([[0, 0, 0], [1, 0, 0], [-0.5, 0.75**0.5, 0], [-0.5, -(0.75**0.5), 0]]))


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def stretched_water(frames):
    return WATER * np.linspace(0.97, 1.06, frames)[:, None, None]


def rotation():
    q, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    return q * np.linalg.det(q)


def test_tight_binding_energies_are_those_of_tblite_called_directly():
    from tblite.interface import Calculator

    calculator = Calculator("GFN2-xTB", np.array([8, 1, 1]), WATER / BOHR)
    calculator.set("verbosity", 0)
    levels = HARTREE * calculator.singlepoint().get("orbital-energies")
    ours = orbital_energies(ELEMENTS, WATER)
    # Water has eight valence electrons: four orbitals are occupied.
    assert ours == pytest.approx((levels[3], levels[4]), abs=1e-9)
    assert ours.gap == pytest.approx(levels[4] - levels[3])


def test_density_functional_energies_are_those_of_exact_integrals_and_need_no_dispersion():
    from pyscf import dft, gto

    molecule = gto.M(atom=list(zip(ELEMENTS, WATER / BOHR, strict=True)), unit="Bohr", basis="def2-svp", verbose=0)
    field = dft.RKS(molecule, xc="HYB_GGA_XC_WB97X_D3").run()
    ours = orbital_energies(ELEMENTS, WATER, engine="wb97x-d3/def2-svp")
    # Density fitting is good to a few meV.
    assert ours == pytest.approx(tuple(HARTREE * field.mo_energy[4:6]), abs=5e-3)


@pytest.mark.parametrize(("engine", "bound"), [("gfn2-xtb", 1e-6), ("wb97x-d3/def2-svp", 2e-4)])
def test_energies_do_not_depend_on_place_orientation_or_order(engine, bound):
    """The grid of density functional theory is not quite invariant."""
    ours = orbital_energies(ELEMENTS, WATER, engine=engine)
    moved = orbital_energies(["H", "O", "H"], WATER[[1, 0, 2]] @ rotation() + [0.3, -0.1, 5.0], engine=engine)
    assert moved == pytest.approx(ours, abs=bound)


def test_the_homo_of_a_radical_is_its_singly_occupied_orbital():
    from pyscf import dft, gto

    elements, positions = METHYL
    molecule = gto.M(
        atom=list(zip(elements, positions / BOHR, strict=True)), unit="Bohr", spin=1, basis="def2-svp", verbose=0
    )
    field = dft.UKS(molecule, xc="HYB_GGA_XC_WB97X_D3").run()
    somo, lumo = HARTREE * field.mo_energy[0][4:6]  # five of nine electrons have α spin
    assert orbital_energies(elements, positions, engine="wb97x-d3/def2-svp") == pytest.approx((somo, lumo), abs=5e-3)
    # The unpaired electron is in the p orbital across the plane, far above the bonds.
    tight_binding = orbital_energies(elements, positions)
    assert tight_binding.homo > orbital_energies(elements, positions, charge=1).homo + 3.0
    assert orbital_energies(elements, positions, unpaired_electrons=1) == tight_binding


def test_conjugation_raises_the_homo_of_bithiophene_when_its_rings_are_in_one_plane():
    molecule = organic_molecule(BITHIOPHENE)
    elements = [atom.element.symbol for atom in molecule.topology.atoms()]
    (dihedral,) = find_atoms(BITHIOPHENE, "sc-!@cs")
    planar, twisted = (
        orbital_energies(elements, turn_dihedral(molecule, dihedral, np.radians(angle))) for angle in (160, 90)
    )
    assert planar.homo > twisted.homo + 0.2 and planar.gap < twisted.gap - 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "guess"}, "no engine 'guess'; choose one of gfn2-xtb, wb97x-d3/def2-svp"),
        ({"elements": ["O", "H", "W8"]}, "atom 2 is of no known element, 'W8'"),
        ({"elements": ["O", "H"]}, r"elements are of 2 atoms; give positions of shape \[frames, 2, 3\]"),
        ({"elements": None}, "need elements"),
        ({"unpaired_electrons": 1}, "1 of 10 electrons cannot be unpaired"),
        ({"charge": 1, "unpaired_electrons": 0}, "0 of 9 electrons cannot be unpaired"),
        ({"processes": 0}, "processes must be at least 1"),
    ],
)
def test_bad_input_is_refused_before_any_work(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        label_frames(stretched_water(2), tmp_path / "labels.h5", **{"elements": ELEMENTS, **options})
    assert list(tmp_path.iterdir()) == []


def test_every_frame_has_its_own_label_and_a_failure_is_recorded(client, tmp_path):
    frames = stretched_water(23)
    frames[7, 1] = frames[7, 0]  # two atoms in one place
    path = tmp_path / "labels.h5"
    labels = label_frames(frames, path, elements=ELEMENTS, client=client, progress=False)
    assert len(labels) == 23 and labels.waiting == 0
    assert labels.failures == {7: "TBLiteRuntimeError: Too close interatomic distances found"}
    assert np.flatnonzero(~labels.valid).tolist() == [7] and np.isnan(labels["gap"][7])
    for frame in (0, 6, 8, 22):
        exact = orbital_energies(ELEMENTS, frames[frame])
        assert (labels["homo"][frame], labels["lumo"][frame]) == pytest.approx(exact, abs=1e-9)
        assert labels["gap"][frame] == pytest.approx(exact.gap)
    assert labels.settings["engine"] == "gfn2-xtb" and labels.provenance["tblite"]
    with pytest.raises(KeyError, match="no labels 'dipole'; there are homo, lumo, gap"):
        labels["dipole"]
    assert len(Labels.read(path)) == 23


def test_labels_belong_to_their_frames_and_settings(client, tmp_path):
    frames, path = stretched_water(3), tmp_path / "labels.h5"
    label_frames(frames, path, elements=ELEMENTS, client=client, progress=False)
    content = path.read_bytes()
    for changed, options, name in (
        (frames * 1.01, {}, "positions"),
        (frames[:2], {}, "frames"),
        (frames, {"charge": 1}, "charge"),
        (frames, {"engine": "wb97x-d3/def2-svp"}, "engine"),
    ):
        with pytest.raises(ValueError, match=f"labels with other inputs .*{name}"):
            label_frames(changed, path, elements=ELEMENTS, client=client, progress=False, **options)
    assert path.read_bytes() == content
    stranger = tmp_path / "stranger.h5"
    h5py.File(stranger, "w").close()
    with pytest.raises(ValueError, match="is not a file of labels"):
        label_frames(frames, stranger, elements=ELEMENTS, client=client)
    with pytest.raises(FileNotFoundError, match="there are no labels"):
        Labels.read(tmp_path / "nothing.h5")


def test_frames_come_from_sampling_and_from_other_programs(client, tmp_path):
    molecule = organic_molecule("O")
    path = tmp_path / "water.h5md"
    options = {"time_step": 0.001, "platform": "Reference", "progress": False}
    sample(molecule.system, molecule.topology, molecule.positions, path, frames=3, interval=0.01, **options)
    ours = label_frames(path, tmp_path / "a.h5", client=client, progress=False)
    with Frames(path) as frames:
        trajectory = mdtraj.Trajectory(frames.positions[:], mdtraj.Topology.from_openmm(molecule.topology))
    theirs = label_frames(trajectory, tmp_path / "b.h5", client=client, progress=False)
    np.testing.assert_array_equal(ours["homo"], theirs["homo"])
    assert np.ptp(ours["homo"]) > 0
    # Wrapped into a box, with an atom on the other side of it.
    trajectory.xyz -= trajectory.xyz[:, 1:2]
    trajectory.xyz %= 1.0
    trajectory.unitcell_lengths, trajectory.unitcell_angles = np.ones((3, 3)), np.full((3, 3), 90.0)
    assert np.ptp(trajectory.xyz, axis=1).max(axis=1).min() > 0.5
    wrapped = label_frames(trajectory, tmp_path / "c.h5", client=client, progress=False)
    np.testing.assert_allclose(wrapped["homo"], ours["homo"], atol=1e-4)
    trajectory.topology = mdtraj.Topology.from_openmm(with_bonds(molecule.topology, []))
    with pytest.raises(ValueError, match="the atoms are .* not joined by bonds"):
        label_frames(trajectory, tmp_path / "d.h5", client=client, progress=False)


LABEL = """
import os, signal
import numpy as np
from openmmcg.reference import label_frames
from openmmcg.reference.quantum import labels

write = labels.LabelFile.write

def write_and_die(file, frame, **record):
    write(file, frame, **record)
    if frame == 25:
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    labels.LabelFile.write = write_and_die
    label_frames(np.load({frames!r}), {path!r}, elements=["O", "H", "H"], processes=1, progress=False)
"""


def test_a_killed_run_goes_on_where_it_was(client, tmp_path):
    frames, path = stretched_water(60), tmp_path / "labels.h5"
    np.save(tmp_path / "frames.npy", frames)
    (tmp_path / "program.py").write_text(LABEL.format(frames=str(tmp_path / "frames.npy"), path=str(path)))
    assert subprocess.run([sys.executable, tmp_path / "program.py"]).returncode == -signal.SIGKILL
    before = Labels.read(path)
    assert before.valid.sum() == 26 and before.waiting == 34 and not before.failures
    labels = label_frames(frames, path, elements=ELEMENTS, client=client, progress=False)
    assert labels.waiting == 0 and labels.valid.all()
    np.testing.assert_array_equal(labels["homo"][before.valid], before["homo"][before.valid])
    # The HOMO rises as the bonds get longer, in every frame.
    assert (np.diff(labels["homo"]) > 0).all()
    # Nothing is left to do, so nothing is started.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labelling, "_connected", lambda *_: pytest.fail("there is nothing to compute"))
        assert label_frames(frames, path, elements=ELEMENTS, progress=False).waiting == 0


def fatal_chunk(engine, numbers, charge, unpaired, positions):
    """Ends its process at long bonds, as a program that runs out of memory does."""
    if np.linalg.norm(positions[:, 1] - positions[:, 0], axis=1).max() > 0.5:
        os._exit(1)
    return compute_chunk(engine, numbers, charge, unpaired, positions)


def test_a_frame_that_ends_its_process_is_recorded_and_takes_no_other_along(tmp_path, monkeypatch):
    frames = stretched_water(2)
    frames[0] *= 10
    monkeypatch.setattr(labelling, "compute_chunk", fatal_chunk)
    labels = label_frames(frames, tmp_path / "labels.h5", elements=ELEMENTS, processes=1, progress=False)
    assert labels.failures == {0: "the process was killed while it computed this frame"}
    assert labels.valid.tolist() == [False, True]


def test_workers_with_several_threads_are_refused(tmp_path):
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster,
        pytest.raises(ValueError, match="have several threads; start them with --nthreads 1"),
    ):
        label_frames(
            WATER[None], tmp_path / "labels.h5", elements=ELEMENTS, client=cluster.scheduler_address, progress=False
        )


def test_the_data_are_made_and_made_again_at_no_cost(tmp_path):
    program = Path(__file__).resolve().parents[1] / "benchmarks" / "bithiophene_data.py"
    options = "--molecule tempo --frames 6 --runs 2 --interval 0.05 --equilibration 0.1 --processes 1"
    for _ in range(2):
        subprocess.run([sys.executable, program, tmp_path / "tempo", *options.split()], check=True, capture_output=True)
    labels = Labels.read(tmp_path / "tempo" / "train_labels.h5")
    assert len(labels) == 6 and labels.valid.all() and labels.settings["unpaired_electrons"] == 1
    # The unpaired electron of a nitroxide: far above the bonds, and not the same in each frame.
    assert -10.5 < labels["homo"].mean() < -7.5 and np.ptp(labels["homo"]) > 0.01
    assert json.loads((tmp_path / "tempo" / "summary.json").read_text())["train"]["frames"] == 6
