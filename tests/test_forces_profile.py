"""CGForce.profile: the time and the work of each kernel."""

import numpy as np
import openmm
import pytest
from conftest import difference, energy_and_forces, images, random_potential, scatter, system_of

from openmmcg import CGForce

BEADS, BOX = 60, np.diag([2.4, 2.4, 2.4])


def profiled(case, potential, engine="auto"):
    positions = scatter(BEADS, BOX)
    force = CGForce(potential.to_bytes(), types=[i % 2 for i in range(BEADS)], periodic=True, engine=engine)
    system = system_of(force, beads=BEADS, box=BOX)
    context = case.context(system, positions)
    before = energy_and_forces(context)
    kernels = CGForce.of(system.getForce(0)).profile(context, 2)
    after = energy_and_forces(context)
    assert after[0] == pytest.approx(before[0], rel=1e-6) and difference(after[1], before[1]) < 1e-6
    rows, columns = np.triu_indices(BEADS, 1)
    pairs = np.linalg.norm(images(positions[columns] - positions[rows], BOX), axis=1) < potential.cutoff
    return {kernel.name: kernel for kernel in kernels}, 2 * int(pairs.sum())


def test_work_is_what_one_counts(case):
    """Seven operations interpolate a filter, two multiply and add; a dense layer is two for each weight."""
    channels = 24
    kernels, edges = profiled(case, random_potential(channels=channels))
    convolutions = [kernel for name, kernel in kernels.items() if name.removeprefix("convolve").isdigit()]
    assert len(convolutions) == 2
    for kernel in convolutions:
        assert kernel.operations == edges * channels * 9
    assert all(kernel.seconds > 0 for kernel in kernels.values())
    # Between the convolutions: a dense layer with activation, and the one before the next convolution.
    assert kernels["forward1"].operations >= 2 * 2 * BEADS * channels**2


def test_vectors_are_more_work(case):
    options = {"channels": 24, "blocks": 2}
    schnet, painn = (profiled(case, random_potential(network=name, **options))[0] for name in ("schnet", "painn"))
    total = [sum(kernel.operations for kernel in kernels.values()) for kernels in (schnet, painn)]
    assert 3 < total[1] / total[0] < 10


def test_nothing_is_known_of_modules(case):
    assert profiled(case, random_potential(), engine="torchscript")[0] == {}


def test_no_repeats_are_refused(case):
    force = CGForce(random_potential().to_bytes(), types=[0, 1])
    context = case.context(system_of(force, beads=2), np.array([[0, 0, 0], [0.3, 0, 0]]))
    with pytest.raises(openmm.OpenMMException, match="at least 1 repeat"):
        force.profile(context, 0)
