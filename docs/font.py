"""Makes stylesheets/chinese.woff: the Chinese characters of navigation, start page and notebooks, of Noto Sans SC.

    python docs/font.py NotoSansSC-Regular.otf

The font is Adobe's and Google's, under the SIL Open Font License 1.1: https://openfontlicense.org. Readers who have
Chinese fonts see their own.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
FONT = DOCS / "stylesheets" / "chinese.woff"
CHINESE = re.compile(r"[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]")


def characters() -> set[str]:
    """Every Chinese character that must be there whatever fonts a reader has."""
    notebooks = [json.loads(path.read_text(encoding="utf-8")) for path in DOCS.glob("notebooks/*.ipynb")]
    cells = ["".join(cell["source"]) for notebook in notebooks for cell in notebook["cells"]]
    texts = [path.read_text(encoding="utf-8") for path in (DOCS.parent / "mkdocs.yml", DOCS / "index.md")]
    return {*CHINESE.findall("".join([*texts, *cells]))}


if __name__ == "__main__":
    from fontTools import subset

    options = subset.Options(flavor="woff", layout_features=[], notdef_outline=True)
    font = subset.load_font(sys.argv[1], options)
    chosen = subset.Subsetter(options)
    chosen.populate(text="".join(sorted(characters())))
    chosen.subset(font)
    subset.save_font(font, FONT, options)
    print(f"{FONT}: {len(characters())} characters, {FONT.stat().st_size:,} bytes")
