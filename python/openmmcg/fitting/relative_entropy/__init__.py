"""Relative entropy minimisation."""
