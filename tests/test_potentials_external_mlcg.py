"""Models of mlcg: what it computed in float64, by both engines; and files that would run something."""

import io
import lzma
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from conftest import GPU_PLATFORMS, Case, difference, energy_and_forces
from scipy.interpolate import BSpline

from openmmcg import CGPotential
from openmmcg.external import from_mlcg
from openmmcg.frames import Frames
from openmmcg.potentials import MoleculePrior, PriorForces
from openmmcg.potentials.compiled import tabulate
from openmmcg.potentials.external.archives import Inert, read_archive
from openmmcg.potentials.external.mlcg import NAMES
from openmmcg.potentials.external.mlcg_networks import convert_network
from openmmcg.potentials.external.mlcg_priors import convert_prior
from openmmcg.potentials.external.radial import CosineWindow, TrainedExponentialBasis
from openmmcg.potentials.networks import Filter

DATA = Path(__file__).parent / "data" / "mlcg"
KCAL, ANGSTROM = 4.184, 0.1
PRIORS = ("bonds", "angles", "dihedrals", "non_bonded")
NATIVE = [Case("CPU", 1), *map(Case, GPU_PLATFORMS)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlcg")
    for name in ("schnet_ca", "painn_5b"):
        (folder / f"{name}.pt").write_bytes(lzma.decompress((DATA / f"{name}.pt.xz").read_bytes()))
    return folder


@pytest.fixture(scope="module")
def schnet(files):
    return from_mlcg(files / "schnet_ca.pt", temperature=350)


@pytest.fixture(scope="module")
def painn(files):
    return from_mlcg(files / "painn_5b.pt", temperature=350)


def reference(name):
    """Configurations in nm, and energies and forces by their names, in kJ/mol and nm."""
    values = np.load(DATA / f"{name}.npz")
    units = {"energy": KCAL, "forces": KCAL / ANGSTROM}
    return ANGSTROM * values["positions"].astype(float), {
        key: values[key] * units[key.split("_")[0]] for key in values.files if key not in ("positions", "kind")
    }


def computed(model, positions, case, engine="native"):
    """Energies and forces of each force by its name, and of all."""
    system = model.potential.create_system(model.topology, engine=engine, remove_center_of_mass_motion=False)
    names = ["network" if force.getName() == "CGForce" else force.getName() for force in system.getForces()]
    for group, force in enumerate(system.getForces()):
        force.setForceGroup(group)
    context, found = case.context(system, positions[0]), {}
    for places in positions:
        context.setPositions(places)
        for groups, name in [(-1, ""), *((1 << group, f"_{name}") for group, name in enumerate(names))]:
            energy, forces = energy_and_forces(context, groups)
            found.setdefault(f"energy{name}", []).append(energy)
            found.setdefault(f"forces{name}", []).append(forces)
    return {name: np.array(values) for name, values in found.items()}


def test_a_schnet_gives_what_mlcg_gives_in_float64(schnet):
    positions, expected = reference("schnet_ca")
    found = computed(schnet, positions, Case("Reference"), "torchscript")
    for name, values in expected.items():
        assert difference(found[name], values) < 1e-13, name
    for forces, values in zip(found["forces_network"], expected["forces_network"], strict=True):
        assert difference(forces, values) < 1e-13


@pytest.mark.parametrize("case", NATIVE, ids=str)
def test_a_schnet_runs_natively_in_single_precision(schnet, case):
    positions, expected = reference("schnet_ca")
    found = computed(schnet, positions, case)
    assert difference(found["forces_network"], expected["forces_network"]) < 2e-5
    assert difference(found["forces"], expected["forces"]) < 1e-5
    assert found["energy_network"] == pytest.approx(expected["energy_network"], rel=3e-6)


@pytest.mark.parametrize("name", ["schnet_ca", "painn_5b"])
def test_each_prior_gives_what_mlcg_gives(name, request):
    positions, expected = reference(name)
    found = computed(request.getfixturevalue(name.split("_")[0]), positions, Case("Reference"))
    for prior in PRIORS:
        for quantity in ("energy", "forces"):
            key = f"{quantity}_{prior}"
            for value, right in zip(found[key], expected[key], strict=True):
                assert difference(value, right) < 1e-12, key


def network_in(path):
    """What the file says of its network."""
    models, _ = read_archive(path, NAMES)
    return next(iter(models["models"]["_modules"].values()))["model"]


def types_in(path):
    return read_archive(path, NAMES)[1][0]["_store"]["_mapping"]["atom_types"]


def painn_energy(model, positions, types):
    """The energy in kcal/mol of positions in Å, by the equations of mlcg's PaiNN, over all ordered pairs."""

    def linear(x, layer):
        y = x @ torch.tensor(layer["weight"]).double().T
        return y if layer["bias"] is None else y + torch.tensor(layer["bias"]).double()

    def layers(x, modules):
        *hidden, last = [part for part in modules.state["_modules"].values() if part.kind == "Linear"]
        for layer in hidden:
            x = torch.tanh(linear(x, layer))
        return linear(x, last)

    basis, upper = model["rbf_layer"], model["rbf_layer"]["cutoff"]["cutoff_upper"]
    i, j = (~torch.eye(len(types), dtype=torch.bool)).nonzero().T
    between = positions[i] - positions[j]
    r = (between.square().sum(1) + 1e-16).sqrt() - 1e-8
    i, j, between, r = (x[r < upper] for x in (i, j, between, r))
    directions = between / r[:, None]
    decay = 0.5 * (torch.cos(torch.pi * r / upper) + 1)[:, None]
    means, betas = (torch.tensor(basis[name]).double() for name in ("means", "betas"))
    radial = decay * torch.exp(-betas * (torch.exp(-basis["alpha"] * r)[:, None] - means) ** 2)
    q = torch.tensor(model["embedding_layer"]["weight"]).double()[types]
    mu = torch.zeros(len(q), 3, q.shape[1], dtype=torch.float64)
    blocks = zip(*(model[n].state["_modules"].values() for n in ("interaction_blocks", "mixing_blocks")), strict=True)
    for message, mixing in blocks:
        x = layers(q, message["interatomic_context_net"])[j] * linear(radial, message["filter_network"]) * decay
        a, b, c = x.chunk(3, 1)
        q = q.index_add(0, i, a)
        mu = mu.index_add(0, i, b[:, None] * directions[:, :, None] + c[:, None] * mu[j])
        v, u = linear(mu, mixing["mu_channel_mix"]).chunk(2, 2)
        norms = (v.square().sum(1) + 1e-8).sqrt()
        a, b, c = layers(torch.cat([q, norms], 1), mixing["intraatomic_context_net"]).chunk(3, 1)
        q, mu = q + a + c * (u * v).sum(1), mu + b[:, None] * u
    return layers(q, model["output_network"]["layers"]).sum()


@pytest.fixture(scope="module")
def painn_forces(files):
    """Configurations in nm; energies and forces by the equations, in kJ/mol and nm."""
    model, types = network_in(files / "painn_5b.pt"), torch.tensor(types_in(files / "painn_5b.pt"))
    positions, _ = reference("painn_5b")
    energies, forces = [], []
    for places in positions:
        x = torch.tensor(places / ANGSTROM, requires_grad=True)
        energy = painn_energy(model, x, types)
        energies.append(KCAL * energy.item())
        forces.append(-KCAL / ANGSTROM * torch.autograd.grad(energy, x)[0].numpy())
    return positions, np.array(energies), np.array(forces)


@pytest.mark.parametrize("case", [Case("Reference"), *NATIVE], ids=str)
def test_a_painn_is_that_of_its_equations(painn, painn_forces, case):
    positions, energies, forces = painn_forces
    exact = case.is_double
    found = computed(painn, positions, case, "torchscript" if exact else "native")
    assert found["energy_network"] == pytest.approx(energies, rel=1e-12 if exact else 1e-5)
    for values, right in zip(found["forces_network"], forces, strict=True):
        assert difference(values, right) < (1e-12 if exact else 1e-5)


def test_molecule_and_structures_are_those_of_the_file(schnet, files):
    assert [bead.name for bead in schnet.topology.atoms()] == ["20", "20", "3", "13", "4", "17", "6", "17", "19", "20"]
    assert [tuple(bead.index for bead in bond) for bond in schnet.topology.bonds()] == [(i, i + 1) for i in range(9)]
    assert {kind.mass for kind in schnet.potential.bead_types} == {12.0}
    assert (schnet.potential.cutoff, schnet.potential.temperature) == (0.5, 350)
    data = read_archive(files / "schnet_ca.pt", NAMES)[1][1]["_store"]["_mapping"]
    second = from_mlcg(files / "schnet_ca.pt", structure=1)
    assert second.positions == pytest.approx(ANGSTROM * data["pos"])
    assert second.potential.prior_templates == schnet.potential.prior_templates
    with pytest.raises(ValueError, match="no structure 2; it has 2"):
        from_mlcg(files / "schnet_ca.pt", structure=2)


@pytest.mark.parametrize(
    ("name", "case"), [("schnet_ca", case) for case in NATIVE] + [("painn_5b", NATIVE[0])], ids=str
)
def test_replicas_are_single_runs_and_stay_whole(name, case, request):
    model = request.getfixturevalue(name.split("_")[0])
    positions = reference(name)[0][:2]
    single = computed(model, positions, case)
    system = model.potential.create_system(model.topology, replicas=2)
    integrator = openmm.LangevinMiddleIntegrator(350, 1, 0.004)
    integrator.setRandomNumberSeed(1)
    context = case.context(system, np.concatenate(positions), integrator)
    energy, forces = energy_and_forces(context)
    assert energy == pytest.approx(single["energy"].sum(), rel=1e-6)
    assert difference(forces.reshape(2, -1, 3), single["forces"]) < 1e-6
    context.setVelocitiesToTemperature(350, 1)
    integrator.step(200)
    places = context.getState(positions=True).getPositions(asNumpy=True)._value.reshape(positions.shape)
    for first, second in model.topology.bonds():
        lengths, before = (np.linalg.norm(x[:, first.index] - x[:, second.index], axis=1) for x in (places, positions))
        assert lengths == pytest.approx(before, rel=0.25)


def test_other_beads_are_refused(schnet):
    topology, potential = schnet.topology, schnet.potential
    names = [bead.name for bead in topology.atoms()]
    names[2:4] = names[3], names[2]
    with pytest.raises(ValueError, match="one molecule of the beads 20 20 3 13 .*has the beads 20 20 13 3 .*replicas="):
        potential.create_system(topology, types=names)
    with pytest.raises(ValueError, match="terms of the prior non_bonded are those of one molecule"):
        PriorForces(potential.priors, [0, 1, 2], [(0, 1), (1, 2)], periodic=False)


def test_the_saved_file_runs_without_torch(schnet, tmp_path):
    schnet.potential.save(tmp_path / "schnet.pt")
    loaded = CGPotential.load(tmp_path / "schnet.pt")
    assert all(isinstance(prior, MoleculePrior) for prior in loaded.priors)
    np.save(tmp_path / "positions.npy", schnet.positions)
    program = f"""
import sys
sys.modules["torch"] = None
import numpy, openmm
from openmmcg import CGPotential
from openmmcg.mapping import cg_topology
system = CGPotential.load("schnet.pt").create_system(cg_topology({[bead.name for bead in schnet.topology.atoms()]}))
context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
context.setPositions(numpy.load("positions.npy"))
print(context.getState(energy=True).getPotentialEnergy()._value)
"""
    output = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    here = computed(schnet, [schnet.positions], Case("Reference"))["energy"][0]
    assert float(output.stdout) == pytest.approx(here, rel=1e-9)


@pytest.mark.slow
def test_the_page_runs(files, tmp_path):
    page = (DATA.parents[2] / "docs" / "external_models.md").read_text()
    (program,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "from_mlcg" in block)
    (tmp_path / "chignolin_model_and_config.pt").write_bytes((files / "schnet_ca.pt").read_bytes())
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert CGPotential.load(tmp_path / "chignolin.pt").has_network
    assert [len(Frames(path)) for path in sorted(tmp_path.glob("cg.*.h5md"))] == [2] * 8


# Files that would run something, or are not what they should be


def archive_of(program, folder, compression=zipfile.ZIP_STORED, **entries):
    path = folder / "model.pt"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {"data.pkl": program, "data/0": bytes(40), **entries}.items():
            archive.writestr(f"model/{name}", content)
    return path


class Calls:
    """An object whose unpickling calls a function."""

    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (pickle.dumps(Calls(os.system, "touch ran")), r"'(posix|nt)\.system'"),
        (pickle.dumps(Calls(eval, "open('ran', 'w')"), protocol=4), r"'builtins\.eval'"),
        (pickle.dumps(Calls(getattr, 1, "real"), protocol=2), r"'builtins\.getattr'"),
        (b"cmlcg.nn.schnet\nAttentiveSchNet\n.", r"'mlcg\.nn\.schnet\.AttentiveSchNet'"),
        (b"cbuiltins\nset.__init__\n.", r"'builtins\.set\.__init__'"),
        (b"ctorch\nload\n.", r"'torch\.load'"),
        (b"\x82\x01.", "extension 1"),
    ],
)
def test_files_that_mention_anything_else_are_refused(program, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"model.pt' mentions .*{name}.* Nothing of the file was run"):
        from_mlcg(archive_of(program, tmp_path))
    assert not (tmp_path / "ran").exists()


