"""Traffic, faults and reloads on a virtual clock: the real actors, simulated providers, hours in seconds."""
