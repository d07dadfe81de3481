"""Models whose linear layers compute in whole numbers of eight bits, for predicting and to export."""
