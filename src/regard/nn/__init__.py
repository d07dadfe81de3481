"""Layers: parameters, and one call to `regard.attention`. One file a library: `keras.py`."""
