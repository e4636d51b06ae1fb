"""Models that other packages trained, as a `CGPotential`.

Each importer takes what that package exports or saves, and reads the cutoff, and names of types where it has them, from
that. What it returns is a potential like any other: with masses and priors, replicas and ensembles, in one file.
Networks that are made of the primitives of the native engine are converted; of others their own code runs, in
TorchScript, with the neighbours of `CGForce`.
"""

from typing import TYPE_CHECKING

from openmmcg.optional import lazy_names

if TYPE_CHECKING:
    from openmmcg.potentials.external.deepmd import from_deepmd
    from openmmcg.potentials.external.mace import from_mace
    from openmmcg.potentials.external.metatomic import from_metatomic
    from openmmcg.potentials.external.mlcg import ImportedModel, from_mlcg
    from openmmcg.potentials.external.module import from_module
    from openmmcg.potentials.external.nequip import from_nequip
    from openmmcg.potentials.external.schnetpack import from_schnetpack
    from openmmcg.potentials.external.torchmd_net import from_torchmd_net

__all__ = [
    "ImportedModel",
    "from_deepmd",
    "from_mace",
    "from_metatomic",
    "from_mlcg",
    "from_module",
    "from_nequip",
    "from_schnetpack",
    "from_torchmd_net",
]

__getattr__ = lazy_names(
    __name__, {"ImportedModel": "mlcg", **{name: name.removeprefix("from_") for name in __all__[1:]}}
)
