"""Iterative Boltzmann inversion."""
