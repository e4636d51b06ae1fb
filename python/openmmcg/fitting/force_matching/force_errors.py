"""How far the forces of a potential are from those of frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from openmmcg.fitting.force_matching.data import ForceDataset, check_molecule
from openmmcg.fitting.force_matching.forces import network_forces
from openmmcg.forces import CGForce
from openmmcg.frames import Frames
from openmmcg.potentials import CGPotential

KCAL_PER_MOL_PER_ANGSTROM = 41.84  # in kJ/mol/nm
_BEADS_AT_ONCE = 4096


class ForceErrors(NamedTuple):
    """Mean squared differences from reference forces, per component.

    Attributes
    ----------
    components : int
        Over how many components of forces the means are.
    zero, priors, potential : float
        Of no forces at all (the mean squared force), of the forces of the priors alone, and of the potential's,
        (kJ/mol/nm)².
    gain_error : float
        Standard error of the gain, (kJ/mol/nm)², from how it differs between frames; 0 of a single frame. Too small
        where frames follow each other closely.

    Examples
    --------
    >>> errors = ForceErrors(components=300, zero=9.0, priors=4.0, potential=3.0)
    >>> errors.gain
    1.0
    """

    components: int
    zero: float
    priors: float
    potential: float
    gain_error: float = 0.0

    @property
    def gain(self) -> float:
        """By how much the network lowers the error of the priors, (kJ/mol/nm)²."""
        return self.priors - self.potential

    @property
    def has_gain(self) -> bool:
        """Whether the gain is above zero by more than its standard error."""
        return self.gain > self.gain_error

    @classmethod
    def combine(cls, parts: Sequence[ForceErrors]) -> ForceErrors:
        """The errors over all components of several."""
        components = [part.components for part in parts]
        zero, priors, potential = (
            float(np.average([getattr(part, name) for part in parts], weights=components))
            for name in ("zero", "priors", "potential")
        )
        error = np.linalg.norm([part.components * part.gain_error for part in parts]) / sum(components)
        return cls(sum(components), zero, priors, potential, float(error))


def measure_errors(network: nn.Module, data: ForceDataset) -> ForceErrors:
    """Errors of a network's forces on frames whose delta forces are those of its priors.

    The network is differentiated exactly, without tables, and squares are summed in double precision: where the
    noise of the forces dominates, what a network gains is in the fourth digit.
    """
    beads = data.components // (3 * len(data))
    squares, gains = 0.0, []
    for part in torch.arange(len(data)).split(max(1, _BEADS_AT_ONCE // beads)):
        batch = data.__getitems__(part.tolist())
        with torch.no_grad():
            forces = network_forces(network, batch, exact=True).detach()
        left = (forces.double() - batch.forces.double()).square()
        squares += float(left.sum())
        gains.append((batch.forces.double().square() - left).view(len(part), -1).mean(1))
    gain_error = float(torch.cat(gains).std() / len(data) ** 0.5) if len(data) > 1 else 0.0
    return ForceErrors(
        data.components, data.mean_square_force, data.mean_square_delta, squares / data.components, gain_error
    )


def force_rmse(
    potential: CGPotential,
    path: str | os.PathLike[str],
    *,
    frames: slice = slice(None),
    progress: bool = True,
) -> float:
    """Root mean square difference of a potential's forces, priors included, from those of frames.

    Parameters
    ----------
    potential : CGPotential
        Its network, if it has one, is evaluated as it is in the file, by torch; where it cannot be taken out
        (`CGPotential.is_opaque`) by `CGForce`.
    path
        Mapped frames with forces.
    frames : slice
        Which of them.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    float
        Per component, kJ/mol/nm.

    Raises
    ------
    FileNotFoundError
        There are no such frames.
    ValueError
        They hold no forces, bead types that the potential does not know, or numbers that are not finite.
    """
    with Frames(path) as file:
        known = [kind.name for kind in potential.bead_types]
        if not set(file.type_names) <= set(known):
            raise ValueError(f"{file.path} has the bead types {file.type_names}, the potential {known}")
        source = file.with_type_names(known)
        check_molecule(source, potential.molecule)
        selection = range(len(source))[frames]
        if not potential.has_network:
            data = ForceDataset(source, selection, None, potential.priors, progress)
            return float(np.sqrt(data.mean_square_delta))
        if potential.is_opaque:
            types = source.types.tolist()
            force = CGForce(potential.to_bytes(), types=types, periodic=source.boxes is not None)
            data = ForceDataset(source, selection, potential.cutoff, potential.priors, progress, [force])
            return float(np.sqrt(data.mean_square_delta))
        data = ForceDataset(source, selection, potential.cutoff, potential.priors, progress)
    return float(np.sqrt(measure_errors(potential.network, data).potential))
