"""Vectors as sums of parts, one for each token: how they are carried through a model, and through one block."""
