"""The pressure of argon and methane at the density of the liquid, with ε in kcal/mol and, as some papers print, kJ/mol.

    python benchmarks/reference_liquids.py --json benchmarks/results/reference_liquids.json

A liquid near its boiling point has next to no pressure at its own density; a fluid that would be a gas has a lot.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import openmm
from md_water import processor, versions

from openmmcg.reference import argon_box, methane_box
from openmmcg.reference.molecules.water import AllAtomSystem
from openmmcg.state import write_json

EQUILIBRATION, DURATION, RECORDS = 10.0, 30.0, 60  # ps, ps
_CALORIE = 4.184


def pressure(box: AllAtomSystem, temperature: float, time_step: float) -> tuple[float, float]:
    """Mean pressure, bar, and its standard error."""
    barostat = openmm.MonteCarloBarostat(1.0, temperature, 0)  # never tries, but knows the pressure
    box.system.addForce(barostat)
    integrator = openmm.LangevinMiddleIntegrator(temperature, 1.0, time_step)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(box.system, integrator, openmm.Platform.getPlatformByName("CPU"))
    context.setPositions(box.positions)
    context.setVelocitiesToTemperature(temperature, 1)
    integrator.step(round(EQUILIBRATION / time_step))
    values = []
    for _ in range(RECORDS):
        integrator.step(round(DURATION / RECORDS / time_step))
        values.append(barostat.computeCurrentPressure(context)._value)
    return float(np.mean(values)), float(np.std(values) / RECORDS**0.5)


def in_kilojoules(box: AllAtomSystem) -> AllAtomSystem:
    """The same with well depths smaller by a calorie."""
    force = next(force for force in box.system.getForces() if isinstance(force, openmm.NonbondedForce))
    for atom in range(force.getNumParticles()):
        charge, sigma, epsilon = force.getParticleParameters(atom)
        force.setParticleParameters(atom, charge, sigma, epsilon / _CALORIE)
    return box


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name, make, molecules, temperature, time_step in (
        ("argon", argon_box, 216, 94.4, 0.004),
        ("methane", methane_box, 125, 111.7, 0.002),
    ):
        for unit, change in (("kcal/mol", lambda box: box), ("kJ/mol", in_kilojoules)):
            mean, error = pressure(change(make(molecules)), temperature, time_step)
            rows.append({"liquid": name, "unit of epsilon": unit, "T (K)": temperature, "bar": mean, "error": error})
            print(json.dumps(rows[-1]), flush=True)
    if arguments.json:
        write_json(arguments.json, {"machine": processor(), "versions": versions(), "rows": rows})


if __name__ == "__main__":
    main()
