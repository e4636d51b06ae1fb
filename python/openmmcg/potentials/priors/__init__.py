"""Priors: simple potentials that keep beads where there are data, see *Priors* in ``docs/design.md``."""

from openmmcg.potentials.priors.bonded import CosineAngles, HarmonicAngles, HarmonicBonds, PeriodicDihedrals
from openmmcg.potentials.priors.high_frequency import HighFrequency
from openmmcg.potentials.priors.importers import from_cgnet, from_mlcg, from_torchmd_cg
from openmmcg.potentials.priors.lennard_jones import LennardJones
from openmmcg.potentials.priors.molecule import MoleculePrior
from openmmcg.potentials.priors.repulsion import Repulsion, shortest_distances
from openmmcg.potentials.priors.tabulated import (
    Table,
    TabulatedAngles,
    TabulatedBonds,
    TabulatedDihedrals,
    TabulatedPairs,
)
from openmmcg.potentials.priors.templates import (
    Prior,
    PriorForces,
    add_priors,
    from_xml,
    restore_prior,
    scale_prior,
    to_xml,
)
from openmmcg.potentials.priors.volume import VolumePotential

__all__ = [
    "CosineAngles",
    "HarmonicAngles",
    "HarmonicBonds",
    "HighFrequency",
    "LennardJones",
    "MoleculePrior",
    "PeriodicDihedrals",
    "Prior",
    "PriorForces",
    "Repulsion",
    "Table",
    "TabulatedAngles",
    "TabulatedBonds",
    "TabulatedDihedrals",
    "TabulatedPairs",
    "VolumePotential",
    "add_priors",
    "from_cgnet",
    "from_mlcg",
    "from_torchmd_cg",
    "from_xml",
    "restore_prior",
    "scale_prior",
    "shortest_distances",
    "to_xml",
]
