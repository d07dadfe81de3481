"""Models whose linear layers compute in whole numbers of eight bits, for predicting and to export."""

LEAST = 16
"""Outputs of a layer that is quantised: one that tells few labels costs nothing, and its rounding is in the answer."""
MOST = 0.02
"""How much worse the first measure may become, as a share of what it was, unless told otherwise."""
