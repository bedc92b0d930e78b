"""Where two models differ: noise floors, divergence in units of them, and the verdict."""
