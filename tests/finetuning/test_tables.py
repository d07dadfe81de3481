"""Tables of other programs, packed ones, and files that hold other things than they should."""

import datetime
import decimal
import gzip
import json

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from regard.errors import DataError
from regard.finetuning.data import tables, writing
from regard.finetuning.data.spreadsheets import told_of_sheets

ROWS = [{"text": 'one, "two"', "label": "NA"}, {"text": "three\nfour", "label": "1"}, {"text": "ünï 漢", "label": ""}]


def refusal(path):
    """Return why a table is refused, which is the same when it is streamed."""
    told = []
    for read in (tables.read_table, lambda path: list(tables.stream(path, "text"))):
        with pytest.raises(DataError) as caught:
            read(path)
        told.append(str(caught.value))
    assert told[0] == told[1]
    assert told[0].startswith(f"{path}: need ")
    return told[0].removeprefix(f"{path}: ")


def both(path):
    """Return the rows of a table, which are the same when it is streamed."""
    rows = list(tables.read_table(path))
    assert list(tables.stream(path, "text")) == rows
    return rows


def workbook(path, rows, **others):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for name, more in others.items():
        sheet = book.create_sheet(name)
        for row in more:
            sheet.append(row)
    book.save(path)
    return path


def test_a_workbook_reads_as_texts(tmp_path):
    rows = [["text", "label"], *([row["text"], row["label"]] for row in ROWS)]
    assert both(workbook(tmp_path / "t.xlsx", rows, notes=[["other"]])) == ROWS


def test_cells_of_a_workbook_are_as_csv_would_have_them(tmp_path):
    from datetime import datetime

    rows = [["text", "n", "x"], ["a", 1, 0.5], [None, 2.0, None], [None, None, None]]
    rows.append(["=1+1", True, datetime(2024, 5, 1)])
    read = both(workbook(tmp_path / "t.XLSX", rows))
    assert read[:2] == [{"text": "a", "n": "1", "x": "0.5"}, {"text": "", "n": "2", "x": ""}]
    assert read[2] == {"text": "", "n": "True", "x": "2024-05-01"}


def test_sheets_of_a_workbook(tmp_path):
    rows, notes = [["text", "label"], ["a", "x"]], [["text", "label"], ["b", "y"]]
    path = workbook(tmp_path / "t.xlsx", rows, notes=notes, empty=[])
    assert both(path) == [{"text": "a", "label": "x"}]
    assert list(tables.read_table(path, sheet="notes")) == list(tables.stream(path, "text", sheet="notes"))
    assert list(tables.read_table(path, sheet="notes")) == [{"text": "b", "label": "y"}]
    assert told_of_sheets(path) == f"{path}: sheet 'Sheet' is read; left out: 'notes'"
    assert told_of_sheets(path, "notes") == f"{path}: sheet 'notes' is read; left out: 'Sheet'"
    with pytest.raises(DataError) as caught:
        tables.read_table(path, sheet="note")
    assert str(caught.value) == (
        f"{path}: need the sheet 'note'; got 'Sheet', 'notes', 'empty'; name one of them, as data.sheet does."
    )
    assert told_of_sheets(workbook(tmp_path / "one.xlsx", rows, empty=[], more=[[None]])) is None
    assert told_of_sheets(tmp_path / "t.csv") is None


TWICE = "need each column once; got 'text' several times; rename or drop all but one."


def test_two_columns_of_one_name_are_refused(tmp_path):
    rows = [["text", "label", "text"], ["a", "x", "b"]]
    assert refusal(workbook(tmp_path / "t.xlsx", rows)) == TWICE
    for suffix, separator in ((".csv", ","), (".csv", ";"), (".tsv", "\t")):
        path = tmp_path / f"t{suffix}"
        path.write_text("".join(separator.join(row) + "\n" for row in rows))
        assert refusal(path) == TWICE
    path = tmp_path / "t.parquet"
    columns = [pyarrow.array([cell]) for cell in rows[1]]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, names=rows[0]), path)
    assert refusal(path) == TWICE
    inner = pyarrow.StructArray.from_arrays(columns, names=rows[0])
    pyarrow.parquet.write_table(pyarrow.table({"t": pyarrow.ListArray.from_arrays([0, 1], inner)}), path)
    assert refusal(path) == TWICE


@pytest.mark.parametrize("line", ['{"text": "a", "text": "b"}', '{"x": [{"text": "a", "y": 1, "text": "a"}]}'])
def test_a_key_that_is_there_twice_is_refused(tmp_path, line):
    path = tmp_path / "t.jsonl"
    path.write_text(f'{{"text": "a"}}\n{line}\n')
    for read in (tables.read_table, lambda path: list(tables.stream(path, "text"))):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value) == f"{path}, line 2: {TWICE.replace('column', 'key')}"