def tensor(offset, size, stride, key="0", number=10, storage="FloatStorage"):
    """The pickle of a tensor in a storage of 40 bytes."""

    class Pickler(pickle._Pickler):
        def persistent_id(self, object):
            return object.called if isinstance(object, Identified) else None

    class Identified:
        called = ("storage", getattr(torch, storage), key, "cpu", number)

    buffer = io.BytesIO()
    arguments = (Identified(), offset, size, stride, False, None)
    Pickler(buffer, 2).dump(Calls(torch._utils._rebuild_tensor_v2, *arguments))
    return buffer.getvalue()


def test_tensors_are_read_as_they_lie_in_their_storage(tmp_path):
    numbers = np.arange(10, dtype="<f4")
    path = archive_of(tensor(1, (2, 3), (1, 2)), tmp_path, **{"data/0": numbers.tobytes()})
    assert read_archive(path, []).tolist() == [[1, 3, 5], [2, 4, 6]]


@pytest.mark.parametrize(
    ("program", "what"),
    [
        (tensor(0, (11,), (1,)), "beyond its storage"),
        (tensor(-1, (2,), (1,)), "beyond its storage"),
        (tensor(0, (2, 2), (1, 9)), "beyond its storage"),
        (tensor(0, (10**6, 10**6), (0, 0)), "beyond its storage"),
        (tensor(0, (1,), (1,), number=11), "has 10 float32, not 11"),
        (tensor(0, (1,), (1,), number=5, storage="HalfStorage"), "mentions 'torch.HalfStorage'"),
        (tensor(0, (1,), (1,), key="../data.pkl"), "is no storage"),
        (tensor(0, (1,), (1,), key="1"), "KeyError"),
        (b"r\xff\xff\xff\x7f.", "is damaged"),
        (b"ccollections\nOrderedDict\n(dX\x01\x00\x00\x00aNsb.", "is damaged"),
        (b"N.", "cannot be converted"),
        (b"}.", "cannot be converted"),
    ],
)
def test_files_that_make_no_sense_are_refused(program, what, tmp_path):
    with pytest.raises(ValueError, match=f"model.pt.*{what}"):
        from_mlcg(archive_of(program, tmp_path))


