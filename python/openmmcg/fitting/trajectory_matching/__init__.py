"""Networks that are fitted to structure and pressure through trajectories of their own."""
