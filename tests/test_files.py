"""Files and folders have their names once they are whole, or never; what a link points to is left alone."""

import os
import stat

import pytest

from regard import _files
from regard.errors import DataError


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
