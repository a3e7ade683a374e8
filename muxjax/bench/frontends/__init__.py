"""The frontends part of the benchmark: a server whose unit costs nothing, and its load, in processes of their own."""
