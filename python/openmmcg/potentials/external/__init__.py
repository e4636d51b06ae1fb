"""Models that other packages trained, as a `CGPotential`.

Each importer takes what that package exports or saves, and reads cutoff and names of types from it. What it returns
is a potential like any other: with masses and priors, replicas and ensembles, one file, and `force_rmse`.
"""

from typing import TYPE_CHECKING

from openmmcg.optional import lazy_names

if TYPE_CHECKING:
    from openmmcg.potentials.external.mlcg import ImportedModel, from_mlcg

__all__ = ["ImportedModel", "from_mlcg"]

__getattr__ = lazy_names(__name__, {"ImportedModel": "mlcg", "from_mlcg": "mlcg"})
