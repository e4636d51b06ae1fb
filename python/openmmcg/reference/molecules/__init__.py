"""All-atom systems: what to sample."""
