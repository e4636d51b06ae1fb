"""Networks as packages that AOTInductor compiles ahead of time, of the contract in ``docs/model-contract.md``."""

import copy
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from openmmcg.potentials.contract import check_cutoff, some_beads, supply_pairs

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
# Forces of one network in float32, evaluated twice, agree better than this.
_SAME = 1e-3


def compile_package(network: nn.Module, translated: torch.jit.ScriptModule, dtype: str) -> bytes:
    """The content of a ``.pt2`` that gives energy and forces of a network.

    Parameters
    ----------
    network
        As for `NeighborListModule`.
    translated
        The potential's `NeighborListModule` of the same network as TorchScript.
    dtype
        ``"float32"`` or ``"float64"``, of weights and arithmetic.

    Raises
    ------
    ValueError
        The two are not the same, there is no such dtype, or the network cannot be compiled.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"there is no dtype '{dtype}'; choose one of {', '.join(map(repr, _DTYPES))}")
    check_cutoff(network)
    network = copy.deepcopy(network).to("cpu", _DTYPES[dtype]).eval().requires_grad_(False)
    _compare(network, translated.network)
    module = supply_pairs(network)
    module.precision = module.precision.to(_DTYPES[dtype])
    module.scale.copy_(translated.scale)

    def energy_and_forces(
        positions: Tensor, box: Tensor, types: Tensor, rows: Tensor, columns: Tensor
    ) -> tuple[Tensor, Tensor]:
        places = positions.detach().requires_grad_()
        energy = module(places, box, types, rows, columns)
        return energy.detach(), -torch.autograd.grad(energy, places)[0]

    displacements, types, rows, columns = some_beads(network)
    random = np.random.default_rng(0)
    places = torch.from_numpy(random.normal(size=(len(types), 3)))
    arguments = (places, 10 * torch.eye(3, dtype=torch.float64), types, rows, columns)
    beads, pairs = torch.export.Dim("beads"), torch.export.Dim("pairs")
    settings = {
        "aot_inductor.check_lowerbound": False,  # a bead alone has no pairs
        "aot_inductor.enable_frame_pointer": False,
        "aot_inductor.enable_line_tables": False,
        "aot_inductor.metadata": {"torch_version": torch.__version__},
        "cpp.dynamic_threads": True,  # as many as the platform is told to use, not as many as there are here
        "cpp.march": "",  # no other instructions than those that the package names, by which it is refused elsewhere
        "cpp_cache_precompile_headers": False,
    }
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about its own code
        path = Path(folder) / "module.pt2"
        try:
            traced = make_fx(energy_and_forces, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*arguments)
            shapes = ({0: beads}, None, {0: beads}, {0: pairs}, {0: pairs})
            program = torch.export.export(traced, arguments, dynamic_shapes=shapes)
            torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)
        except Exception as error:
            raise ValueError(
                f"the network {type(network).__name__} cannot be compiled by AOTInductor, which needs a C++ compiler "
                f"(g++) and a forward that torch.export understands for any number of beads and pairs. {error}"
            ) from error
        return path.read_bytes()


def _compare(network: nn.Module, translated: nn.Module) -> None:
    gradients = []
    for each in (network, translated):
        displacements, types, rows, columns = some_beads(each)
        displacements = displacements.to(next(each.parameters()).dtype).requires_grad_()
        energies = each(displacements, types, rows, columns)
        gradients.append(torch.autograd.grad(energies.sum(), displacements)[0].double())
    if gradients[0].shape != gradients[1].shape or ((gradients[0] - gradients[1]).norm() > _SAME * gradients[1].norm()):
        raise ValueError(
            f"the network {type(network).__name__} gives other forces than the potential; give the network that the "
            "potential was made of, with the weights of then"
        )
