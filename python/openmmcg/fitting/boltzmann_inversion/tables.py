"""Energies from histograms: Boltzmann's logarithm, smoothing, and what to do where there are no samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline, UnivariateSpline, make_smoothing_spline
from scipy.special import logsumexp

from openmmcg.fitting.boltzmann_inversion.distributions import Coordinate
from openmmcg.potentials import Table, TabulatedAngles, TabulatedBonds, TabulatedDihedrals, TabulatedPairs
from openmmcg.potentials.priors import Prior

FloatArray = NDArray[np.float64]

# Bins with fewer samples are noise.
FEWEST = 10
# Bins that a smoothing spline needs, and that a periodic one sees again beyond either end.
_LEAST, _WRAPPED = 5, 10
# Bins at an end of what was sampled from which the slope beyond is taken.
_END = 5
# k_B T per bin: by at least this much the energy rises where nothing was sampled.
_RISE = 0.2
# Of the cutoff of pairs, over which their energies fade.
_FADING = 0.1


def sampled_bins(coordinate: Coordinate, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which bins have enough samples, ``[bins]``.

    Raises
    ------
    ValueError
        There are too few of them.
    """
    known = counts >= FEWEST
    if known.sum() < _LEAST:
        raise ValueError(
            f"only {int(known.sum())} of the {len(counts)} bins of the {coordinate.label} have {FEWEST} or more of the "
            f"{int(counts.sum())} samples, too few for a distribution; take more frames, or fewer bins"
        )
    return known


