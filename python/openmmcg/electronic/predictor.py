"""A trained predictor of an electronic property: numpy alone, so that a prediction costs next to nothing.

What training found is a handful of arrays: the dense layers (batch normalisation folded in), the inducing points with
the whitened distribution of their values, and the noise's layers. Evaluating them needs neither torch nor GPyTorch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmmcg.electronic.calibration import Recalibration
from openmmcg.electronic.data import check_bead_names
from openmmcg.electronic.features import DistanceFeatures
from openmmcg.state import reading, replacing

Array = NDArray[np.float64]

FORMAT = "openmm-cg electronic predictor"
FORMAT_VERSION = 1
FARTHEST = 25.0  # standard deviations of the training frames; the typical frame of another map is beyond
BLOCK = 1_000_000  # numbers in the largest array of a block of frames


class VarianceParts(NamedTuple):
    """The three variances of equation A13, eV². Their sum is the square of the standard deviation.

    Attributes
    ----------
    sigma_K : float64 [frames]
        Uncertainty of the fit: large where there were few training frames. With several members, the variance of
        their means is in it.
    sigma_S : float64 [frames]
        Variance of the inducing points' values.
    sigma : float64 [frames]
        Variance of the noise (σ² in the paper): what the beads do not tell of the atoms.
    """

    sigma_K: Array  # noqa: N815
    sigma_S: Array  # noqa: N815
    sigma: Array


@dataclass(frozen=True)
class Prediction:
    """Normal distributions of the energy, one for each frame.

    Attributes
    ----------
    mean : float64 [frames], eV
    standard_deviation : float64 [frames], eV
    latent : float64 [frames, latent dimensions]
        Where the frames are in the latent space (of the first member, where there are several).
    variance_parts : VarianceParts
    """

    mean: Array
    standard_deviation: Array
    latent: Array
    variance_parts: VarianceParts


@dataclass(frozen=True)
class DenseLayers:
    """Dense layers with ELU between them, none after the last; no layers leave the input as it is."""

    weights: Sequence[Array]  # [in, out]
    biases: Sequence[Array]

    def __call__(self, values: Array) -> Array:
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                values = np.where(values > 0, values, np.expm1(np.minimum(values, 0.0)))
            values = values @ weight + bias
        return values


@dataclass(frozen=True)
class Member:
    """One trained deep kernel. Energies inside are standardised, and so are features.

    Attributes
    ----------
    feature_mean, feature_scale : float64 [features]
    energy : float64 [2]
        Mean and scale, eV.
    inducing_points : float64 [points, latent]
        In units of the kernel's lengths.
    lengths : float64 [latent]
    trend : float64 [latent + 1]
        The linear mean function: weights, then the constant.
    kernel_variance : float64 [1]
    whitening : float64 [points, points]
        Inverse Cholesky factor of the kernel between inducing points.
    values : float64 [points]
        Whitened mean m at the inducing points.
    root : float64 [points, any]
        A root of their whitened covariance S.
    recalibration : float64 [4]
        As `Recalibration`.
    kernel_network, noise_network : DenseLayers
        To the latent space, and from there to the logarithm of the noise variance.
    """

    feature_mean: Array
    feature_scale: Array
    energy: Array
    inducing_points: Array
    lengths: Array
    trend: Array
    kernel_variance: Array
    whitening: Array
    values: Array
    root: Array
    recalibration: Array
    kernel_network: DenseLayers
    noise_network: DenseLayers

    def predict(self, features: Array) -> Prediction:
        """Of features that are not yet standardised, equations A10 to A13."""
        latent = self.kernel_network((features - self.feature_mean) / self.feature_scale)
        scaled = latent / self.lengths
        distances = (
            np.square(scaled).sum(1)[:, None]
            + np.square(self.inducing_points).sum(1)
            - 2 * scaled @ self.inducing_points.T
        )
        kernel = self.kernel_variance * np.exp(-0.5 * np.maximum(distances, 0.0))
        projected = kernel @ self.whitening.T
        mean = projected @ self.values + latent @ self.trend[:-1] + self.trend[-1]
        parts = [
            np.maximum(self.kernel_variance - np.square(projected).sum(1), 0.0),
            np.square(projected @ self.root).sum(1),
            np.exp(self.noise_network(latent)[:, 0]),
        ]
        offset, scale = self.energy
        recalibration = Recalibration(*self.recalibration)
        factor = scale**2 * recalibration.factor(np.sum(parts, axis=0))
        corrected = VarianceParts(*(part * factor for part in parts))
        return Prediction(offset + scale * (mean + recalibration.shift), np.sqrt(sum(corrected)), latent, corrected)

    def to_arrays(self) -> dict[str, Array]:
        """All arrays by name."""
        arrays: dict[str, Array] = {}
        for field in fields(self):
            content = getattr(self, field.name)
            if isinstance(content, DenseLayers):
                for layer, (weight, bias) in enumerate(zip(content.weights, content.biases, strict=True)):
                    arrays |= {f"{field.name}.{layer}.weight": weight, f"{field.name}.{layer}.bias": bias}
            else:
                arrays[field.name] = content
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Member:
        """The opposite of `to_arrays`."""
        content: dict[str, Any] = {}
        for field in fields(cls):
            if field.name not in ("kernel_network", "noise_network"):
                content[field.name] = arrays[field.name]
                continue
            layers = range(sum(name.startswith(f"{field.name}.") for name in arrays) // 2)
            content[field.name] = DenseLayers(
                [arrays[f"{field.name}.{layer}.weight"] for layer in layers],
                [arrays[f"{field.name}.{layer}.bias"] for layer in layers],
            )
        return cls(**content)


class DKLPredictor:
    """Predicts the distribution p(E|R) of an electronic property from the beads of one molecule.

    `DKLTraining` makes it. With several members (the folds of a cross-validation), the distribution is the normal one
    with the mean of their mixture, and its variance times a factor.

    Parameters
    ----------
    features : DistanceFeatures
    members : sequence of Member
        At least one.
    bead_names : sequence of str, optional
        Of the map it was trained on.
    variance_factor : float
        Of several members: their mean is nearer to the truth than each of them.
    provenance : mapping, optional
        Anything JSON can express: settings, scores, versions.

    Raises
    ------
    ValueError
        No members, or names that are not as many as the beads.
    """

    def __init__(
        self,
        features: DistanceFeatures,
        members: Sequence[Member],
        *,
        bead_names: Sequence[str] | None = None,
        variance_factor: float = 1.0,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        if not members:
            raise ValueError("a predictor needs at least one member")
        check_bead_names(bead_names, features.beads)
        self.features = features
        self.members = list(members)
        self.variance_factor = variance_factor
        self.bead_names = None if bead_names is None else list(bead_names)
        self.provenance = dict(provenance or {})

    def predict(self, positions: ArrayLike, *, bead_names: Sequence[str] | None = None) -> Prediction:
        """The distributions of the energy in frames.

        Parameters
        ----------
        positions : array [frames, beads, 3], nm
            Of molecules that are whole, not cut by a periodic box: see `openmmcg.geometry.make_whole`.
        bead_names : sequence of str, optional
            Compared with those of the training.

        Raises
        ------
        ValueError
            Positions of another shape or another map, or that are not finite.
        """
        if bead_names is not None:
            self.check_beads(bead_names)
        features = self.features(positions)
        self._check_range(features)
        largest = max(max(len(member.inducing_points), features.shape[1]) for member in self.members)
        size = max(1, BLOCK // largest)
        # At least one block, so that no frames give empty arrays.
        starts = range(0, max(len(features), 1), size)
        blocks = [self._mixture(features[start : start + size]) for start in starts]
        parts = zip(*(block.variance_parts for block in blocks), strict=True)
        return Prediction(
            np.concatenate([block.mean for block in blocks]),
            np.concatenate([block.standard_deviation for block in blocks]),
            np.concatenate([block.latent for block in blocks]),
            VarianceParts(*map(np.concatenate, parts)),
        )

    def sample(self, positions: ArrayLike, draws: int = 1, seed: int = 0) -> Array:
        """Energies drawn from the predicted distributions ``[frames, draws]``, eV.

        Parameters
        ----------
        positions : array [frames, beads, 3], nm
        draws : int
            From each frame's distribution.
        seed : int
        """
        prediction = self.predict(positions)
        normal = np.random.default_rng(seed).standard_normal((len(prediction.mean), draws))
        return prediction.mean[:, None] + prediction.standard_deviation[:, None] * normal

    def check_beads(self, bead_names: Sequence[str]) -> None:
        """Whether beads of these names are those of the training.

        Raises
        ------
        ValueError
            They are not.
        """
        names = list(bead_names)
        if len(names) != self.features.beads:
            raise ValueError(
                f"the map has {len(names)} beads, the predictor was trained on {self.features.beads}: "
                "use the map it was trained with, or train another"
            )
        if self.bead_names is not None and names != self.bead_names:
            raise ValueError(
                f"the map has the beads {names}, the predictor was trained on {self.bead_names}: "
                "use the map it was trained with, or train another"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one file, which appears complete or not at all and replaces an older one.

        Raises
        ------
        OSError
            It could not be written, for example for want of space; an older one is unharmed.
        """
        target = Path(path).expanduser()
        description = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "features": self.features.describe(),
            "bead_names": self.bead_names,
            "variance_factor": self.variance_factor,
            "members": len(self.members),
            "provenance": self.provenance,
        }
        arrays: dict[str, Any] = {
            f"{number}.{name}": array
            for number, member in enumerate(self.members)
            for name, array in member.to_arrays().items()
        }
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as unfinished, open(unfinished, "wb") as file:
            np.savez(file, description=np.array(json.dumps(description)), **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DKLPredictor:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            It is something else, damaged, or of a newer version.
        """
        source = Path(path).expanduser()
        with reading(source, "a predictor"), np.load(source, allow_pickle=False) as archive:
            description = json.loads(str(archive["description"]))
            arrays = {name: archive[name] for name in archive.files if name != "description"}
            form, version = description.get("format"), description.get("format_version", 0)
        if form != FORMAT:
            raise ValueError(f"'{source}' is not an {FORMAT}: its format is {form!r}")
        if version > FORMAT_VERSION:
            raise ValueError(
                f"'{source}' has format version {version}; this openmm-cg reads versions up to {FORMAT_VERSION}: "
                "upgrade openmm-cg"
            )
        with reading(source, "a predictor"):
            members = []
            for number in range(description["members"]):
                start = f"{number}."
                own = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
                members.append(Member.from_arrays(own))
            return cls(
                DistanceFeatures(**description["features"]),
                members,
                bead_names=description["bead_names"],
                variance_factor=description["variance_factor"],
                provenance=description["provenance"],
            )

    def _mixture(self, features: Array) -> Prediction:
        """Mean and variance of the members' mixture, the latter times the factor."""
        predictions = [member.predict(features) for member in self.members]
        if len(predictions) == 1:
            return predictions[0]
        means = np.stack([prediction.mean for prediction in predictions])
        parts = np.mean([prediction.variance_parts for prediction in predictions], axis=0)
        parts[0] += means.var(0)
        parts *= self.variance_factor
        return Prediction(means.mean(0), np.sqrt(parts.sum(0)), predictions[0].latent, VarianceParts(*parts))

    def _check_range(self, features: Array) -> None:
        if not len(features):
            return
        member = self.members[0]
        farthest = np.median(np.abs((features - member.feature_mean) / member.feature_scale).max(1))
        if farthest > FARTHEST:
            raise ValueError(
                f"distances between beads are typically {farthest:.0f} standard deviations from those of the training "
                f"(limit {FARTHEST:.0f}): these are positions of another map, not in nm, or of molecules cut by a box"
            )
