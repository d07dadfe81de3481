"""Fetch a font with Chinese letters for pictures, where none is installed: WenQuanYi Micro Hei, of Debian's package.

export REGARD_FONT=$(python examples/chinese/get_font.py)        # kept in data/chinese
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from _packages import from_debian

FONT = (
    "fonts-wqy-microhei",
    "usr/share/fonts/truetype/wqy",
    "3e4583ea8e08c12db095be4c91e8c7f88e03095a25d3f339203bfd5f229f60b5",
)

if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        folder = from_debian(*FONT, Path(*sys.argv[1:2] or ["data/chinese"]), "install a font instead.")
    print((folder / "wqy-microhei.ttc").resolve())
