"""Quantum-chemical labels of frames."""