def invert(coordinate: Coordinate, counts: NDArray[np.int64], thermal: float) -> FloatArray:
    """Direct Boltzmann inversion, −k_B T ln(counts / Jacobian), smoothed and extended; ``[bins]``, kJ/mol.

    Parameters
    ----------
    coordinate
        What is counted.
    counts
        Its histogram, ``[bins]``.
    thermal
        k_B T, kJ/mol.
    """
    known = sampled_bins(coordinate, counts)
    density = np.where(known, counts, 1) / coordinate.jacobian
    if coordinate.kind == "pairs":
        density /= density[-max(1, len(density) // 10) :].mean()  # about 1 at the cutoff
    energies = thermal * smooth(coordinate, -np.log(density), known, counts)
    if coordinate.kind != "pairs":
        energies -= energies[known].min()
    return extend(coordinate, energies, known, thermal)


def log_ratio(
    coordinate: Coordinate,
    simulated: NDArray[np.int64],
    reference: NDArray[np.int64],
    frames: tuple[int, int],
    known: NDArray[np.bool_],
) -> FloatArray:
    """ln(P / P_ref) of two histograms, smoothed, ``[bins]``.

    Both get the same small number of samples per frame in every bin, so that the ratio is finite where one of them
    has none, and 0 where both have none.

    Parameters
    ----------
    coordinate
        What is counted.
    simulated, reference
        Histograms, ``[bins]``.
    frames
        How many frames of the simulations and of the reference they are of.
    known
        Bins that the reference sampled, see `sampled_bins`.
    """
    few = FEWEST / min(frames)
    ratio = (simulated / frames[0] + few) / (reference / frames[1] + few)
    return smooth(coordinate, np.log(ratio), known, 1 / (1 / (simulated + 1) + 1 / (reference + 1)))


def smooth(
    coordinate: Coordinate,
    values: FloatArray,
    known: NDArray[np.bool_],
    samples: ArrayLike,
    *,
    proportional: bool = False,
) -> FloatArray:
    """Logarithms of counts, or what comes of them, smoothed by a spline over what is known, as much as noise allows.

    The noise, and so the curvature that it feigns, is largest where there are few samples: beads would be heated in
    such a rough well. Gaps between known bins are bridged linearly; beyond the ends the last value goes on.

    Parameters
    ----------
    coordinate
        Whose bins these are.
    values
        ``[bins]``
    known
        See `sampled_bins`.
    samples
        In each bin, ``[bins]``: the variance of a value is one over their number.
    proportional
        Whether it is only proportional to that; then generalised cross-validation finds out how much noise there is.
    """
    shift = _span(coordinate, known)[0]
    places = np.flatnonzero(np.roll(known, -shift))
    given, weights = (np.roll(np.asarray(each, float), -shift)[places] for each in (values, samples))
    wrapped = _WRAPPED if coordinate.kind == "dihedrals" and known.all() else 0
    padded = np.pad(places.astype(float), wrapped, "wrap")
    padded[:wrapped] -= len(values)
    padded[len(padded) - wrapped :] += len(values)
    padded_values, padded_weights = np.pad(given, wrapped, "wrap"), np.pad(weights, wrapped, "wrap")
    spline: Any
    if proportional:
        spline = make_smoothing_spline(padded, padded_values, padded_weights / padded_weights.mean())
    else:  # the smoothest cubic spline that is off by one standard deviation in the mean (Dierckx)
        spline = UnivariateSpline(padded, padded_values, np.sqrt(padded_weights), k=3, s=len(padded))
    return np.roll(np.interp(np.arange(len(values)), places, spline(places)), shift)


def extend(coordinate: Coordinate, energies: FloatArray, known: NDArray[np.bool_], thermal: float) -> FloatArray:
    """Energies that go on with their slope, and at least rise, beyond the ends of what is known.

    Those of a dihedral rise from both ends of the widest gap; those of pairs go on at the short end only.
    """
    shift, first, last = _span(coordinate, known)
    inner = np.roll(energies, -shift)[first : last + 1]
    after = np.polyfit(np.arange(_END), inner[-_END:], 1)[0]
    before = np.polyfit(np.arange(_END), inner[:_END], 1)[0]
    # Towards a straight or a folded angle there is nothing to be restored.
    if not (coordinate.kind == "angles" and coordinate.edges[-1] >= np.pi - 1e-9):
        after = max(after, _RISE * thermal)
    if not (coordinate.kind == "angles" and coordinate.edges[0] <= 1e-9):
        before = min(before, -_RISE * thermal)
    beyond = len(energies) - 1 - last
    if coordinate.kind == "dihedrals":
        steps = np.arange(1, beyond + 1)
        tail = np.minimum(inner[-1] + after * steps, inner[0] - before * steps[::-1])
    elif coordinate.kind == "pairs":
        tail = np.full(beyond, inner[-1])
    else:
        tail = inner[-1] + after * np.arange(1, beyond + 1)
    head = inner[0] - before * np.arange(first, 0, -1)
    return np.roll(np.concatenate([head, inner, tail]), shift)


def make_priors(coordinates: Sequence[Coordinate], energies: Iterable[FloatArray], thermal: float) -> list[Prior]:
    """The tabulated priors of coordinates with these energies, one for each kind.

    Energies of dihedrals are made relative to that of free rotation, as `openmmcg.TabulatedBondedForce` wants them.
    """
    by_kind: dict[str, dict[Coordinate, FloatArray]] = {}
    for coordinate, values in zip(coordinates, energies, strict=True):
        if coordinate.kind == "dihedrals":
            values = values + thermal * logsumexp(-values / thermal, b=1 / len(values))
        by_kind.setdefault(coordinate.kind, {})[coordinate] = values
    return [_PRIORS[kind](tables) for kind, tables in by_kind.items()]


def _span(coordinate: Coordinate, known: NDArray[np.bool_]) -> tuple[int, int, int]:
    """How far to roll a periodic coordinate so that its widest gap comes last, and the ends of what is known then."""
    places = np.flatnonzero(known)
    shift = 0
    if coordinate.kind == "dihedrals":
        gaps = np.diff(places, append=places[0] + len(known))
        shift = int(places[(np.argmax(gaps) + 1) % len(places)]) if gaps.max() > 1 else 0
    rolled = np.flatnonzero(np.roll(known, -shift))
    return shift, int(rolled[0]), int(rolled[-1])


def _open_tables(tables: Mapping[Coordinate, FloatArray]) -> dict[tuple[int, ...], Table]:
    return {c.types: Table(c.centers[0], c.centers[-1], energies) for c, energies in tables.items()}


def _dihedrals(tables: Mapping[Coordinate, FloatArray]) -> TabulatedDihedrals:
    knots = np.linspace(-np.pi, np.pi, 1 + 2 * max(map(len, tables.values())))
    terms = {}
    for coordinate, energies in tables.items():
        places = np.append(coordinate.centers, coordinate.centers[0] + 2 * np.pi)
        curve = CubicSpline(places, np.append(energies, energies[0]), bc_type="periodic")
        terms[coordinate.types] = Table(-np.pi, np.pi, curve(knots))
    return TabulatedDihedrals(terms)


def _pairs(tables: Mapping[Coordinate, FloatArray]) -> TabulatedPairs:
    terms: dict[tuple[int, ...], Any] = {}
    for coordinate, energies in tables.items():
        cutoff = float(coordinate.edges[-1])
        # Forces are what matters: the whole curve is shifted to zero at the cutoff, and flat there.
        fading = np.clip((coordinate.edges / cutoff - 1) / _FADING + 1, 0, 1)
        curve = CubicSpline(coordinate.centers, energies - energies[-1])
        inside = np.clip(coordinate.edges, coordinate.centers[0], coordinate.centers[-1])
        terms[coordinate.types] = curve(inside) * 0.5 * (1 + np.cos(np.pi * fading))
    return TabulatedPairs(terms, cutoff)


_PRIORS: dict[str, Any] = {
    "bonds": lambda tables: TabulatedBonds(_open_tables(tables)),
    "angles": lambda tables: TabulatedAngles(_open_tables(tables)),
    "dihedrals": _dihedrals,
    "pairs": _pairs,
}
