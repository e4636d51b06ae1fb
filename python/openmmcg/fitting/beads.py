"""The kinds of beads in mapped frames."""

from __future__ import annotations

import numpy as np

from openmmcg.frames import Frames
from openmmcg.potentials import BeadType


def bead_types(source: Frames) -> list[BeadType]:
    """Names and masses of the bead types of frames.

    Raises
    ------
    ValueError
        Beads of one type differ in mass.
    """
    kinds = []
    for index, name in enumerate(source.type_names):
        masses = np.unique(source.masses[source.types == index])
        if len(masses) != 1:
            raise ValueError(f"the beads of type '{name}' in {source.path} have the masses {masses} amu, not one")
        kinds.append(BeadType(name, float(masses[0])))
    return kinds
