"""The kinds of beads in mapped frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openmmcg.frames import Frames
from openmmcg.potentials import BeadType


def bead_types(sources: Sequence[Frames]) -> list[BeadType]:
    """Names and masses of the bead types of frames with the same types.

    Raises
    ------
    ValueError
        Beads of one type differ in mass.
    """
    kinds = []
    for index, name in enumerate(sources[0].type_names):
        masses = np.unique(np.concatenate([source.masses[source.types == index] for source in sources]))
        if len(masses) != 1:
            files = ", ".join(str(source.path) for source in sources)
            raise ValueError(f"the beads of type '{name}' in {files} have the masses {masses} amu, not one")
        kinds.append(BeadType(name, float(masses[0])))
    return kinds
