"""All-atom reference simulations: building, sampling positions and forces, timing; quantum-chemical labels.

Names that need RDKit or a quantum chemistry package import it when they are first used.
"""

from typing import TYPE_CHECKING

from openmmcg.optional import lazy_names
from openmmcg.reference.molecules.liquids import argon_box, methane_box
from openmmcg.reference.molecules.water import AllAtomSystem, water_box
from openmmcg.reference.sampling.free import SamplingResult, sample
from openmmcg.reference.sampling.timing import StepTime, time_per_step

if TYPE_CHECKING:
    from openmmcg.reference.molecules.organic import (
        BITHIOPHENE,
        BITHIOPHENE_BEADS,
        SEXITHIOPHENE,
        TEMPO,
        TEMPO_BEADS,
        find_atoms,
        heavy_atom_map,
        organic_molecule,
    )
    from openmmcg.reference.molecules.peptides import capped_alanine, chignolin
    from openmmcg.reference.quantum.engines import OrbitalEnergies, orbital_energies
    from openmmcg.reference.quantum.label_frames import label_frames
    from openmmcg.reference.quantum.labels import Labels
    from openmmcg.reference.sampling.conformers import join_runs, sample_conformers, turn_dihedral
    from openmmcg.reference.sampling.constrained import (
        frames_nearby,
        release_weights,
        restrain_beads,
        restraint_energy,
        sample_constrained,
    )

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
    "argon_box",
    "capped_alanine",
    "chignolin",
    "find_atoms",
    "frames_nearby",
    "heavy_atom_map",
    "join_runs",
    "label_frames",
    "methane_box",
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

__getattr__ = lazy_names(
    __name__,
    {
        "Labels": "quantum.labels",
        "OrbitalEnergies": "quantum.engines",
        "label_frames": "quantum.label_frames",
        "orbital_energies": "quantum.engines",
        "BITHIOPHENE": "molecules.organic",
        "BITHIOPHENE_BEADS": "molecules.organic",
        "SEXITHIOPHENE": "molecules.organic",
        "TEMPO": "molecules.organic",
        "TEMPO_BEADS": "molecules.organic",
        "capped_alanine": "molecules.peptides",
        "chignolin": "molecules.peptides",
        "find_atoms": "molecules.organic",
        "heavy_atom_map": "molecules.organic",
        "join_runs": "sampling.conformers",
        "organic_molecule": "molecules.organic",
        "frames_nearby": "sampling.constrained",
        "release_weights": "sampling.constrained",
        "restrain_beads": "sampling.constrained",
        "restraint_energy": "sampling.constrained",
        "sample_conformers": "sampling.conformers",
        "sample_constrained": "sampling.constrained",
        "turn_dihedral": "sampling.conformers",
    },
)
