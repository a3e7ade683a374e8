"""Everything that speaks to clients: what frontends share, and one folder per protocol."""
