"""What loads a model or what prepares its inputs: a sentence where the files of others do not."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regard.errors import ConfigError, RegardError


@contextmanager
def loading(what: str, source: str | Path) -> Iterator[None]:
    """Say in a sentence that files do not load, whatever a library raises for them.

    Args:
        what: is loaded, such as `weights`.
        source: where it lies.

    Raises:
        ConfigError: it does not load; memory and disk that run out are told as such.
    """
    try:
        yield
    except (RegardError, MemoryError, ModuleNotFoundError):
        raise
    except Exception as error:
        if "can't allocate memory" in str(error) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        told = " ".join(str(error).split())[:150] or type(error).__name__
        raise ConfigError(
            f"{source}: need {what} that loads; got files of which it does not ({told}); save or fetch them again."
        ) from error
