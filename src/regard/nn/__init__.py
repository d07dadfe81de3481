"""Layers: parameters, and one call to `regard.attention`. One package a library: `keras`."""
