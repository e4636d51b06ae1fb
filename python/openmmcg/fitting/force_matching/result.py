"""What force matching found, and its files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from openmmcg.fitting.force_matching.checkpoints import Stage
from openmmcg.fitting.force_matching.force_errors import KCAL_PER_MOL_PER_ANGSTROM, ForceErrors
from openmmcg.potentials import CGPotential
from openmmcg.state import read_json, write_json


@dataclass(frozen=True)
class ForceMatchingResult:
    """What force matching found.

    Attributes
    ----------
    potential : CGPotential
        With the weights of the best epoch.
    validation_force_rmse : float
        Root mean square force difference per component on the validation frames, kJ/mol/nm. As the best epoch is
        chosen by it, it is slightly better than on frames that nobody has looked at.
    validation : dict of str to ForceErrors
        The same of each file, with those of the priors alone and of no forces, as mean squares.
    epochs, best_epoch : int
        How many epochs were done, and which was the best, counted from 1.
    seconds : float
        What training took, of the last session if it was interrupted.
    stages : list of Stage
        More than one where the training was given more epochs or patience later.
    """

    potential: CGPotential
    validation_force_rmse: float
    validation: dict[str, ForceErrors]
    epochs: int
    best_epoch: int
    seconds: float
    stages: list[Stage] = field(default_factory=list)

    @property
    def validation_force_rmse_kcal_per_mol_angstrom(self) -> float:
        """The same in kcal/mol/Å."""
        return self.validation_force_rmse / KCAL_PER_MOL_PER_ANGSTROM

    @property
    def errors(self) -> ForceErrors:
        """Mean squared errors on all validation frames."""
        return ForceErrors.combine(list(self.validation.values()))

    @property
    def has_learned(self) -> bool:
        """Whether the network lowers the error on the validation frames by more than the error of that."""
        return self.errors.has_gain

    @property
    def verdict(self) -> str:
        """In words, what the network gains."""
        return verdict(self.errors)


def verdict(errors: ForceErrors) -> str:
    """What a network with these errors gains, in words."""
    gain = f"{errors.gain:.4g} ± {errors.gain_error:.2g} of {errors.priors:.4g} (kJ/mol/nm)²"
    if errors.has_gain:
        return f"the network lowers the mean squared error of the forces by {gain}"
    return (
        "the network has learned nothing: on the validation frames its forces are no better than none, they lower the "
        f"mean squared error by {gain}"
    )


def save_result(folder: Path, result: ForceMatchingResult) -> None:
    """Write the potential, and then what says that it is complete."""
    result.potential.save(folder / "potential.pt")
    found = {item.name: getattr(result, item.name) for item in fields(result) if item.name != "potential"}
    write_json(folder / "result.json", to_json(found))


def to_json(found: Mapping[str, Any]) -> dict[str, Any]:
    """What was found, all but the potential, as JSON can express it."""
    return {
        **found,
        "validation": {name: errors._asdict() for name, errors in found["validation"].items()},
        "stages": [list(stage) for stage in found["stages"]],
    }


def read_result(folder: Path) -> ForceMatchingResult | None:
    """What `save_result` has written; None where it has not, or not all of it.

    Raises
    ------
    ValueError
        A file is damaged.
    """
    if not (folder / "potential.pt").exists() or not (folder / "result.json").exists():
        return None
    found: Mapping[str, Any] = read_json(folder / "result.json", "the result of a training")
    try:
        potential = CGPotential.load(folder / "potential.pt")
    except ValueError as error:
        raise ValueError(f"{error}; remove it, and it is made anew from {folder / 'best.ckpt'}") from error
    validation = {name: ForceErrors(**errors) for name, errors in found["validation"].items()}
    stages = [Stage(*stage) for stage in found["stages"]]
    return ForceMatchingResult(potential, **{**found, "validation": validation, "stages": stages})


def warn_of(result: ForceMatchingResult) -> ForceMatchingResult:
    """Say so where nothing was learned."""
    if not result.has_learned:
        warnings.warn(
            f"{result.verdict}. Are units, types and forces of the frames right? If so, take more frames or epochs, "
            "another learning rate, or another network",
            stacklevel=3,
        )
    return result
