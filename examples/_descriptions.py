"""What Debian's packages say of themselves, in several languages.

It is in Debian's package index, which apt downloads and whose signature it checks; it is kept and changes nothing of
the system.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

Package = tuple[str, list[str]]
"""The line that says what it is, and the paragraphs of its description."""


def index(folder: Path, language: str) -> str:
    """The index of a language, such as en or zh_CN; only the first call needs the network."""
    kept = folder / f"Translation-{language}"
    if not kept.is_file():
        if not shutil.which("apt-get"):
            sys.exit("get_data: need apt-get, as on Debian and Ubuntu; got none; use a table of your own instead.")
        print(f"Downloading Debian's package index, {language} (once).", flush=True)
        state = (folder / f"apt-{language}").resolve()
        (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        places = [f"Dir::State::lists={state}/lists", f"Dir::Cache={state}", f"Acquire::Languages={language}"]
        options = [part for place in places for part in ("-o", place)]
        if subprocess.run(["apt-get", "-qq", *options, "update"], stderr=subprocess.DEVNULL).returncode:
            sys.exit("get_data: apt-get could not download the index; connect to a Debian mirror once, then run again.")
        files = (state / "lists").glob(f"*_main_i18n_Translation-{language.replace('_', '%5f')}*")
        largest = max(files, key=lambda path: path.stat().st_size)
        text = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", largest], capture_output=True, check=True).stdout
        kept.write_bytes(text)
        shutil.rmtree(state)
    return kept.read_text(encoding="utf-8")


def packages(text: str, language: str) -> Iterator[tuple[str, Package]]:
    """Yield of each package which description it is, the same in every language, and what that says."""
    for entry in text.split("\n\n"):
        head, found, told = entry.partition(f"Description-{language}: ")
        if found:
            synopsis, *lines = told.split("\n")
            blocks = "\n".join(line[1:] for line in lines if line.startswith(" ")).split("\n.\n")
            name = re.search(r"Description-md5: (\w+)", head)
            yield (
                name[1] if name else "",
                (synopsis.strip(), [" ".join(block.split()) for block in blocks if block.strip()]),
            )
