"""The kernels for every instruction set that this processor has, by the statements that hold for every engine."""

import openmm
import pytest
from conftest import BOXES, Case, random_potential, scatter
from test_forces_cg_force import (  # noqa: F401 (run here for each set)
    cg_system,
    test_energy_and_forces_are_those_of_the_network,
    test_forces_are_minus_the_gradient_of_the_energy,
)

from openmmcg import _openmmcg

SETS = _openmmcg.get_kernel_sets()


@pytest.fixture(params=SETS, autouse=True)
def kernels(request, monkeypatch):
    monkeypatch.setenv("OPENMMCG_KERNELS", request.param)
    return request.param


@pytest.fixture(params=[Case("Reference"), Case("CPU", 2)], ids=str)
def case(request):
    return request.param


@pytest.fixture
def engine():
    return "native"


@pytest.fixture
def box():
    return BOXES["triclinic"]


def test_the_set_in_use_can_be_asked_for(kernels, monkeypatch):
    assert _openmmcg.get_kernel_set() == kernels
    monkeypatch.delenv("OPENMMCG_KERNELS")
    assert _openmmcg.get_kernel_set() == SETS[-1]


def test_a_set_that_is_not_there_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("OPENMMCG_KERNELS", "avx1024")
    positions = scatter(10)
    with pytest.raises(
        openmm.OpenMMException, match=f"'avx1024'; this processor has the kernel sets {', '.join(SETS)}"
    ):
        Case("CPU", 1).context(cg_system(random_potential(), positions, None), positions)
