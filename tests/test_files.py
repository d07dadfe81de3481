"""Files and folders have their names once they are whole, or never; what a link points to is left alone."""

import errno
import os
import re
import stat
from pathlib import Path

import pytest

from regard import _files
from regard.errors import DataError
from regard.finetuning.locks import alone


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_its_name_once_it_is_whole(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")
    with _files.whole(path) as aside:
        assert aside.parent == tmp_path
        assert aside.suffix == ".html"  # which decides the format of a picture
        aside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["page.html"]


def test_what_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")

    def interrupted():
        with _files.whole(path) as aside:
            aside.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["page.html"]


REASONS = {
    OSError(errno.ENOSPC, "none"): errno.ENOSPC,
    OSError("Unable to write (file write failed: errno = 28, error message = 'none')"): errno.ENOSPC,  # HDF5
    Exception("Error while serializing: I/O error: none (os error 27)"): errno.EFBIG,  # safetensors and tokenizers
    OSError("[Errno 28] Error writing bytes to file"): errno.ENOSPC,  # Arrow
    RuntimeError("PytorchStreamWriter failed writing file data/0"): errno.ENOSPC,
}


@pytest.mark.parametrize("raised", REASONS, ids=str)
def test_whichever_way_a_full_disk_is_told_it_names_the_path(tmp_path, raised):
    path = tmp_path / "page.html"
    path.write_text("old")

    def interrupted():
        with _files.whole(path) as aside:
            aside.write_text("ne")
            raise raised

    with pytest.raises(OSError, match=re.escape(f": '{path}'")) as caught:
        interrupted()
    assert (caught.value.errno, caught.value.filename) == (REASONS[raised], str(path))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["page.html"]


@pytest.mark.parametrize(
    "raised",
    [
        OSError(errno.ENOENT, "none", "/other/picture.png"),
        OSError(errno.ENOSPC, "none", "/other/cache"),
        OSError(errno.ENOENT, "none"),
        BrokenPipeError(errno.EPIPE, "none"),
        ValueError("os error 2"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_what_is_no_error_of_writing_passes_as_it_is(tmp_path, raised):
    with pytest.raises(type(raised)) as caught, _files.whole(tmp_path / "page.html"):
        raise raised
    assert caught.value is raised


@pytest.mark.parametrize("folder", ["", "no", "file"])
def test_a_place_that_takes_no_file_is_named(tmp_path, folder):
    (tmp_path / "file").touch()
    path = tmp_path / folder / "page.html" if folder else Path("/sys/page.html")
    with pytest.raises(OSError, match=r"page\.html") as caught:
        _files.write_text(path, "new")
    assert caught.value.filename == str(path)
    assert names(tmp_path) == ["file"]


def test_a_lock_that_cannot_be_written_names_what_it_is_of(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "none")

    monkeypatch.setattr(Path, "write_text", full)
    for path in (tmp_path / "a.csv", Path("/sys/a.csv")):
        with pytest.raises(OSError, match=r"a\.csv") as caught, alone(path):
            pass
        assert caught.value.filename == str(path)
    assert names(tmp_path) == []


def test_a_folder_takes_the_place_of_another(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").touch()
    with _files.whole(path) as aside:
        aside.mkdir()
        (aside / "new").touch()
        assert names(path) == ["old"]
    assert names(path) == ["new"]
    assert names(tmp_path) == ["model"]


def test_no_two_share_a_place(tmp_path):
    with _files.whole(tmp_path / "a.csv") as one, _files.whole(tmp_path / "a.csv") as other:
        assert one != other
        one.touch()
        other.touch()


def test_others_may_read_what_they_might_before(tmp_path):
    before = os.umask(0o022)
    try:
        _files.write_text(tmp_path / "a", "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_written_over_or_through_a_link(tmp_path, there):
    precious, path = tmp_path / "precious", tmp_path / "page.html"
    if there:
        precious.write_text("precious")
    path.symlink_to(precious)
    with pytest.raises(DataError) as caught:
        _files.write_text(path, "new")
    assert str(caught.value) == (
        f"{path}: need a file or folder of its own to write; got a link; name what it points to."
    )
    assert path.is_symlink()
    assert precious.exists() == there
    assert not there or precious.read_text() == "precious"


def test_what_killed_writers_left_is_known(tmp_path):
    path, other = tmp_path / "a.b.csv", tmp_path / "b.csv"
    left, theirs = _files.beside(path), _files.beside(other)
    for each in (left, theirs, tmp_path / ".a.b.csv", tmp_path / ".a.b.tmp.csv", tmp_path / ".a.b.123.tmp.csv"):
        each.touch()
    assert _files.is_leftover(left)
    assert not _files.is_leftover(tmp_path / ".a.b.tmp.csv")
    _files.sweep(path)
    assert not left.exists()
    assert names(tmp_path) == sorted([".a.b.csv", ".a.b.tmp.csv", ".a.b.123.tmp.csv", theirs.name])


def test_deleting_a_link_leaves_what_it_points_to(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    _files.remove(tmp_path / "link")
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder") == ["precious"]


@pytest.mark.parametrize("text", ["{", "[]", '"a"', ""])
def test_a_file_that_holds_no_object_is_refused(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        _files.read_json(path)
    assert str(caught.value) == f"{path}: need a file with one JSON object; got something else; put back what it was."
