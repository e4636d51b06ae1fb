"""Sampling of all-atom systems: free, between conformers, with beads held in place."""
