"""Models of other packages in OpenMM: the same numbers as in their own calculators, and the time of a step.

    scripts/setup_external.sh
    python benchmarks/external_models.py --json benchmarks/results/external_models.json

Each package makes a small untrained model of two kinds of beads, which is imported by `openmmcg.potentials.external`
and compared, in a cubic and in a triclinic box and without one, with what the package's own calculator gives for it.
Then 200 steps of Langevin dynamics are run, eight replicas are compared with single systems, and steps are timed,
beside our own SchNet and PaiNN. Each package has an environment of its own, because not all of them can live together
(``scripts/setup_external.sh`` makes them in ``build/external``), and a process of its own, with one thread.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
import typing
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import openmm
import torch
from md_water import liquid as cubic_liquid
from md_water import processor, versions
from openmm import app, unit

from openmmcg.potentials import CGPotential, PaiNN, Repulsion, SchNet, external
from openmmcg.progress import tqdm

FOLDER = Path(__file__).resolve().parents[1] / "build" / "external"
CUTOFF = 5.0  # Å
EV = 96.48533212331  # kJ/mol
KINDS = [("A", 18.0), ("B", 20.0)]
NUMBERS = [1, 8]  # what packages that know elements call them

#: Distributions whose versions are told.
NAMES = {
    "nequip": ("nequip", "nequip-allegro"),
    "deepmd": ("deepmd-kit",),
    "mace": ("mace-torch",),
    "torchmd_net": ("torchmd-net",),
    "schnetpack": ("schnetpack",),
    "metatomic": ("metatomic-torch",),
}

#: Energy (eV) and forces (eV/Å) ``[N, 3]`` of positions (Å), a box (Å) or None, and bead types.
Calculator = Callable[[np.ndarray, "np.ndarray | None", np.ndarray], "tuple[float, np.ndarray]"]


def nequip(dtype: str) -> Iterator[tuple[str, CGPotential, Calculator]]:
    from allegro.model import AllegroModel
    from nequip.data import AtomicDataDict, compute_neighborlist_, from_dict
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    set_global_state()
    shared = {"seed": 1, "model_dtype": dtype, "type_names": ["A", "B"], "r_max": CUTOFF, "avg_num_neighbors": 20.0}
    models = {
        "NequIP": NequIPGNNModel(**shared, num_layers=2, l_max=1, num_features=16),
        "Allegro": AllegroModel(
            **shared,
            num_layers=1,
            l_max=1,
            num_scalar_features=32,
            num_tensor_features=8,
            radial_chemical_embed={"_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "num_bessels": 8},
        ),
    }

    for name, model in models.items():

        def calculate(positions, box, types, model=model):
            data = {"pos": torch.tensor(positions), "atom_types": torch.tensor(types)}
            data["pbc"] = torch.tensor([box is not None] * 3)
            if box is not None:
                data["cell"] = torch.tensor(box)
            out = model(compute_neighborlist_(from_dict(data), r_max=CUTOFF))
            return out[AtomicDataDict.TOTAL_ENERGY_KEY].item(), out[AtomicDataDict.FORCE_KEY].detach().numpy()

        yield name, external.from_nequip(model, masses=dict(KINDS)), calculate


def deepmd(dtype: str) -> Iterator[tuple[str, CGPotential, Calculator]]:
    import deepmd.pt  # noqa: F401
    from deepmd.pt.model.model import get_model

    torch.set_default_device("cpu")
    descriptor = {"type": "se_e2_a", "sel": [60, 60], "rcut": CUTOFF, "rcut_smth": 0.5, "neuron": [8, 16, 32]}
    fitting = {"neuron": [32, 32, 32], "seed": 1, "precision": dtype}
    descriptor |= {"axis_neuron": 4, "seed": 1, "precision": dtype}
    model = get_model({"type_map": ["A", "B"], "descriptor": descriptor, "fitting_net": fitting}).eval()

    def calculate(positions, box, types):
        cell = None if box is None else torch.tensor(box).view(1, 9)
        out = model(torch.tensor(positions).unsqueeze(0), torch.tensor(types).unsqueeze(0), cell)
        return out["energy"].item(), out["force"][0].detach().numpy()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frozen.pth"
        torch.jit.save(torch.jit.script(model), path)
        yield "DeePMD se_e2_a", external.from_deepmd(path, masses=dict(KINDS)), calculate


def mace(dtype: str) -> Iterator[tuple[str, CGPotential, Calculator]]:
    from ase import Atoms
    from mace import data, modules, tools
    from mace.tools import torch_geometric

    o3 = modules.blocks.o3  # e3nn's

    torch.set_default_dtype(getattr(torch, dtype))
    torch.manual_seed(0)
    interaction = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = modules.ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=6,
        max_ell=2,
        interaction_cls=interaction,
        interaction_cls_first=interaction,
        num_interactions=2,
        num_elements=2,
        hidden_irreps=o3.Irreps("16x0e + 16x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.array([1.0, 2.0]),
        avg_num_neighbors=20.0,
        atomic_numbers=NUMBERS,
        correlation=2,
        radial_type="bessel",
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )

    def calculate(positions, box, types):
        atoms = Atoms([NUMBERS[kind] for kind in types], positions, cell=box, pbc=box is not None)
        config = data.config_from_atoms(atoms)
        graph = data.AtomicData.from_config(config, z_table=tools.AtomicNumberTable(NUMBERS), cutoff=CUTOFF)
        out = model(next(iter(torch_geometric.dataloader.DataLoader([graph], batch_size=1))).to_dict())
        return out["energy"].item(), out["forces"].detach().numpy()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trained.model"
        torch.save(model, path)
        yield "MACE", external.from_mace(path, bead_types=KINDS, types=NUMBERS), calculate


def torchmd_net(dtype: str) -> Iterator[tuple[str, CGPotential, Calculator]]:
    from torchmdnet.models.model import create_model

    settings = {
        "embedding_dimension": 32,
        "num_layers": 2,
        "num_rbf": 16,
        "rbf_type": "expnorm",
        "trainable_rbf": False,
        "activation": "silu",
        "attn_activation": "silu",
        "num_heads": 4,
        "distance_influence": "both",
        "equivariance_invariance_group": "O(3)",
        "neighbor_embedding": True,
        "aggr": "add",
        "cutoff_lower": 0.0,
        "cutoff_upper": CUTOFF,
        "max_z": 10,
        "max_num_neighbors": 64,
        "derivative": True,
        "output_model": "Scalar",
        "reduce_op": "sum",
        "prior_model": None,
        "atom_filter": -1,
        "precision": 64 if dtype == "float64" else 32,
    }
    for kind in ("graph-network", "equivariant-transformer", "tensornet"):
        torch.manual_seed(0)
        model = create_model({**settings, "model": kind})

        def calculate(positions, box, types, model=model):
            cell = None if box is None else torch.tensor(box, dtype=getattr(torch, dtype))
            places = torch.tensor(positions, dtype=getattr(torch, dtype))
            energy, forces = model(torch.tensor(np.array(NUMBERS)[types]), places, box=cell)
            return energy.item(), forces.detach().numpy()

        yield f"TorchMD-Net {kind}", external.from_torchmd_net(model, bead_types=KINDS, types=NUMBERS), calculate


def schnetpack(dtype: str) -> Iterator[tuple[str, CGPotential, Calculator]]:
    import torch.utils.data.dataloader as dataloader

    # schnetpack 2.1 imports a name that torch no longer has.
    dataloader.T_co = typing.TypeVar("T_co", covariant=True)
    import schnetpack as spk
    import schnetpack.transform as transform
    from ase import Atoms

    convert = spk.interfaces.AtomsConverter(
        neighbor_list=transform.MatScipyNeighborList(cutoff=CUTOFF), dtype=getattr(torch, dtype)
    )
    for kind in ("SchNet", "PaiNN"):
        torch.manual_seed(0)
        representation = getattr(spk.representation, kind)(
            n_atom_basis=32,
            n_interactions=2,
            radial_basis=spk.nn.GaussianRBF(n_rbf=16, cutoff=CUTOFF),
            cutoff_fn=spk.nn.CosineCutoff(CUTOFF),
        )
        model = spk.model.NeuralNetworkPotential(
            representation=representation,
            input_modules=[spk.atomistic.PairwiseDistances()],
            output_modules=[spk.atomistic.Atomwise(n_in=32, output_key="energy"), spk.atomistic.Forces()],
            postprocessors=[transform.CastTo64()],
        )
        model = model.to(getattr(torch, dtype)).eval()

        def calculate(positions, box, types, model=model):
            atoms = Atoms([NUMBERS[kind] for kind in types], positions, cell=box, pbc=box is not None)
            out = model(convert(atoms))
            return out["energy"].item(), out["forces"].detach().numpy()

        yield f"SchNetPack {kind}", external.from_schnetpack(model, bead_types=KINDS, types=NUMBERS), calculate


def metatomic(dtype: str) -> Iterator[tuple[str, CGPotential, Calculator]]:
    from ase import Atoms
    from metatomic.torch import AtomisticModel, ModelCapabilities, ModelMetadata, ModelOutput
    from metatomic_ase import MetatomicCalculator
    from metatomic_module import Pairs  # beside this file: TorchScript wants its annotations resolved

    for full in (True, False):
        capabilities = ModelCapabilities(
            outputs={"energy": ModelOutput(unit="eV")},
            atomic_types=NUMBERS,
            interaction_range=CUTOFF,
            length_unit="angstrom",
            supported_devices=["cpu"],
            dtype=dtype,
        )
        model = AtomisticModel(Pairs(CUTOFF, full).eval(), ModelMetadata(), capabilities)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.pt"
            model.save(str(path))

            def calculate(positions, box, types, path=path):
                atoms = Atoms([NUMBERS[kind] for kind in types], positions, cell=box, pbc=box is not None)
                atoms.calc = MetatomicCalculator(path, device="cpu")
                return atoms.get_potential_energy(), atoms.get_forces()

            name = f"metatomic, {'full' if full else 'half'} list"
            yield name, external.from_metatomic(path, bead_types=KINDS, types=NUMBERS), calculate


def ours(dtype: str) -> Iterator[tuple[str, CGPotential, None]]:
    """Networks that run natively, of the sizes of `benchmarks/md_water.py`."""
    for name, network in (("SchNet", SchNet), ("PaiNN", PaiNN)):
        yield f"native {name}", CGPotential(network(2, channels=32, blocks=2, cutoff=CUTOFF / 10), KINDS), None


PACKAGES = {f.__name__: f for f in (ours, nequip, deepmd, mace, torchmd_net, schnetpack, metatomic)}


def liquid(beads: int, shape: str) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Positions (nm), box and types of beads at the density of water, on a lattice that has been shaken."""
    positions, box = cubic_liquid(beads)
    if shape == "triclinic":
        fractions, width = positions / box[0, 0], box[0, 0]
        box[1, 0], box[2, 0], box[2, 1] = -0.4 * width, 0.3 * width, -0.2 * width
        positions = fractions @ box
    types = np.random.default_rng(0).permutation(np.arange(beads) % 2)
    return positions, None if shape == "none" else box, types


