"""Models that other packages trained, as potentials; see `openmmcg.potentials.external`."""

from typing import Any

from openmmcg.potentials import external

__all__ = external.__all__


def __getattr__(name: str) -> Any:
    return getattr(external, name)
