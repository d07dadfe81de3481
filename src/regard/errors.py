"""Everything that Regard raises on purpose: one base and its children.

A message says who needs what, what came, and what to do, in one sentence.
"""

from regard._spoken import tell


class RegardError(Exception):
    """Base of every error that Regard raises on purpose, told in the reader's language; `args` stay English."""

    def __str__(self) -> str:
        return tell(super().__str__())


class ShapeError(RegardError, ValueError):
    """Arrays whose shapes do not fit together."""


class DtypeError(RegardError, TypeError):
    """An array of the wrong type, or arrays of several types, devices or frameworks."""


class UnsupportedError(RegardError, NotImplementedError):
    """Something that is asked for by name and cannot be done."""


class TooLargeError(RegardError, MemoryError):
    """A dense result above the limit on its size."""


class DataError(RegardError, ValueError):
    """Data that cannot be read, trained on or predicted from."""


class ConfigError(RegardError, ValueError):
    """A configuration that names what does not exist or asks for what cannot be."""


class OutOfRangeError(ShapeError, IndexError):
    """An index beyond the axis that it indexes."""
