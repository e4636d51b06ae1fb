"""Constants of nature in OpenMM's units."""

from openmm import unit

GAS_CONSTANT: float = unit.MOLAR_GAS_CONSTANT_R.value_in_unit(unit.kilojoule_per_mole / unit.kelvin)
"""R, kJ/mol/K, with which k_B T of a mole is R T."""
