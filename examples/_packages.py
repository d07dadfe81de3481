"""Data that Debian ships: a package is downloaded and unpacked without root, not installed, and kept."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def from_debian(package: str, inside: str, sha256: str, folder: Path, elsewhere: str) -> Path:
    """The folder `inside` of a Debian package, as a folder here; only the first call needs the network.

    Args:
        package: Its name.
        inside: Which of its folders, as in "usr/share/datasets".
        sha256: Of that folder's files, see `digest`: the package's version may differ, its data must not.
        folder: Where it is kept.
        elsewhere: What to do where there is no Debian, to end a message with.
    """
    kept = folder / package
    if not kept.is_dir():
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            sys.exit(f"{package}: need apt-get and dpkg-deb, as on Debian and Ubuntu; got neither; {elsewhere}")
        with tempfile.TemporaryDirectory() as temporary:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.move(_unpacked(package, Path(temporary), elsewhere) / inside, kept)
    found = digest(kept)
    if found != sha256:
        sys.exit(f"{package}: need files with sha256 {sha256[:12]}...; got {found[:12]}...; delete {kept}, run again.")
    return kept


def _unpacked(package: str, temporary: Path, elsewhere: str) -> Path:
    print(f"Downloading {package} from Debian (once).", flush=True)
    done = subprocess.run(["apt-get", "-qq", "download", package], cwd=temporary, stderr=subprocess.DEVNULL)
    archives = list(temporary.glob("*.deb"))
    if done.returncode or len(archives) != 1:
        sys.exit(f"{package}: apt-get could not download it; run `apt-get update` once, or {elsewhere}")
    subprocess.run(["dpkg-deb", "-x", archives[0], temporary], check=True)
    return temporary


def digest(folder: Path) -> str:
    """One sha256 of all files' names and contents; of what is compressed, the contents before."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        total.update(f"{path.relative_to(folder).as_posix()} {hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()
