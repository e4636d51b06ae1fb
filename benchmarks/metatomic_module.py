"""A pair energy as a module of metatomic, for `benchmarks/external_models.py`."""

from typing import Dict, List, Optional  # noqa: UP035  (TorchScript's names)

import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import ModelOutput, NeighborListOptions, System


class Pairs(torch.nn.Module):
    """A soft repulsion that depends on the types."""

    def __init__(self, cutoff: float, full: bool) -> None:
        super().__init__()
        self.options = NeighborListOptions(cutoff=cutoff, full_list=full, strict=True)
        self.share = 0.5 if full else 1.0

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:  # noqa: UP006
        return [self.options]

    def forward(
        self,
        systems: List[System],  # noqa: UP006
        outputs: Dict[str, ModelOutput],  # noqa: UP006
        selected_atoms: Optional[Labels],  # noqa: UP045
    ) -> Dict[str, TensorMap]:  # noqa: UP006
        system = systems[0]
        neighbors = system.get_neighbor_list(self.options)
        vectors = neighbors.values.squeeze(2)
        first = neighbors.samples.column("first_atom").to(torch.int64)
        second = neighbors.samples.column("second_atom").to(torch.int64)
        depth = 1 + 0.1 * (system.types.index_select(0, first) + system.types.index_select(0, second)).to(vectors.dtype)
        energy = self.share * (depth * torch.exp(-vectors.square().sum(1) / 9)).sum()
        block = TensorBlock(
            energy.reshape(1, 1),
            Labels(["system"], torch.tensor([[0]])),
            torch.jit.annotate(List[Labels], []),  # noqa: UP006
            Labels(["energy"], torch.tensor([[0]])),
        )
        return {"energy": TensorMap(Labels(["_"], torch.tensor([[0]])), [block])}