def test_damaged_and_other_files_are_refused(files, tmp_path):
    with pytest.raises(FileNotFoundError):
        from_mlcg(tmp_path / "none.pt")
    whole = (files / "painn_5b.pt").read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-100], whole[:5000] + b"\x00" + whole[5001:]):
        (tmp_path / "damaged.pt").write_bytes(content)
        with pytest.raises(ValueError, match="damaged.pt' is damaged, or no archive of torch.save"):
            from_mlcg(tmp_path / "damaged.pt")
    with pytest.raises(ValueError, match="compressed"):
        from_mlcg(archive_of(b"N.", tmp_path, zipfile.ZIP_DEFLATED))


def test_nothing_that_a_file_does_to_classes_outlives_it(tmp_path):
    change = b"cmlcg.nn.mlp\nMLP\n(N}X\x08\x00\x00\x00__init__K\x01stb."
    with pytest.raises(ValueError, match="is damaged"):
        from_mlcg(archive_of(change, tmp_path))
    assert callable(Inert.__init__)


# Options


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.state.update(self_interaction=True), "interact with themselves"),
        (lambda model: first_block(model)["conv"].state.update(aggr="mean"), "the 'mean' of what"),
        (lambda model: first_block(model)["conv"].state.update(flow="target_to_source"), "from target_to_source"),
        (
            lambda model: first_block(model).state["_modules"].update(norm=inert("LayerNorm")),
            "activation, conv, lin, norm",
        ),
        (lambda model: model["embedding_layer"].state.update(max_norm=1.0), "max_norm"),
        (lambda model: double(model["output_network"]["layers"]["4"]), "gives 2 numbers for each bead"),
        (
            lambda model: rename(first_block(model)["activation"], "ReLU"),
            "its activation is ReLU; ours can be Tanh, SiLU",
        ),
        (
            lambda model: first_block(model).state["_modules"].update(activation=inert("SiLU")),
            "activations .'silu', 'tanh'.",
        ),
        (lambda model: model["rbf_layer"]["cutoff"].state.update(cutoff_upper=-1.0), "cutoff"),
        (lambda model: model["rbf_layer"].state.pop("alpha"), "ExpNormalBasis has no 'alpha'"),
        (lambda model: rename(model, "AttentiveSchNet"), "its network is a AttentiveSchNet"),
    ],
)
def test_networks_with_options_that_ours_does_not_have_are_refused(change, message, files):
    model = network_in(files / "schnet_ca.pt")
    change(model)
    with pytest.raises(ValueError, match=message):
        convert_network(model, [3, 4])


