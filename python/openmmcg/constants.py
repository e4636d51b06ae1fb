"""Constants of nature in OpenMM's units."""

from openmm import unit

GAS_CONSTANT: float = unit.MOLAR_GAS_CONSTANT_R.value_in_unit(unit.kilojoule_per_mole / unit.kelvin)
"""R, kJ/mol/K, with which k_B T of a mole is R T."""

BAR: float = (1 * unit.bar * unit.AVOGADRO_CONSTANT_NA).value_in_unit(unit.kilojoule_per_mole / unit.nanometer**3)
"""A bar, kJ/mol/nm³."""

GRAM_PER_CUBIC_CENTIMETER: float = 1e-21 * unit.AVOGADRO_CONSTANT_NA.value_in_unit(unit.mole**-1)
"""amu/nm³"""
