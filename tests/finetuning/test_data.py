"""Tables: every format, people's own columns, and where in a file something is wrong."""

import json

import pytest
from datasets import Dataset

from regard.errors import DataError
from regard.finetuning.data import columns, tables, writing

ROWS = [{"text": 'one, "two"', "label": "NA"}, {"text": "three\nfour", "label": "1"}, {"text": "ünï 漢", "label": ""}]


def refusal(function, *args):
    with pytest.raises(DataError) as caught:
        function(*args)
    return str(caught.value)


def write(path, rows, at_a_time=2):
    with writing.TableWriter(path) as writer:
        for start in range(0, len(rows), at_a_time):
            writer.write(rows[start : start + at_a_time])


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_what_is_written_reads_back(tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    write(path, ROWS)
    assert list(tables.read_table(path)) == ROWS
    assert list(tables.stream(path, "text")) == ROWS
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_what_is_not_written_to_the_end_is_not_there(tmp_path, suffix):
    def interrupted():
        with writing.TableWriter(tmp_path / f"table{suffix}") as writer:
            writer.write(ROWS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_rows_with_other_columns(tmp_path):
    path = tmp_path / "table.csv"
    assert refusal(write, path, [*ROWS, {"text": "a", "more": 1}]).startswith(
        f"{path}: need the same columns in all rows; got others after the first 2 ("
    )


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_machine(tmp_path, ends):
    path = tmp_path / "table.csv"
    path.write_bytes(ends.join(["text,label", '"a', 'b",1', "c,2"]).encode())
    expected = [{"text": f"a{ends}b", "label": "1"}, {"text": "c", "label": "2"}]
    assert list(tables.read_table(path)) == list(tables.stream(path, "text")) == expected


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_in_other_dialects(tmp_path, separator):
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"text{separator}label\r\na b{separator}x\r\n\r\nc{separator}y\r\n".encode())
    assert list(tables.read_table(path)) == [{"text": "a b", "label": "x"}, {"text": "c", "label": "y"}]


def test_nested_values_become_columns(tmp_path):
    write(tmp_path / "t.csv", [{"a": 1, "b": {"x": 0.5, "y": 0.25}}])
    assert (tmp_path / "t.csv").read_text() == "a,b_x,b_y\n1,0.5,0.25\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.csv",
            "text,label\ngood,1\ncaf\xe9,0\n".encode("latin-1"),
            "{path}: need text in UTF-8; got byte 0xe9 at line 3, byte 4 of it; save the file as UTF-8, for example "
            "with 'iconv -f latin1 -t utf-8'.",
        ),
        (
            "t.csv",
            b"text,label\ngood,1\nbad,0,0\n",
            "{path}: need 2 cells in each row, as in the first; got 3 at line 3; put texts that hold the separator in "
            "double quotes.",
        ),
        (
            "t.csv",
            b'text,label\n"good,1\n',
            "{path}: need valid quoting; got 'unexpected end of data' at line 2; correct it.",
        ),
        (
            "t.jsonl",
            b'{"a": 1}\n{"a": }\n',
            "{path}: need one JSON object a line; got 'Expecting value' at line 2; correct it.",
        ),
        ("t.jsonl", b"[1]\n", "{path}: need one JSON object a line; got list at line 1; correct it."),
        (
            "t.xls",
            b"",
            "{path}: need a file of type .csv, .tsv, .jsonl, .parquet, .xlsx, .csv.gz, .tsv.gz, .jsonl.gz; got '.xls'; "
            "convert it.",
        ),
    ],
)
def test_unreadable(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    assert refusal(tables.read_table, path) == message.format(path=path)


def test_a_missing_file_names_its_neighbours(tmp_path):
    there, gone = tmp_path / "reviews.csv", tmp_path / "revews.csv"
    expected = f"{gone}: need a file to read; got nothing there; '{tmp_path}' holds no table, correct the path."
    assert refusal(tables.read_table, gone) == expected
    there.touch()
    assert (
        refusal(tables.read_table, gone) == f"{gone}: need a file to read; got nothing there; did you mean '{there}'?"
    )
    far = tmp_path / "xyz"
    expected = f"{far}: need a file to read; got nothing there; '{tmp_path}' holds 'reviews.csv', correct the path."
    assert refusal(tables.read_table, far) == expected
    lost = tmp_path / "no" / "t.csv"
    expected = (
        f"{lost}: need a file to read; got nothing there; there is no folder '{lost.parent}' either, correct the path."
    )
    assert refusal(tables.read_table, lost) == expected


def test_columns_are_renamed():
    table = Dataset.from_dict({"text": ["x"], "sentence": ["a"], "rating": ["1"]})
    taken = columns.take_columns(table, {"text": "sentence", "label": "rating"}, "t.csv")
    assert list(taken) == [{"text": "a", "label": "1"}]


def test_an_unknown_column_is_told_with_those_that_exist():
    table = Dataset.from_dict({"sentence": ["a"], "rating": ["1"]})
    assert refusal(columns.take_columns, table, {"text": "sentense"}, "t.csv") == (
        "t.csv: need the column 'sentense'; got 'sentence', 'rating'; set data.columns.text to one of them, perhaps "
        "'sentence'."
    )


def test_two_roles_do_not_share_a_column():
    table = Dataset.from_dict({"text": ["x"], "label": ["a"]})
    assert refusal(columns.take_columns, table, {"text": "text", "label": "text"}, "t.csv") == (
        "t.csv: need a column of its own for each of data.columns.text and data.columns.label; got 'text' twice; name "
        "another."
    )
    swapped = columns.take_columns(table, {"text": "label", "label": "text"}, "t.csv")
    assert list(swapped) == [{"text": "a", "label": "x"}]


def test_a_table_without_rows_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,label\n")
    table = tables.read_table(path)
    expected = "t.csv: need rows to work on; got a table without any; choose another file."
    assert refusal(columns.take_columns, table, {"text": "text"}, "t.csv") == expected
    path.write_text("")
    assert refusal(columns.take_columns, tables.read_table(path), {"text": "text"}, "t.csv") == expected


def test_lines_of_text(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("one\n\n  \ntwo\n")
    assert list(tables.stream(path, "line")) == [{"line": "one"}, {"line": "two"}]


def test_nothing_is_written_over(tmp_path):
    path = tmp_path / "t.jsonl"
    write(path, ROWS)
    assert json.loads(path.read_text().splitlines()[0]) == ROWS[0]
    assert refusal(write, path, []) == f"{path}: need a new file to write; got one that exists; name another."
    path = tmp_path / "t.xls"
    expected = f"{path}: need a file of type .csv, .tsv, .jsonl, .parquet to write; got '.xls'; rename it."
    assert refusal(write, path, []) == expected
    path = tmp_path / "no" / "t.csv"
    expected = f"{path}: need a folder to write into; got none at '{path.parent}'; make it."
    assert refusal(write, path, []) == expected