def first_block(model):
    return model["interaction_blocks"]["0"]


def double(layer):
    layer.state["_parameters"]["weight"] = np.repeat(layer["weight"], 2, 0)


def rename(module, kind):
    type(module).name = f"torch.{kind}"


def test_radial_functions_between_two_cutoffs_are_those_of_their_formula():
    r, lower, upper, alpha = 2.5, 1.0, 4.0, 0.7
    means, betas = torch.tensor([0.1, 0.4]).double(), torch.tensor([3.0, 5.0]).double()
    window = 0.5 * (np.cos(np.pi * (2 * (r - lower) / (upper - lower) + 1)) + 1)
    expected = window * np.exp(-betas.numpy() * (np.exp(alpha * (lower - r)) - means.numpy()) ** 2)
    basis = TrainedExponentialBasis(CosineWindow(lower, upper, 10.0), lower, alpha, means, betas)
    assert basis(torch.tensor(0.25, dtype=torch.float64)).numpy() == pytest.approx(expected, rel=1e-12)
    outside = basis(torch.tensor([0.05, 0.45], dtype=torch.float64)).numpy()
    assert outside == pytest.approx(np.zeros((2, 2)), abs=1e-15)


def test_filters_that_begin_at_a_lower_cutoff_can_be_tabulated():
    torch.manual_seed(0)
    basis = TrainedExponentialBasis(
        CosineWindow(0.0, 5.0, 10.0), 1.0, 5 / 4, torch.linspace(0.01, 1, 30), torch.full((30,), 200.0)
    )
    filter = Filter(basis, CosineWindow(1.0, 5.0, 10.0), 4, "tanh", neighbors=1.0).double()
    places = torch.linspace(0.01, 0.49, 7).double()
    table = tabulate(filter, 0.5)
    cells = len(table) - 3
    spline = BSpline(np.arange(-3.0, cells + 4.0) * (0.5 / cells), table, 3)
    assert difference(spline(places.numpy()), filter(places).detach().numpy()) < 1e-6


