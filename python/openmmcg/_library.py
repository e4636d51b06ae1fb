"""Loads the plugin's library, with the matrix products that suit the processor."""

import os
from pathlib import Path

_SETTING = "OPENBLAS_CORETYPE"


def _wants_avx512() -> bool:
    """Whether OpenBLAS should be told of AVX-512: it takes AVX2 on processors that are newer than itself."""
    processor = Path("/proc/cpuinfo")
    if _SETTING in os.environ or not processor.exists():
        return False
    flags = next((line for line in processor.read_text().splitlines() if line.startswith("flags")), "")
    return {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= set(flags.split())


_tell = _wants_avx512()
if _tell:
    os.environ[_SETTING] = "SkylakeX"
try:
    from openmmcg import _openmmcg
finally:
    if _tell:  # it was for our library alone
        del os.environ[_SETTING]

__all__ = ["_openmmcg"]
