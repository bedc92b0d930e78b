"""The mutation corpus: reference networks, single faults planted in them, and conversions that are benign.

`corpus.mutants()` and `benign.pairs()` are what a localiser is measured on; `variants` writes a mutant in the forms
that converters leave behind (renamed, rounded to bfloat16, fused).
"""
