"""Models of mlcg as potentials that the native engine runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from openmm import app

from openmmcg.mapping import cg_topology
from openmmcg.mapping.topology import with_bonds
from openmmcg.optional import optional_imports
from openmmcg.potentials.external.archives import Inert, read_archive
from openmmcg.potentials.external.mlcg_priors import KINDS, are_bonds, convert_prior
from openmmcg.potentials.external.units import length_in_nm
from openmmcg.potentials.potential import CGPotential
from openmmcg.potentials.priors import MoleculePrior

_ANGSTROM = length_in_nm("angstrom")
_AMU = 418.4  # mlcg's masses, in kcal/mol ps²/Å², are in units of 1/418.4 amu

# What files of mlcg mention.
NAMES = (
    "mlcg.data.atomic_data.AtomicData",
    "mlcg.nn.cutoff.CosineCutoff",
    "mlcg.nn.gradients.GradientsOut",
    "mlcg.nn.gradients.SumOut",
    "mlcg.nn.mlp.MLP",
    "mlcg.nn.painn.PaiNNInteraction",
    "mlcg.nn.painn.PaiNNMixing",
    "mlcg.nn.painn.StandardPaiNN",
    "mlcg.nn.prior.fourier_series.Dihedral",
    "mlcg.nn.prior.harmonic.GeneralAngles",
    "mlcg.nn.prior.harmonic.GeneralBonds",
    "mlcg.nn.prior.harmonic.HarmonicAngles",
    "mlcg.nn.prior.harmonic.HarmonicBonds",
    "mlcg.nn.prior.polynomial.QuarticAngles",
    "mlcg.nn.prior.repulsion.Repulsion",
    "mlcg.nn.prior.repulsion.RepulsionBuckMod",
    "mlcg.nn.radial_basis.exp_normal.ExpNormalBasis",
    "mlcg.nn.schnet.CFConv",
    "mlcg.nn.schnet.InteractionBlock",
    "mlcg.nn.schnet.StandardSchNet",
    *(f"mlcg.simulation.specialize_prior.{kind}" for kind in KINDS if kind.startswith("Static")),
    "torch.Tensor",
    "torch.nn.modules.activation.SiLU",
    "torch.nn.modules.activation.Tanh",
    "torch.nn.modules.container.ModuleDict",
    "torch.nn.modules.container.ModuleList",
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.linear.Linear",
    "torch.nn.modules.sparse.Embedding",
    # What PyTorch Geometric keeps about its convolutions and data.
    "_codecs.encode",
    "_operator.getitem",
    "builtins.long",
    "builtins.type",
    "inspect.Parameter",
    "inspect._ParameterKind",
    "inspect._empty",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "torch_geometric.data.storage.GlobalStorage",
    "torch_geometric.inspector.Inspector",
    "torch_geometric.inspector.Parameter",
    "torch_geometric.inspector.Signature",
    "torch_geometric.nn.aggr.basic.SumAggregation",
    "typing.OrderedDict",
    "typing.Union",
)


class ImportedModel(NamedTuple):
    """A model and the molecule that it is of.

    Attributes
    ----------
    potential : CGPotential
        Network and priors; its bead types are named by the numbers they have in mlcg.
    topology : openmm.app.Topology
        The molecule's beads and bonds; each bead is a residue, since the file does not tell more.
    positions : array [N, 3]
        nm
    """

    potential: CGPotential
    topology: app.Topology
    positions: NDArray[np.float64]


def from_mlcg(path: str | os.PathLike[str], *, structure: int = 0, temperature: float | None = None) -> ImportedModel:
    """A model of mlcg, from the ``…_model_and_config.pt`` with which mlcg's simulations begin.

    The network, a ``StandardSchNet`` or ``StandardPaiNN``, becomes one of ours and runs natively; the priors become
    OpenMM forces whose terms are those of the molecule in the file (`openmmcg.potentials.MoleculePrior`). Å and
    kcal/mol become nm and kJ/mol. Neither mlcg nor PyTorch Geometric need be installed, and nothing of the file is run:
    it is read by the names that are expected in it.

    Parameters
    ----------
    path
        The file: sum of models, and list of structures.
    structure
        Which structure of the list the molecule is, and its positions.
    temperature
        Of the training data, K, which the file does not tell.

    Returns
    -------
    ImportedModel
        Potential, topology and positions.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is truncated, corrupted or another one, mentions what is not expected in it, or the model has an option
        that ours does not have; or there is no such structure.

    Notes
    -----
    By ``engine="torchscript"`` on the Reference platform, forces are those of mlcg in float64 to all digits; natively
    to those of single precision, 1e-5 of their size. There is no limit to the number of neighbours
    (``max_num_neighbors``).

    Examples
    --------
    ::

        potential, topology, positions = from_mlcg("chignolin_model_and_config.pt", temperature=350)
        system = potential.create_system(topology, replicas=100)
    """
    content = read_archive(path, NAMES)
    try:
        models, structures = content
        if not 0 <= structure < len(structures):
            raise ValueError(f"there is no structure {structure}; it has {len(structures)}, counted from 0")
        parts = {name: part["model"] for name, part in models["models"]["_modules"].items()}
        return _convert(parts, [_data_of(each) for each in structures], structure, temperature)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"the model in '{path}' cannot be converted: {error}") from error


def _convert(
    parts: dict[str, Inert], structures: Sequence[dict[str, Any]], chosen: int, temperature: float | None
) -> ImportedModel:
    with optional_imports():
        from openmmcg.potentials.external.mlcg_networks import convert_network

    data = structures[chosen]
    types = np.asarray(data["atom_types"], np.int64)
    kinds, numbers = np.unique(types, return_inverse=True)
    if data.get("cell") is not None:
        raise ValueError("its structure is in a periodic box; only molecules without one can be converted")
    networks = [part for part in parts.values() if part.kind not in KINDS]
    if len(networks) != 1:
        raise ValueError(f"a potential has one network; it has {len(networks)}: {[part.kind for part in networks]}")
    priors, bonds = [], []
    for name, part in parts.items():
        if part.kind not in KINDS:
            continue
        beads = _beads_of(data, name)
        begin = sum(len(_beads_of(earlier, name)) for earlier in structures[:chosen])
        priors.append(MoleculePrior(convert_prior(part, beads, types, begin, name), numbers.tolist()))
        if are_bonds(part.kind):
            bonds += beads.tolist()
    potential = CGPotential(
        convert_network(networks[0], kinds.tolist()),
        [(str(kind), _mass_of(kind, types, data["masses"])) for kind in kinds],
        priors=priors,
        temperature=temperature,
        provenance={"converted from": "mlcg", "network": networks[0].kind},
    )
    topology = with_bonds(cg_topology([str(kind) for kind in types]), bonds)
    return ImportedModel(potential, topology, _ANGSTROM * np.asarray(data["pos"], float))


def _data_of(structure: Inert) -> dict[str, Any]:
    return structure["_store"]["_mapping"]


def _beads_of(data: dict[str, Any], prior: str) -> NDArray[np.int64]:
    """``[terms, beads of a term]``"""
    return np.asarray(data["neighbor_list"][prior]["index_mapping"]).T


def _mass_of(kind: int, types: NDArray[np.int64], masses: NDArray[np.floating]) -> float:
    found = {float(mass) for mass in masses[types == kind]}
    if len(found) != 1:
        raise ValueError(f"beads of the type {kind} have the masses {sorted(found)}; a bead type has one")
    # As many digits as single precision has.
    return float(f"{_AMU * found.pop():.6g}")