def context_of(potential, positions, box, types, replicas=1, platform="CPU", integrator=None, engine="auto"):
    topology = app.Topology()
    chain = topology.addChain()
    for kind in types:
        topology.addAtom("AB"[kind], None, topology.addResidue("BEA", chain))
    if box is not None:
        topology.setPeriodicBoxVectors(box * unit.nanometer)
    system = potential.create_system(topology, replicas=replicas, engine=engine)
    properties = {"Threads": "1"} if platform == "CPU" else {}
    chosen = openmm.Platform.getPlatformByName(platform)
    context = openmm.Context(system, integrator or openmm.VerletIntegrator(0.001), chosen, properties)
    context.setPositions(positions)
    return context


def forces_of(context) -> tuple[float, np.ndarray]:
    state = context.getState(energy=True, forces=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def compare(potential: CGPotential, calculate: Calculator, beads: int, platform: str, engine: str) -> dict[str, float]:
    """Largest relative differences from the package's own calculator, over all shapes of boxes."""
    energies, forces = [], []
    for shape in ("none", "cubic", "triclinic"):
        positions, box, types = liquid(beads, shape)
        moved = positions if box is None else positions + np.random.default_rng(1).integers(-2, 3, (beads, 3)) @ box
        energy, force = forces_of(context_of(potential, moved, box, types, platform=platform, engine=engine))
        true_energy, true_force = calculate(10 * positions, None if box is None else 10 * box, types)
        energies.append(abs(energy / EV - true_energy) / abs(true_energy))
        forces.append(np.abs(force / EV / 10 - true_force).max() / np.abs(true_force).max())
    return {"energy": max(energies), "forces": max(forces)}


def tame(potential: CGPotential, beads: int) -> CGPotential:
    """An untrained potential with forces of a liquid's size."""
    size = forces_of(context_of(potential, *liquid(beads, "cubic")))[1].std()
    return potential.scaled(30.0 / size)


def compare_replicas(potential: CGPotential, beads: int, replicas: int = 8) -> float:
    """Largest relative difference of the forces of replicas from those of single systems, on the Reference platform."""
    positions, box, types = liquid(beads, "cubic")
    random = np.random.default_rng(2)
    copies = positions + random.normal(0, 0.01, (replicas, beads, 3))
    together = forces_of(context_of(potential, copies.reshape(-1, 3), box, types, replicas, "Reference"))[1]
    alone = np.concatenate([forces_of(context_of(potential, c, box, types, 1, "Reference"))[1] for c in copies])
    return float(np.abs(together - alone).max() / np.abs(alone).max())


def run(potential: CGPotential, beads: int, steps: int) -> tuple[float, float]:
    """Temperature (K) after some steps of 2 fs at 300 K, and the time of one (ms)."""
    integrator = openmm.LangevinMiddleIntegrator(300, 20, 0.002)
    context = context_of(potential, *liquid(beads, "cubic"), integrator=integrator)
    context.setVelocitiesToTemperature(300, 1)
    integrator.step(2)
    began = time.perf_counter()
    integrator.step(steps)
    kinetic = context.getState(energy=True).getKineticEnergy()._value  # waits for the steps
    elapsed = 1000 * (time.perf_counter() - began) / steps
    return kinetic / (1.5 * beads * 0.00831446), elapsed


def measure(package: str, dtype: str, beads: int, steps: int, sizes: list[int]) -> list[dict]:
    """What there is to say of one package's models."""
    rows = []
    for name, potential, calculate in PACKAGES[package](dtype):
        row: dict = {"model": name, "dtype": dtype}
        if calculate is not None:
            row["relative error"] = compare(potential, calculate, beads, "Reference", "torchscript")
            if potential.compile() is not None:
                row["relative error, native"] = compare(potential, calculate, beads, "CPU", "native")
        gentle = tame(potential, beads)
        apart = gentle.with_priors([Repulsion([[0.25, 0.25], [0.25, 0.25]])])  # beads that stay so
        row["replicas"] = compare_replicas(apart, beads)
        row["temperature"], _ = run(apart, beads, steps)
        row["ms per step"] = {str(size): round(run(gentle, size, 5 if calculate else 50)[1], 3) for size in sizes}
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", nargs="+", choices=list(PACKAGES), default=list(PACKAGES))
    parser.add_argument("--dtypes", nargs="+", choices=["float64", "float32"], default=["float64", "float32"])
    parser.add_argument("--beads", type=int, default=512, help="of the comparisons")
    parser.add_argument("--steps", type=int, default=200, help="of the dynamics")
    parser.add_argument("--sizes", type=int, nargs="*", default=[512, 3916], help="beads of which steps are timed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # in this process, which is its own
    options = parser.parse_args()
    if options.here:
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        rows = measure(options.packages[0], options.dtypes[0], options.beads, options.steps, options.sizes)
        print("\n" + json.dumps(rows))
        return
    rows = []
    jobs = [(package, dtype) for package in options.packages for dtype in options.dtypes]
    for package, dtype in tqdm(
        [job for job in jobs if job != ("ours", "float64") or len(options.dtypes) == 1], "models"
    ):
        folder = FOLDER / package
        if package != "ours" and not folder.is_dir():
            raise SystemExit(f"{folder} is missing: run scripts/setup_external.sh {package}")
        python = sys.executable if package == "ours" else str(folder / "bin" / "python")
        command = [python, __file__, "--here", "--packages", package, "--dtypes", dtype]
        command += ["--beads", str(options.beads), "--steps", str(options.steps)]
        command += ["--sizes", *map(str, options.sizes)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENMM_CPU_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"{package} in {dtype} failed:\n{done.stderr[-3000:]}")
        installed = importlib.metadata.distributions(path=[str(path) for path in folder.glob("lib/*/site-packages")])
        found = {d.metadata["Name"].lower(): d.version for d in installed}
        for row in json.loads(done.stdout.splitlines()[-1]):
            rows.append({"package": package, "versions": {k: found[k] for k in NAMES.get(package, ())}, **row})
            print(json.dumps(rows[-1]), flush=True)
    if options.json:
        from openmmcg.state import write_json

        write_json(options.json, {"machine": processor(), "versions": versions(), "rows": rows})


if __name__ == "__main__":
    main()
