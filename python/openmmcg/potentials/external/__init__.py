"""Models that other packages trained, as a `CGPotential`: their own code, in TorchScript, under our contract.

Each importer takes what that package exports or saves, and reads cutoff and names of types from it. What it returns
is a potential like any other: with masses and priors, replicas and ensembles, one file, and `force_rmse`.
"""

from typing import TYPE_CHECKING

from openmmcg.optional import lazy_names

if TYPE_CHECKING:
    from openmmcg.potentials.external.module import from_module
    from openmmcg.potentials.external.nequip import from_nequip
    from openmmcg.potentials.external.torchmd_net import from_torchmd_net

__all__ = ["from_module", "from_nequip", "from_torchmd_net"]

__getattr__ = lazy_names(
    __name__, {"from_module": "module", "from_nequip": "nequip", "from_torchmd_net": "torchmd_net"}
)
