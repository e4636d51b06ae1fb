r"""Priors as linear functions of their parameters, U(x; λ) = Σ λ_k φ_k(x).

Every prior that is fitted here is one, if its parameters are chosen well: a harmonic bond in k/2 and a slope, a
repulsion in σ^c, a table in its energies, whose natural cubic spline is a sum of one spline for each. Then the
derivatives of the energy are the φ, which do not depend on λ, and the relative entropy is convex in λ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.linalg import block_diag

from openmmcg.frames import Frames
from openmmcg.geometry.internal_coordinates import BondedTerms, angles, bonded_terms, dihedrals, distances
from openmmcg.geometry.minimum_image import check_boxes
from openmmcg.geometry.pairs import pairs_apart
from openmmcg.potentials import (
    CosineAngles,
    HarmonicAngles,
    HarmonicBonds,
    LennardJones,
    PeriodicDihedrals,
    Repulsion,
    TabulatedAngles,
    TabulatedBonds,
    TabulatedDihedrals,
    TabulatedPairs,
)
from openmmcg.potentials.priors import Prior, Table
from openmmcg.potentials.priors.bonded import Cosine, Harmonic

FloatArray = NDArray[np.float64]
Types = tuple[int, ...]

_MEASURES: dict[str, Callable[..., FloatArray]] = {"bonds": distances, "angles": angles, "dihedrals": dihedrals}
# Distances of pairs are gathered on a grid of so many points up to the cutoff, each by its two neighbors.
_GRID = 4000
# Frames whose bonded coordinates are evaluated at once.
_AT_ONCE = 200


@dataclass(frozen=True, eq=False)
class LinearTerms:
    """A prior as a linear function of its parameters.

    Attributes
    ----------
    kind : str
        "bonds", "angles", "dihedrals" or "pairs".
    labels : list of str
        What each of the parameters λ is.
    start : array [parameters]
        Those of the prior that was given.
    scales : callable
        How much is a large change of each parameter, ``[parameters]``, where they are λ.
    columns : mapping
        From bead types to those parameters that act between them.
    basis : callable
        φ of all parameters of these types, ``[n, columns]``, at n values of the coordinate.
    make : callable
        The prior with parameters λ; ValueError where there is none.
    describe : callable
        Numbers by name, as people know them, of parameters λ.
    cutoff : float
        Of pairs, nm.
    stiffness : array [parameters, parameters], optional
        Inverse covariance of a change of the parameters, in units of the scales, before anything is known; by default
        that of independent ones. Energies of a table bend little: where nobody was, they go on with the slope beside.
    fading : bool
        Whether the energies are those of a `TabulatedBondedForce` of dihedrals, which fade near straight angles.
    """

    kind: str
    labels: list[str]
    start: FloatArray
    scales: Callable[[FloatArray], FloatArray]
    columns: Mapping[Types, slice]
    basis: Callable[[Types, FloatArray], FloatArray]
    make: Callable[[FloatArray], Prior]
    describe: Callable[[FloatArray], dict[str, float]]
    cutoff: float = 0.0
    stiffness: FloatArray | None = None
    fading: bool = False


def linear_terms(prior: Prior, thermal: float) -> LinearTerms:
    """A prior as a linear function of its parameters.

    Parameters
    ----------
    prior
        One of `openmmcg.potentials`.
    thermal
        k_B T, kJ/mol, by which a table's energies are measured.

    Raises
    ------
    ValueError
        It is a prior whose parameters cannot be fitted, or not from where they are.
    """
    for kind, convert in _CONVERTERS.items():
        if isinstance(prior, kind):
            terms = convert(prior, thermal)
            try:
                terms.make(terms.start)
            except ValueError as error:
                raise ValueError(f"a {kind.__name__} cannot be fitted from where it is: {error}") from None
            return terms
    known = ", ".join(kind.__name__ for kind in _CONVERTERS)
    raise ValueError(f"the parameters of {prior!r} cannot be fitted by relative entropy; those of {known} can")


def sums(source: Frames, terms: Sequence[LinearTerms], bonds: NDArray[np.int64]) -> FloatArray:
    """φ of every frame, summed over all bonds, angles, dihedrals or pairs, ``[frames, parameters]``.

    Parameters
    ----------
    source
        Frames of the reference or of a simulation, whose file knows no bonds.
    terms
        Priors.
    bonds
        Pairs of bonded beads, ``[bonds, 2]``.
    """
    bonded = bonded_terms(bonds.tolist())
    parts = [(_pair_sums if each.kind == "pairs" else _bonded_sums)(source, each, bonded) for each in terms]
    return np.concatenate(parts, axis=1)


def _pair_sums(source: Frames, terms: LinearTerms, bonded: BondedTerms) -> FloatArray:
    types, excluded = source.types, [*bonded.bonds, *bonded.angles]
    kinds = {each: number for number, each in enumerate(terms.columns)}
    number_of = np.full((max(types) + 1, max(types) + 1), -1)
    for (first, second), number in kinds.items():
        if max(first, second) < len(number_of):
            number_of[first, second] = number_of[second, first] = number
    grid = np.linspace(0.0, terms.cutoff, _GRID + 1)
    # At zero distance energies are infinite, but no pairs are there.
    grid[0] = grid[1] / 2
    tables = [terms.basis(each, grid) for each in kinds]
    result = np.zeros((len(source), len(terms.start)))
    boxes = None if source.boxes is None else check_boxes(source.boxes, len(source))
    for frame in range(len(source)):
        positions = np.asarray(source.positions[frame], float)
        box = None if boxes is None else boxes[frame]
        rows, columns, lengths = pairs_apart(positions, box, terms.cutoff, excluded)
        places = lengths * (_GRID / terms.cutoff)
        kind_of_pair = number_of[types[rows], types[columns]]
        for (each, of_kind), table in zip(kinds.items(), tables, strict=True):
            ours = places[kind_of_pair == of_kind]
            cells = np.minimum(ours.astype(int), _GRID - 1)
            upper = ours - cells
            weights = np.bincount(cells, 1 - upper, _GRID + 1) + np.bincount(cells + 1, upper, _GRID + 1)
            result[frame, terms.columns[each]] = weights @ table
    return result


def _bonded_sums(source: Frames, terms: LinearTerms, bonded: BondedTerms) -> FloatArray:
    paths = getattr(bonded, terms.kind)
    by_types: dict[Types, list[Types]] = {}
    for path in paths:
        key = tuple(int(source.types[bead]) for bead in path)
        for found in (key, key[::-1]):
            if found in terms.columns:
                # In the order of the types, so that a dihedral has its own sign.
                by_types.setdefault(found, []).append(path if found == key else path[::-1])
                break
    result = np.zeros((len(source), len(terms.start)))
    for first in range(0, len(source), _AT_ONCE):
        part = source.select(range(first, min(first + _AT_ONCE, len(source))))
        for key, ours in by_types.items():
            values = _MEASURES[terms.kind](part.positions, ours, part.boxes)
            phi = terms.basis(key, values.ravel()).reshape(*values.shape, -1)
            if terms.fading:
                phi = phi * _fading(part, ours)[..., None]
            result[first : first + len(part), terms.columns[key]] = phi.sum(1)
    return result


def _fading(source: Frames, paths: Sequence[Types]) -> FloatArray:
    """By what a `TabulatedBondedForce` multiplies energies of dihedrals near straight angles, ``[frames, paths]``."""
    result = np.ones((len(source), len(paths)))
    for start in (0, 1):
        bends = angles(source.positions, [path[start : start + 3] for path in paths], source.boxes)
        share = np.minimum(np.sin(bends) ** 2 / np.sin(np.radians(15)) ** 2, 1)
        result *= share**2 * (3 - 2 * share)
    return result


def _columns(kinds: Sequence[Types], width: int) -> dict[Types, slice]:
    return {each: slice(width * index, width * (index + 1)) for index, each in enumerate(kinds)}


def _type_pairs(types: int) -> list[Types]:
    return [(first, second) for first in range(types) for second in range(first, types)]


def _matrix(values: FloatArray, types: int) -> list[list[float]]:
    matrix = np.zeros((types, types))
    for (first, second), value in zip(_type_pairs(types), values, strict=True):
        matrix[first, second] = matrix[second, first] = value
    return matrix.tolist()


def _lennard_jones(prior: LennardJones, thermal: float) -> LinearTerms:
    types = len(prior.c12)
    kinds, width = _type_pairs(types), 1 if prior.c6 is None else 2
    tables = [np.asarray(prior.c12, float)] + ([] if prior.c6 is None else [np.asarray(prior.c6, float)])
    start = np.array([table[pair] for pair in kinds for table in tables])
    switch, cutoff = prior.switching_distance, prior.cutoff

    def basis(_: Types, r: FloatArray) -> FloatArray:
        t = np.clip((r - switch) / (cutoff - switch), 0, 1)
        fading = 1 - t**3 * (10 - 15 * t + 6 * t**2)
        return np.stack([fading / r**12, -fading / r**6][:width], axis=-1)

    def make(values: FloatArray) -> LennardJones:
        rows = values.reshape(-1, width)
        matrices = [_matrix(column, types) for column in rows.T]
        if not (rows[:, 0] > 0).all():
            raise ValueError("C12 is not positive")
        return LennardJones(matrices[0], matrices[1] if width == 2 else None, cutoff, prior.switch)

    def describe(values: FloatArray) -> dict[str, float]:
        made = make(values)
        result: dict[str, float] = {}
        for first, second in kinds:
            name = f"{first}-{second}"
            result[f"C12 {name} (kJ/mol nm^12)"] = float(np.asarray(made.c12)[first, second])
            if width == 2:
                result[f"C6 {name} (kJ/mol nm^6)"] = float(np.asarray(made.c6)[first, second])
                result[f"sigma {name} (nm)"] = float(made.sigmas[first, second])
                result[f"epsilon {name} (kJ/mol)"] = float(made.epsilons[first, second])
        return result

    labels = [f"{name} {a}-{b}" for a, b in kinds for name in ("C12", "C6")[:width]]

    def scales(values: FloatArray) -> FloatArray:
        result = np.abs(values)
        if width == 2:
            # As much attraction as would make a well of k_B T, however little there is yet.
            result[1::2] = np.maximum(result[1::2], np.sqrt(4 * result[::2] * thermal))
        return result

    return LinearTerms("pairs", labels, start, scales, _columns(kinds, width), basis, make, describe, cutoff)


def _repulsion(prior: Repulsion, thermal: float) -> LinearTerms:
    types, c, cutoff = len(prior.sigmas), prior.exponent, prior.cutoff
    kinds = _type_pairs(types)
    start = np.array([np.asarray(prior.sigmas, float)[pair] ** c for pair in kinds])

    def basis(_: Types, r: FloatArray) -> FloatArray:
        energy = r**-c - cutoff**-c * (1 + c * (1 - r / cutoff))
        return np.where(r < cutoff, energy, 0.0)[:, None]

    def make(values: FloatArray) -> Repulsion:
        if not (values > 0).all():
            raise ValueError("a repulsion became an attraction")
        return Repulsion(_matrix(values ** (1 / c), types), c, cutoff)

    def describe(values: FloatArray) -> dict[str, float]:
        return {f"sigma {a}-{b} (nm)": float(v ** (1 / c)) for (a, b), v in zip(kinds, values, strict=True)}

    labels = [f"sigma^{c:g} {a}-{b}" for a, b in kinds]
    return LinearTerms("pairs", labels, start, np.abs, _columns(kinds, 1), basis, make, describe, cutoff)


def _tabulated_pairs(prior: TabulatedPairs, thermal: float) -> LinearTerms:
    kinds = list(prior.terms)
    energies = np.array([np.asarray(prior.terms[each], float) for each in kinds])
    # The last energy, at the cutoff, is left as it is.
    width = energies.shape[1] - 1
    knots = np.linspace(0.0, prior.cutoff, width + 1)
    spline = CubicSpline(knots, np.eye(width + 1)[:, :width], bc_type="natural")

    def basis(_: Types, r: FloatArray) -> FloatArray:
        return np.where((r <= prior.cutoff)[:, None], spline(r), 0.0)

    def make(values: FloatArray) -> TabulatedPairs:
        rows = np.concatenate([values.reshape(-1, width), energies[:, -1:]], axis=1)
        return TabulatedPairs({each: row.tolist() for each, row in zip(kinds, rows, strict=True)}, prior.cutoff)

    labels = [f"u {each} at {1e1 * r:.2f} Å" for each in kinds for r in knots[:-1]]
    start = energies[:, :-1].ravel()
    columns, stiffness = _columns(kinds, width), block_diag(*[_bending(width)] * len(kinds))
    return LinearTerms(
        "pairs", labels, start, _energies(thermal), columns, basis, make, _by(labels), prior.cutoff, stiffness
    )


def _energies(thermal: float) -> Callable[[FloatArray], FloatArray]:
    """Scales of parameters that are energies."""
    return lambda values: np.full(len(values), 2 * thermal)


def _bending(number: int, periodic: bool = False) -> FloatArray:
    """Second differences squared, and next to nothing against a change as a whole, ``[number, number]``."""
    identity = np.eye(number)
    rows = np.roll(identity, 1, 0) - 2 * identity + np.roll(identity, -1, 0)
    second = rows if periodic else rows[1:-1]
    return second.T @ second + 1e-6 * identity


def _by(labels: Sequence[str]) -> Callable[[FloatArray], dict[str, float]]:
    return lambda values: dict(zip(labels, map(float, values), strict=True))


def _tabulated(prior: TabulatedBonds | TabulatedAngles, thermal: float) -> LinearTerms:
    kinds = list(prior.terms)
    tables = [prior.terms[each] for each in kinds]
    sizes = [len(energies) for _, _, energies in tables]
    ends = np.cumsum([0, *sizes])
    columns = {each: slice(ends[i], ends[i + 1]) for i, each in enumerate(kinds)}
    splines = {}
    for each, (start, stop, energies) in zip(kinds, tables, strict=True):
        places = np.linspace(start, stop, len(energies))
        splines[each] = (start, stop, CubicSpline(places, np.eye(len(energies)), bc_type="natural"))

    def basis(each: Types, x: FloatArray) -> FloatArray:
        start, stop, spline = splines[each]
        inside = np.clip(x, start, stop)
        return spline(inside) + (x - inside)[:, None] * spline(inside, 1)

    def make(values: FloatArray) -> Any:
        terms = {
            each: Table(start, stop, values[columns[each]].tolist())
            for each, (start, stop, _) in zip(kinds, tables, strict=True)
        }
        return type(prior)(terms)

    labels = [
        f"u {each} at {x:.4g}" for each, (a, b, e) in zip(kinds, tables, strict=True) for x in np.linspace(a, b, len(e))
    ]
    flat = np.concatenate([np.asarray(energies, float) for _, _, energies in tables])
    stiffness = block_diag(*map(_bending, sizes))
    return LinearTerms(
        prior.what, labels, flat, _energies(thermal), columns, basis, make, _by(labels), stiffness=stiffness
    )


def _tabulated_dihedrals(prior: TabulatedDihedrals, thermal: float) -> LinearTerms:
    kinds = list(prior.terms)
    rows = [np.asarray(prior.terms[each][2], float)[:-1] for each in kinds]
    ends = np.cumsum([0, *map(len, rows)])
    columns = {each: slice(ends[i], ends[i + 1]) for i, each in enumerate(kinds)}
    splines = {}
    for each, row in zip(kinds, rows, strict=True):
        places = np.linspace(-np.pi, np.pi, len(row) + 1)
        splines[each] = CubicSpline(
            places, np.concatenate([np.eye(len(row)), np.eye(len(row))[:1]]), bc_type="periodic"
        )

    def basis(each: Types, x: FloatArray) -> FloatArray:
        return splines[each](x)

    def make(values: FloatArray) -> TabulatedDihedrals:
        terms = {}
        for each in kinds:
            ours = values[columns[each]]
            terms[each] = Table(-np.pi, np.pi, [*ours.tolist(), float(ours[0])])
        return TabulatedDihedrals(terms)

    labels = [
        f"u {each} at {np.degrees(x):.0f}°"
        for each, row in zip(kinds, rows, strict=True)
        for x in np.linspace(-np.pi, np.pi, len(row), endpoint=False)
    ]
    flat = np.concatenate(rows)
    stiffness = block_diag(*[_bending(len(row), periodic=True) for row in rows])
    return LinearTerms(
        "dihedrals", labels, flat, _energies(thermal), columns, basis, make, _by(labels), 0.0, stiffness, fading=True
    )


def _harmonic(prior: HarmonicBonds | HarmonicAngles | CosineAngles, thermal: float) -> LinearTerms:
    """k/2 (x − x₀)² + b (x − x₀), where x₀ is the centre to begin with."""
    kinds = list(prior.terms)
    begin = {each: prior.terms[each][0] for each in kinds}
    constants = np.array([prior.terms[each][1] for each in kinds])
    of_cosines = isinstance(prior, CosineAngles)
    largest = np.pi if isinstance(prior, HarmonicAngles) else np.inf

    def basis(each: Types, x: FloatArray) -> FloatArray:
        away = (np.cos(x) if of_cosines else x) - begin[each]
        return np.stack([away**2, away], axis=-1)

    def parameters(values: FloatArray) -> dict[Types, Harmonic]:
        if not (values[::2] > 0).all():
            raise ValueError("a force constant is not positive")
        rows = zip(kinds, values.reshape(-1, 2), strict=True)
        found = {each: Harmonic(float(begin[each] - b / (2 * a)), float(2 * a)) for each, (a, b) in rows}
        if not (of_cosines or all(0 < center < largest for center, _ in found.values())):
            raise ValueError("a centre is where no coordinate can be")
        return found

    def make(values: FloatArray) -> Any:
        return type(prior)(parameters(values))

    def describe(values: FloatArray) -> dict[str, float]:
        result: dict[str, float] = {}
        for each, (center, constant) in parameters(values).items():
            result |= {f"centre {each}": center, f"force constant {each}": constant}
        return result

    kind = "bonds" if isinstance(prior, HarmonicBonds) else "angles"
    labels = [f"{name} {each}" for each in kinds for name in ("k/2", "slope")]
    start = np.stack([constants / 2, np.zeros(len(kinds))], axis=1).ravel()

    def scales(values: FloatArray) -> FloatArray:
        # Half of a force constant, and a slope that moves the centre by two standard deviations.
        halves = np.abs(values[::2])
        return np.stack([halves / 2, 2 * np.sqrt(2 * thermal * halves)], axis=1).ravel()

    return LinearTerms(kind, labels, start, scales, _columns(kinds, 2), basis, make, describe)


def _periodic_dihedrals(prior: PeriodicDihedrals, thermal: float) -> LinearTerms:
    kinds = list(prior.terms)
    numbers = {each: [n for n, _, _ in prior.terms[each]] for each in kinds}
    sizes = [2 * len(numbers[each]) for each in kinds]
    ends = np.cumsum([0, *sizes])
    columns = {each: slice(ends[i], ends[i + 1]) for i, each in enumerate(kinds)}
    start = np.array(
        [
            value
            for each in kinds
            for _, phase, k in prior.terms[each]
            for value in (k * np.cos(phase), k * np.sin(phase))
        ]
    )

    def basis(each: Types, x: FloatArray) -> FloatArray:
        return np.stack([f(n * x) for n in numbers[each] for f in (np.cos, np.sin)], axis=-1)

    def series(values: FloatArray) -> dict[Types, list[Cosine]]:
        return {
            each: [
                Cosine(n, float(np.arctan2(sine, cosine)), float(np.hypot(cosine, sine)))
                for n, (cosine, sine) in zip(numbers[each], values[columns[each]].reshape(-1, 2), strict=True)
            ]
            for each in kinds
        }

    def describe(values: FloatArray) -> dict[str, float]:
        result: dict[str, float] = {}
        for each, terms in series(values).items():
            for n, phase, k in terms:
                result |= {f"phase {each} n={n}": phase, f"force constant {each} n={n}": k}
        return result

    labels = [f"k {name} phase {each} n={n}" for each in kinds for n in numbers[each] for name in ("cos", "sin")]

    def make(values: FloatArray) -> PeriodicDihedrals:
        return PeriodicDihedrals(series(values))

    return LinearTerms("dihedrals", labels, start, _energies(thermal), columns, basis, make, describe)


_CONVERTERS: dict[type, Callable[..., LinearTerms]] = {
    LennardJones: _lennard_jones,
    Repulsion: _repulsion,
    TabulatedPairs: _tabulated_pairs,
    HarmonicBonds: _harmonic,
    HarmonicAngles: _harmonic,
    CosineAngles: _harmonic,
    PeriodicDihedrals: _periodic_dihedrals,
    TabulatedBonds: _tabulated,
    TabulatedAngles: _tabulated,
    TabulatedDihedrals: _tabulated_dihedrals,
}