def inert(kind, **arrays):
    prior = type(kind, (Inert,), {"name": f"mlcg.{kind}"})()
    prior.state = {"_buffers": {name: np.asarray(values, np.float32) for name, values in arrays.items()}}
    return prior


def of_types(value, types, order, degrees=None):
    """A table by types that holds `value` for the types of the beads in this order."""
    shape = (4,) * order
    table = np.zeros(shape if degrees is None else (degrees, *shape))
    table[(..., *types[:order])] = value
    return table


R, THETA, PHI = 4.5, 1.9, -2.2


@pytest.mark.parametrize(
    ("kind", "order", "arrays", "energy"),
    [
        ("HarmonicBonds", 2, {"x_0": 4.0, "k": 3.0}, 3 * (R - 4) ** 2),
        ("GeneralBonds", 2, {"x_0": 4.0, "k": 3.0}, 3 * (R - 4) ** 2),
        ("GeneralAngles", 3, {"x_0": -0.25, "k": 3.0}, 3 * (np.cos(THETA) + 0.25) ** 2),
        ("HarmonicAngles", 3, {"x_0": -0.25, "k": 3.0}, 3 * (np.cos(THETA) + 0.25) ** 2),
        (
            "QuarticAngles",
            3,
            {"ks": [1.0, -2.0, 0.5, 4.0], "v_0": 7.0},
            7 + np.polyval([4, 0.5, -2, 1, 0], np.cos(THETA)),
        ),
        (
            "Dihedral",
            4,
            {"k1s": [1.0, -2.0], "k2s": [0.5, 4.0], "v_0": 7.0},
            7 + np.sin(PHI) - 2 * np.sin(2 * PHI) + 0.5 * np.cos(PHI) + 4 * np.cos(2 * PHI),
        ),
        ("Repulsion", 2, {"sigma": 4.0}, (4 / R) ** 6),
        ("RepulsionBuckMod", 2, {"r_0": 4.0, "alpha": 8.0}, 6 / 8 * np.exp(8 * (1 - R / 4))),
    ],
)
def test_priors_by_types_are_those_of_their_formulas(kind, order, arrays, energy):
    types = np.array([2, 0, 3, 1])
    sizes = {"ks": 4, "k1s": 2, "k2s": 2}
    tables = {
        name: of_types(np.reshape(value, (-1, *[1] * 0)) if name in sizes else value, types, order, sizes.get(name))
        for name, value in arrays.items()
    }
    force = convert_prior(inert(kind, **tables), np.arange(order)[None], types, 0, kind)
    # Four beads with the length R of the first bond, the angle THETA and the dihedral PHI.
    z = -np.cos(THETA)
    first = R * np.array([-np.sin(THETA), 0, -z])
    last = np.array([0, 0, 4.0]) + 3.0 * np.array([-np.cos(PHI), -np.sin(PHI), 0])
    places = ANGSTROM * np.array([first, [0, 0, 0], [0, 0, 4.0], last])
    system = openmm.System()
    for _ in range(4):
        system.addParticle(1.0)
    system.addForce(force)
    assert energy_and_forces(Case("Reference").context(system, places))[0] == pytest.approx(KCAL * energy, rel=1e-6)
