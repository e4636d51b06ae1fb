"""CGnet: a dense network on the internal coordinates of one molecule."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from openmmcg.geometry.indices import check_bonds, check_indices
from openmmcg.geometry.internal_coordinates import RIGID, bonded_terms
from openmmcg.geometry.minimum_image import check_boxes, check_near, minimum_image
from openmmcg.potentials.networks.options import initial_weights
from openmmcg.potentials.networks.primitives import Dense, Readout, distances_and_directions

if TYPE_CHECKING:
    from openmmcg.frames import Frames


class CGnet(nn.Module):
    r"""A dense network on internal coordinates, for the energy of one molecule of coarse-grained beads.

    Wang et al., ACS Cent. Sci. 5, 755 (2019), compared with in section IV of Husic et al., J. Chem. Phys. 153, 194101
    (2020). The features are all distances, and along the bonds all angles and the cosines and sines of all dihedrals,
    each less its mean and divided by its standard deviation in the training data (`standardize`). Layers with tanh
    and a linear one follow. It is invariant under translation and rotation, and dihedrals tell a molecule
    from its mirror image; but it knows one sequence of beads only, and no other molecule.

    With a Lipschitz bound :math:`\lambda`, training keeps the spectral norm of *each* layer's weights, the linear
    last one's included, at most :math:`\lambda` (`project`, after every step; Gouk et al., arXiv:1804.04368). The
    energy in units of `energy_scale` then changes by at most :math:`\lambda^{layers + 1}` times what the standardised
    features change by.

    Parameters
    ----------
    molecule : sequence of int
        Bead type of each bead of the molecule.
    bonds : iterable of pairs of int, optional
        Bonded beads, by default each and the next.
    channels : int
        Width of the layers.
    layers : int
        Number of layers with tanh.
    energy_scale : float
        Size of the energy when training begins, kJ/mol.
    lipschitz_bound : float, optional
        Largest spectral norm of each layer's weights; by default there is no bound.
    seed : int, optional
        As of `SchNet`.

    Attributes
    ----------
    cutoff : None
        There is none: every bead sees every other, see `forward`.

    Raises
    ------
    ValueError
        A bond is of no two beads of the molecule, no three beads have an angle, or an argument is out of range.

    Notes
    -----
    No primitive of the compiled network makes these features, so a CGnet runs on the TorchScript engine.

    Examples
    --------
    The five backbone beads of capped alanine: ten distances, three angles, cosines and sines of two dihedrals.

    >>> import torch
    >>> network = CGnet([0, 1, 2, 0, 1], channels=16, layers=2)
    >>> len(network.feature_names), network.feature_names[10], network.feature_names[-1]
    (17, 'angle 0-1-2', 'sine of dihedral 1-2-3-4')
    """

    __jit_unused_properties__ = ["feature_names"]
    molecule: Tensor
    distances: Tensor
    angles: Tensor
    dihedrals: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        molecule: Sequence[int],
        bonds: Iterable[tuple[int, int]] | None = None,
        *,
        channels: int = 160,
        layers: int = 5,
        energy_scale: float = 1.0,
        lipschitz_bound: float | None = None,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        for name, value in {"channels": channels, "layers": layers, "energy_scale": energy_scale}.items():
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if lipschitz_bound is not None and not lipschitz_bound > 0:
            raise ValueError(f"lipschitz_bound must be positive, or None for no bound; got {lipschitz_bound}")
        sequence = check_indices(molecule, None, "bead types").tolist()
        beads = len(sequence)
        chain = [(i, i + 1) for i in range(beads - 1)] if bonds is None else [list(bond) for bond in bonds]
        bonded = check_bonds(chain, beads).tolist()
        _, angles, dihedrals = bonded_terms(bonded)
        if not angles:
            raise ValueError(
                f"a CGnet needs at least one angle, three beads in a row; {beads} beads with the bonds {bonded} "
                "have none"
            )
        self.types = max(sequence) + 1
        self.cutoff = None
        self.lipschitz_bound = lipschitz_bound
        self.register_buffer("molecule", torch.tensor(sequence))
        self.register_buffer("distances", torch.tensor(list(combinations(range(beads), 2))))
        self.register_buffer("angles", torch.tensor(angles))
        self.register_buffer("dihedrals", torch.tensor(dihedrals, dtype=torch.int64).view(-1, 4))
        features = len(self.feature_names)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        with initial_weights(seed):
            self.layers = nn.Sequential(
                Dense(features, channels, "tanh"), *(Dense(channels, channels, "tanh") for _ in range(layers - 1))
            )
            self.readout = Readout(channels, energy_scale)
        self.project()

    @classmethod
    def from_frames(cls, frames: "Frames", **options: Any) -> "CGnet":
        """A network for the molecule of some frames, with the statistics of its internal coordinates in them.

        Parameters
        ----------
        frames : Frames
            Mapped frames of one molecule, with its bonds where it has any (else each bead is bonded to the next). Only
            those to train on, see `Frames.select`: statistics of others would tell the network about them.
        **options
            As of the class.
        """
        network = cls(frames.types.tolist(), frames.bonds.tolist() or None, **options)
        network.standardize(frames.positions[:], frames.boxes)
        return network

    @property
    def feature_names(self) -> list[str]:
        """What each feature is, by the indices of beads."""

        def name(kind: str, indices: Tensor) -> list[str]:
            return [f"{kind} {'-'.join(map(str, beads))}" for beads in indices.tolist()]

        dihedrals = [name(f"{part} of dihedral", self.dihedrals) for part in ("cosine", "sine")]
        return [*name("distance", self.distances), *name("angle", self.angles), *dihedrals[0], *dihedrals[1]]

    def standardize(self, positions: ArrayLike, boxes: ArrayLike | None = None) -> None:
        """Take the mean and the standard deviation of each feature from frames; a new network has 0 and 1.

        Parameters
        ----------
        positions : array-like [F, beads, 3]
            nm
        boxes : array-like [F, 3, 3], optional
            Box vectors as rows, nm, where positions are wrapped into a periodic box.

        Raises
        ------
        ValueError
            The frames are fewer than two, of other beads, or not finite; or beads that follow each other are half a box
            apart.
        """
        places = np.asarray(positions, float)
        beads = len(self.molecule)
        if places.ndim != 3 or places.shape[1:] != (beads, 3) or len(places) < 2:
            raise ValueError(
                f"the statistics of features need at least two frames of {beads} beads, positions "
                f"[frames, {beads}, 3]; got {list(places.shape)}"
            )
        if not np.isfinite(places).all():
            raise ValueError("the positions hold numbers that are not finite; leave these frames out")
        chain = np.diff(places, axis=1)
        if boxes is not None:
            vectors = check_boxes(boxes, len(places))
            chain = minimum_image(chain, vectors)
            pairs = np.stack([np.arange(beads - 1), np.arange(1, beads)], axis=1)
            check_near(chain, vectors, pairs, 0, remedy="order the beads so that neighbours follow each other")
        features = self.features(torch.from_numpy(chain))
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0).clamp(min=RIGID))

    @torch.no_grad()
    def project(self) -> None:
        """Scale down the weights of each layer whose spectral norm exceeds the Lipschitz bound."""
        if self.lipschitz_bound is None:
            return
        weights = [parameter for parameter in self.layers.parameters() if parameter.ndim == 2]
        for weight in [*weights, self.readout.weight.unsqueeze(0)]:
            norm = torch.linalg.matrix_norm(weight, 2)
            weight.mul_(torch.clamp(self.lipschitz_bound / norm, max=1.0))

    def features(self, chain: Tensor) -> Tensor:
        """Internal coordinates, ``[F, features]`` in nm and radians, in the order of `feature_names`.

        Parameters
        ----------
        chain : Tensor, shape [F, beads - 1, 3]
            From each bead to the next, nm.
        """
        places = torch.cat([torch.zeros_like(chain[:, :1]), torch.cumsum(chain, 1)], 1)
        distances, _ = distances_and_directions(_between(places, self.distances, 0))
        first = nn.functional.normalize(_between(places, self.angles, 0), dim=2)
        second = nn.functional.normalize(_between(places, self.angles, 1), dim=2)
        sine = _square_root(torch.linalg.cross(first, second).square().sum(2))
        angles = torch.atan2(sine, -(first * second).sum(2))
        first = nn.functional.normalize(_between(places, self.dihedrals, 0), dim=2)
        axis = nn.functional.normalize(_between(places, self.dihedrals, 1), dim=2)
        last = nn.functional.normalize(_between(places, self.dihedrals, 2), dim=2)
        before, after = torch.linalg.cross(first, axis), torch.linalg.cross(axis, last)
        norms = _square_root(before.square().sum(2) * after.square().sum(2))
        cosines, sines = (before * after).sum(2) / norms, (first * after).sum(2) / norms
        return torch.cat([distances, angles, cosines, sines], 1)

    def forward(self, displacements: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Energies of the beads of one molecule or several, which do not see each other.

        Parameters
        ----------
        displacements : Tensor, shape [E, 3]
            From each bead to the next one of its molecule, molecule by molecule, nm: those of
            `openmmcg.potentials.chain_pairs`. They tell everything, however far apart beads are.
        types : Tensor, shape [N], int64
            Bead types, those of the molecule again and again.
        rows, columns : Tensor, shape [E], int64
            The pairs; not used.

        Returns
        -------
        Tensor, shape [N]
            kJ/mol; the energy of a molecule in equal parts.

        Raises
        ------
        ValueError
            The beads are not those of the molecule.
        """
        beads = self.molecule.shape[0]
        molecules = types.shape[0] // beads
        if not torch.equal(types, self.molecule.repeat(molecules)):
            raise ValueError(
                f"the network is of a molecule of {beads} beads; it was given {types.shape[0]} beads that are not this "
                "molecule, or copies of it one after the other, bead type by bead type"
            )
        features = self.features(displacements.view(molecules, beads - 1, 3))
        energies = self.readout(self.layers((features - self.mean) / self.deviation))
        return energies.repeat_interleave(beads) / beads


def _between(places: Tensor, indices: Tensor, k: int) -> Tensor:
    """Vectors from bead ``indices[:, k]`` to ``indices[:, k + 1]``, ``[F, indices, 3]``."""
    return places.index_select(1, indices[:, k + 1]) - places.index_select(1, indices[:, k])


def _square_root(values: Tensor) -> Tensor:
    """Of a product of squared sines; the derivatives at zero, for beads in a line, stay finite."""
    return torch.sqrt(values + 1e-12)