def test_columns_without_a_name_hold_nothing_if_there_are_several(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,,label,\na,,x,\nb, ,y,\n")
    assert both(path) == [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    path.write_text(",text\n0,a\n")  # as pandas writes an index
    assert both(path) == [{"": "0", "text": "a"}]
    path.write_text("text,,label,\na,,x,\nb,,y,z\n")
    assert refusal(path) == (
        "need a name for each column with something in it; got 2 without one, of which column 4 holds something in row "
        "2; name it in the first row, or drop it."
    )


def test_a_workbook_with_cells_beside_its_columns_is_refused(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["text"], ["a"], ["b", "c"]])
    assert refusal(path).startswith("need 1 cells in each row, as in the first; got 2 in row 3;")


def test_an_empty_workbook_has_no_rows(tmp_path):
    assert both(workbook(tmp_path / "t.xlsx", [])) == []


def test_what_is_no_workbook_is_refused(tmp_path):
    path = tmp_path / "t.xlsx"
    path.write_bytes(b"no workbook")
    assert refusal(path).startswith("need an Excel workbook (.xlsx); got another file (")
    whole = workbook(tmp_path / "whole.xlsx", [["text"], ["a"]]).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert refusal(path).startswith("need an Excel workbook (.xlsx); got another file (")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_packed_tables(tmp_path, suffix):
    with writing.TableWriter(tmp_path / f"t{suffix}") as writer:
        writer.write(ROWS)
    packed = tmp_path / f"t{suffix}.gz"
    packed.write_bytes(gzip.compress((tmp_path / f"t{suffix}").read_bytes()))
    assert both(packed) == ROWS
    packed.write_bytes(packed.read_bytes()[:-12])
    assert refusal(packed).startswith("need a file packed by gzip; got another (")
    packed.write_bytes(b"text\na\n")
    assert refusal(packed).startswith("need a file packed by gzip; got another (Not a gzipped file")


def test_packed_lines(tmp_path):
    path = tmp_path / "t.txt.gz"
    path.write_bytes(gzip.compress(b"one\n\ntwo\n"))
    assert list(tables.stream(path, "line")) == [{"line": "one"}, {"line": "two"}]


def test_a_line_ends_where_lines_end(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes("one\x0ca\r\ntwo\x85b\rthree\u2028c\x1cd\n \x0c\n".encode())
    lines = ["one\x0ca", "two\x85b", "three\u2028c\x1cd"]
    assert [row["line"] for row in tables.stream(path, "line")] == lines


def test_a_parquet_file_is_not_packed_twice(tmp_path):
    path = tmp_path / "t.parquet.gz"
    path.touch()
    assert "got '.parquet.gz'; convert it." in refusal_of_reading(path)


def refusal_of_reading(path):
    with pytest.raises(DataError) as caught:
        tables.read_table(path)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": "\\ud800"}', "need whole characters; got half of a surrogate pair (\\ud800) in row 2; correct it or"),
        ('{"\\udc00": 1}', "need whole characters; got half of a surrogate pair (\\udc00) in row 2; correct it or"),
        ('{"a": ' + "[" * 100_000, "need one JSON object a line; got 'maximum recursion depth exceeded"),
        ('{"a": ' + "9" * 5000 + "}", "need one JSON object a line; got 'Exceeds the limit (4300 digits)"),
    ],
    ids=["half", "half-in-a-name", "deep", "digits"],
)
def test_json_that_no_table_holds(tmp_path, line, message):
    path = tmp_path / "t.jsonl"
    path.write_text(f'{{"a": "one"}}\n{line}\n')
    assert refusal(path).startswith(message)


def test_whole_pairs_are_characters(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": "\\ud83d\\ude00 \\\\ud800"}\n')
    assert both(path) == [{"a": "😀 \\ud800"}]


@pytest.mark.parametrize(
    ("values", "got"),
    [
        (["a", 1], "int after str in row 2"),
        ([1, None, "a"], "str after int in row 3"),
        (["a", ["b"]], "list after str in row 2"),
        ([{"a": 1}, [2]], "list after dict in row 2"),
        ([1, 10**30], "a number of more than 64 bits in row 2"),
    ],
)
def test_values_of_several_kinds_are_told_with_their_row(tmp_path, values, got):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps({"ok": 1, "a": value}) + "\n" for value in values))
    expected = f"need values of one kind in the column 'a'; got {got}; write them alike."
    assert refusal_of_reading(path) == expected


