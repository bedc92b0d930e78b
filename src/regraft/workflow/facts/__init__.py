"""Facts about a package: who claims what, what follows from it, and where the claims contradict each other."""
