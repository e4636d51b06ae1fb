"""How fast a landscape of high frequency heats a liquid at constant energy, by time step.

    python benchmarks/landscape_drift.py --json benchmarks/results/landscape_drift.json

512 beads of water's mass and density that repel each other, with `HighFrequency` of several amplitudes and
wavenumbers. After 3 ps at 300 K, from the same state for every time step, 10 ps of Verlet's integration; the slope of
the total energy is given in K/ps of all beads. ``step / longest`` compares the time step with
`openmmcg.simulation.landscape.longest_time_step`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import openmm
from md_water import processor, versions

from openmmcg.constants import GAS_CONSTANT
from openmmcg.mapping import cg_topology
from openmmcg.potentials import CGPotential, HighFrequency, LennardJones
from openmmcg.simulation import minimise
from openmmcg.simulation.landscape import longest_time_step
from openmmcg.state import write_json

BEADS, WIDTH, TEMPERATURE = 512, 2.485, 300.0
REPULSION = LennardJones([[2.0 * 0.29**12]], cutoff=0.6)
STEPS = (0.0005, 0.00075, 0.001, 0.0015, 0.002)  # ps
EQUILIBRATION, DURATION, RECORDS = 3.0, 10.0, 50


def drifts(amplitude: float, wavenumber: float) -> list[dict]:
    """A row for each time step."""
    potential = CGPotential(None, [("W", 18.015)], priors=[REPULSION, HighFrequency(amplitude, wavenumber)])
    box = WIDTH * np.eye(3)
    system = potential.create_system(cg_topology(["W"] * BEADS, box))
    grid = np.stack(np.meshgrid(*[np.arange(8)] * 3), axis=-1).reshape(-1, 3) * WIDTH / 8
    start = minimise(system, grid + np.random.default_rng(0).normal(0, 0.01, grid.shape), box, tolerance=100.0)
    integrator = openmm.CompoundIntegrator()
    thermostat = openmm.LangevinMiddleIntegrator(TEMPERATURE, 5.0, 0.0003)
    thermostat.setRandomNumberSeed(1)
    integrator.addIntegrator(thermostat)
    for step in STEPS:
        integrator.addIntegrator(openmm.VerletIntegrator(step))
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("CPU"))
    context.setPositions(start)
    context.setVelocitiesToTemperature(TEMPERATURE, 1)
    integrator.step(round(EQUILIBRATION / 0.0003))
    state = context.getState(positions=True, velocities=True)
    longest = longest_time_step(system, state.getPositions(asNumpy=True)._value, box)
    rows = []
    for number, step in enumerate(STEPS):
        context.setState(state)
        integrator.setCurrentIntegrator(number + 1)
        energies = []
        for _ in range(RECORDS):
            integrator.step(round(DURATION / RECORDS / step))
            now = context.getState(energy=True)
            energies.append((now.getKineticEnergy() + now.getPotentialEnergy())._value)
        slope = np.polyfit(np.linspace(0, DURATION, RECORDS), energies, 1)[0] if np.isfinite(energies).all() else np.inf
        rows.append(
            {
                "amplitude (kJ/mol nm2)": amplitude,
                "wavenumber (1/nm)": wavenumber,
                "step (fs)": 1e3 * step,
                "step / longest": None if longest is None else step / longest,
                "drift (K/ps)": float(min(slope / (1.5 * BEADS * GAS_CONSTANT), 1e6)),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--amplitudes", nargs="+", type=float, default=[0.0, 0.02, 0.05, 0.1])
    parser.add_argument("--wavenumbers", nargs="+", type=float, default=[300.0, 500.0, 1000.0])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for wavenumber in arguments.wavenumbers:
        for amplitude in arguments.amplitudes:
            rows += drifts(amplitude, wavenumber)
            for row in rows[-len(STEPS) :]:
                print(json.dumps(row), flush=True)
    if arguments.json:
        write_json(arguments.json, {"machine": processor(), "versions": versions(), "rows": rows})


if __name__ == "__main__":
    main()
