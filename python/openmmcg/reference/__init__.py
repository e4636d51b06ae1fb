"""All-atom reference simulations: building, sampling positions and forces, timing; quantum-chemical labels.

Names that need RDKit or a quantum chemistry package import it when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from openmmcg.reference.sampling import SamplingResult, sample
from openmmcg.reference.timing import StepTime, time_per_step
from openmmcg.reference.water import AllAtomSystem, water_box

if TYPE_CHECKING:
    from openmmcg.reference.conformers import join_runs, sample_conformers, turn_dihedral
    from openmmcg.reference.constrained import (
        frames_nearby,
        release_weights,
        restrain_beads,
        restraint_energy,
        sample_constrained,
    )
    from openmmcg.reference.electronic import label_frames
    from openmmcg.reference.labels import Labels
    from openmmcg.reference.organic import (
        BITHIOPHENE,
        BITHIOPHENE_BEADS,
        SEXITHIOPHENE,
        TEMPO,
        TEMPO_BEADS,
        find_atoms,
        heavy_atom_map,
        organic_molecule,
    )
    from openmmcg.reference.peptides import capped_alanine, chignolin
    from openmmcg.reference.quantum_engines import OrbitalEnergies, orbital_energies

__all__ = [
    "BITHIOPHENE",
    "BITHIOPHENE_BEADS",
    "SEXITHIOPHENE",
    "TEMPO",
    "TEMPO_BEADS",
    "AllAtomSystem",
    "Labels",
    "OrbitalEnergies",
    "SamplingResult",
    "StepTime",
    "capped_alanine",
    "chignolin",
    "find_atoms",
    "frames_nearby",
    "heavy_atom_map",
    "join_runs",
    "label_frames",
    "orbital_energies",
    "organic_molecule",
    "release_weights",
    "restrain_beads",
    "restraint_energy",
    "sample",
    "sample_conformers",
    "sample_constrained",
    "time_per_step",
    "turn_dihedral",
    "water_box",
]

_LAZY = {
    "Labels": "labels",
    "OrbitalEnergies": "quantum_engines",
    "label_frames": "electronic",
    "orbital_energies": "quantum_engines",
    "BITHIOPHENE": "organic",
    "BITHIOPHENE_BEADS": "organic",
    "SEXITHIOPHENE": "organic",
    "TEMPO": "organic",
    "TEMPO_BEADS": "organic",
    "capped_alanine": "peptides",
    "chignolin": "peptides",
    "find_atoms": "organic",
    "heavy_atom_map": "organic",
    "join_runs": "conformers",
    "organic_molecule": "organic",
    "frames_nearby": "constrained",
    "release_weights": "constrained",
    "restrain_beads": "constrained",
    "restraint_energy": "constrained",
    "sample_conformers": "conformers",
    "sample_constrained": "constrained",
    "turn_dihedral": "conformers",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