def test_values_of_several_kinds_inside_of_lists(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": [1, "b"]}\n')
    assert refusal_of_reading(path).startswith("need values of one kind in each column; got others (")


def parquet(path):
    pyarrow.parquet.write_table(pyarrow.table({"text": [f"text {n}" for n in range(2000)]}), path)
    return path.read_bytes()


def test_damaged_parquet_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    whole = parquet(path)
    for damaged in (
        b"",
        b"no parquet",
        whole[:-20],
        whole[: len(whole) // 2],
        whole[:100] + b"\xff" * 200 + whole[300:],
    ):
        path.write_bytes(damaged)
        assert refusal(path).startswith("need a Parquet file; got one that cannot be read (")


def test_parquet_with_bytes_that_are_no_text_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    wrong = pyarrow.Array.from_buffers(
        pyarrow.string(), 1, [None, pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0"), pyarrow.py_buffer(b"\xff\xfe")]
    )
    pyarrow.parquet.write_table(pyarrow.table({"text": wrong}), path)
    assert refusal_of_reading(path).startswith("need a Parquet file; got one that cannot be read (")
    with pytest.raises(DataError, match="need a Parquet file; got one that cannot be read"):
        list(tables.stream(path, "text"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_very_many_columns_are_refused_at_once(tmp_path, suffix):
    names, path = [f"c{n}" for n in range(20_000)], tmp_path / f"t{suffix}"
    if suffix == ".csv":
        path.write_text(",".join(names) + "\n")
    elif suffix == ".jsonl":
        path.write_text(json.dumps(dict.fromkeys(names, 1)) + "\n")
    else:
        pyarrow.parquet.write_table(pyarrow.table({name: [1] for name in names}), path)
    assert refusal(path) == "need at most 10,000 columns; got 20,000; leave some out."


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_names_with_null_characters_are_refused(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"te\0xt": ["a"]}), path)
    else:
        path.write_text("te\0xt,b\na,b\n" if suffix == ".csv" else '{"te\\u0000xt": "a"}\n')
    assert refusal_of_reading(path) == "need names without null characters; got a column with one; rename it."


def test_keys_that_begin_in_a_later_line_are_columns_and_numbers_keep_their_digits(tmp_path):
    """datasets alone takes the columns of the first row, and gives NumPy half of a number's digits (`findings/`)."""
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b", "number": 16777217.0}\n')
    assert list(tables.read_table(path)) == [{"text": "a", "number": None}, {"text": "b", "number": 16777217.0}]


def test_columns_of_kinds_that_are_not_read(tmp_path):
    path = tmp_path / "t.parquet"
    kind = pyarrow.map_(pyarrow.string(), pyarrow.int64())
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "x": pyarrow.array([[("b", 1)]], kind)}), path)
    told = refusal_of_reading(path)
    assert told.startswith("need columns of kinds that are read; got another (Arrow type map<string, int64")
    assert told.endswith("); drop it, or write it as text.")


def test_what_json_does_not_hold_is_written_as_text(tmp_path):
    day, number = datetime.datetime(2024, 5, 1, 12), decimal.Decimal("0.10")
    rows = [{"a": day, "b": day.date(), "c": number, "d": day.time(), "e": datetime.timedelta(1), "f": float("nan")}]
    with writing.TableWriter(tmp_path / "t.jsonl") as writer:
        writer.write(rows)
    assert list(tables.read_table(tmp_path / "t.jsonl")) == [
        {"a": "2024-05-01T12:00:00", "b": "2024-05-01", "c": "0.10", "d": "12:00:00", "e": "1 day, 0:00:00", "f": None}
    ]
    with pytest.raises(DataError) as caught, writing.TableWriter(tmp_path / "u.jsonl") as writer:
        writer.write([{"a": b"x"}])
    expected = f"{tmp_path / 'u.jsonl'}: need values that JSON holds; got bytes; write to a .parquet file."
    assert str(caught.value) == expected


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_very_many_labels_are_refused_in_seconds(values, tmp_path, kind):
    from regard.finetuning.check import check

    path = tmp_path / "t.jsonl"
    labels = [f"L{n // 2}" for n in range(40_000)]
    rows = ({"t": f"film {n}", "l": [label] if kind == "multi" else label} for n, label in enumerate(labels))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values["data"] |= {"train": str(path), "validation": 0.2, "test": 0.2, "columns": {"text": "t", "label": "l"}}
    with pytest.raises(DataError) as caught:
        check(values)
    assert str(caught.value).startswith(f"{path}: need at most 5,000 labels; got ")


@pytest.mark.parametrize("text", [["a"], {"a": 1}])
def test_texts_that_are_none_are_told_before_they_are_parted(values, tmp_path, text):
    from regard.finetuning.check import check

    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps({"t": text, "l": n % 2}) + "\n" for n in range(40)))
    values["data"] |= {"train": str(path), "validation": 0.2, "test": 0.2, "columns": {"text": "t", "label": "l"}}
    with pytest.raises(DataError) as caught:
        check(values)
    assert str(caught.value).startswith(f"{path}: need ")


@pytest.mark.parametrize("label", ["--5", "-²", "²", "٣"])
def test_labels_that_are_nearly_numbers(values, tmp_path, label):
    from regard.finetuning.check import check

    path = tmp_path / "t.csv"
    path.write_text("t,l\n" + "".join(f"film {'the ' * (n % 9)}{n},{[label, '7'][n % 2]}\n" for n in range(60)))
    values["data"] |= {"train": str(path), "validation": 0.2, "test": 0.2, "columns": {"text": "t", "label": "l"}}
    assert sorted(check(values).spec.labels) == sorted([label, "7"])
