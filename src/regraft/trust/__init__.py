"""Trust: is it safe to load, where is it from, what may be done with it."""
