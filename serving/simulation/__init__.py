"""The server's scheduler and pool in virtual time, on plants that say how long jobs take: no JAX."""
