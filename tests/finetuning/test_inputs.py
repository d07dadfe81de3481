"""What a command is given: files are files, texts are texts, and neither is taken for the other."""

import os

import numpy as np
import pytest
from typer.testing import CliRunner

import regard
from conftest import write_csv
from regard.cli import app
from regard.commands.inputs import looks_like_a_path
from regard.errors import DataError
from regard.finetuning.data.tables import read_table

PATHS = [
    "tickets.xlsx", "./missing/notes.md", "tickets.csv.gz", "TICKETS.CSV", "notes.md", "~/notes", "~", "/data/tickets",
    "../reviews", "./reviews", "photos/", "data_2024/tickets", "C:\\data\\tickets.csv", "C:/tickets", "model.bin",
    "tickets.xslx", "archive.tar.gz", "./my files/notes 2.md", "a.b-c.txt", "http://example.org/reviews.csv", "cat.PNG",
    "s3://bucket/key", "speech.wav", "missing/notes.md", "reviews.jsonl.zst",
]  # fmt: skip
TEXTS = [
    "and/or", "3.5", "I love U.S.A.", "U.S.A.", "U.S.A", "e.g.", "yes/no", "24/7", "km/h", "he/she/they", "film",
    "I read tickets.csv", "Open ./notes.md now please.", "a - b", "1/2", "wow...great", "So good.", "...", "v1.0",
    "/ is a slash", "3.5kg", "10.000,50", "what?/no", "It cost $3.99", "a.m.", "line one\nnotes.md", "", "  ", ":-/",
    "C: was sold", "~5 minutes", "-", "日本語/英語", "Mr.Smith", "e.g", "No.1", "x" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("text", PATHS)
def test_what_looks_like_a_path(text):
    assert looks_like_a_path(text)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text)[:20])
def test_what_looks_like_a_text(text):
    assert not looks_like_a_path(text)


def test_a_name_in_a_folder_that_is_there_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "and").mkdir()
    assert looks_like_a_path("and/or")


def run(*arguments, piped=None):
    return CliRunner().invoke(app, list(map(str, arguments)), input=piped, env={"COLUMNS": "200"})


def refused(result):
    assert result.exit_code == 2, (result.stdout, result.exception)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("regard: ").strip()


@pytest.mark.parametrize("command", ["predict", "look"])
@pytest.mark.parametrize("text", ["tickets.xlsx", "./missing/notes.md", "tickets.csv.gz", "~/no-such-notes"])
def test_a_file_that_is_not_there_is_refused(finished, tmp_path, monkeypatch, command, text):
    monkeypatch.chdir(tmp_path)
    told = refused(run(command, finished.path, text))
    assert told.startswith(f"{text}: need a file to read; got nothing there; ")
    assert told.endswith("; say --text if it is a text.")
    assert run(command, finished.path, text, "--text").exit_code == 0


def test_an_address_is_no_file(finished):
    expected = "need a file on this disk; got an address; fetch it, or say --text if it is a text."
    assert refused(run("predict", finished.path, "https://a.example/b.csv")) == f"https://a.example/b.csv: {expected}"


@pytest.mark.parametrize("command", ["predict", "look"])
@pytest.mark.parametrize("text", ["and/or", "3.5", "I love U.S.A."])
def test_texts_with_signs_of_paths_are_texts(finished, command, text):
    assert run(command, finished.path, text).exit_code == 0


def test_lines_of_standard_input(finished, tmp_path):
    result = run("predict", finished.path, "-", piped="a superb film\n\ndull\n")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["positive", "negative"]
    result = run("predict", finished.path, "-", "-o", tmp_path / "p.csv", piped="a superb film\ndull\n")
    assert result.stdout == f"2 predictions: {tmp_path / 'p.csv'}\n"
    rows = list(read_table(tmp_path / "p.csv"))
    assert [(row["sentence"], row["label"]) for row in rows] == [("a superb film", "positive"), ("dull", "negative")]
    assert refused(run("predict", finished.path, "-", piped="\n \n")).startswith("-: need an input a line")
    told = refused(run("predict", finished.path, "-", piped=b"a\nb \xff\n"))
    assert told.startswith("-: need text in UTF-8 on standard input; got byte 0xff at line 2;")
    assert "superb" in run("look", finished.path, "-", piped="a superb film\n").stdout


def test_several_inputs_at_once(finished, tmp_path):
    one = write_csv(tmp_path / "one.csv", [("dull", "")])
    other = write_csv(tmp_path / "other.csv", [("superb", ""), ("dull film", "")])
    result = run("predict", finished.path, one, "a superb film", other)
    assert result.exit_code == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["1", "2", "positive"]
    assert len(list(read_table(tmp_path / "other.predictions.jsonl"))) == 2
    told = refused(run("predict", finished.path, one, other, "-o", tmp_path / "p.csv"))
    assert told.startswith("--output: need a folder for the predictions of several files; got ")
    (tmp_path / "into").mkdir()
    assert run("predict", finished.path, one, other, "-o", tmp_path / "into").exit_code == 0
    assert sorted(os.listdir(tmp_path / "into")) == ["one.predictions.jsonl", "other.predictions.jsonl"]


def test_another_column(finished, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("words,mood\nsuperb,positive\ndull,negative\n")
    assert run("predict", finished.path, path, "--column", "words").exit_code == 0
    rows = list(read_table(tmp_path / "t.predictions.jsonl"))
    assert [row["label"] for row in rows] == ["positive", "negative"]
    result = run("evaluate", finished.path, path, "--column", "words", "--column", "label=mood")
    assert result.exit_code == 0, result.stderr
    assert "accuracy  1.000" in result.stdout
    told = refused(run("evaluate", finished.path, path, "--column", "lable=mood"))
    assert told == "--column: need one of text, label before the '='; got 'lable'; correct it."


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_sheets_of_a_workbook_are_told_and_named(finished, tmp_path, command):
    import openpyxl

    book, path = openpyxl.Workbook(), tmp_path / "t.xlsx"
    for sheet, text in ((book.active, "superb"), (book.create_sheet("more"), "dull")):
        sheet.append(["sentence", "sentiment"])
        sheet.append([text, "positive"])
    book.save(path)
    done = run(command, finished.path, path)
    assert f"regard: {path}: sheet 'Sheet' is read; left out: 'more'; --sheet names another\n" in done.stderr
    done = run(command, finished.path, path, "--sheet", "more", *(["-o", tmp_path / "p.csv"] * (command == "predict")))
    assert f"regard: {path}: sheet 'more' is read; left out: 'Sheet'; --sheet names another\n" in done.stderr
    if command == "predict":
        assert next(iter(read_table(tmp_path / "t.predictions.jsonl")))["sentence"] == "superb"
        assert next(iter(read_table(tmp_path / "p.csv")))["label"] == "negative"
    else:
        assert "accuracy  0.000" in done.stdout
    assert refused(run(command, finished.path, path, "--sheet", "no")).startswith(f"{path}: need the sheet 'no'; got ")
    table = write_csv(tmp_path / "t.csv", [("superb", "positive")])
    told = refused(run(command, finished.path, table, "--sheet", "more"))
    assert told == f"--sheet: need a workbook (.xlsx) to read the sheet of; got '{table}'; leave it out."


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_predictions_of_predictions_lose_nothing(finished, tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    write_csv(tmp_path / "t.csv", [("superb", "positive"), ("dull", "negative")])
    if suffix == ".jsonl":
        path.write_text('{"sentence": "superb", "probability": 7}\n{"sentence": "dull", "probability": 8}\n')
    for number in range(3):
        target = tmp_path / f"p{number}{suffix}"
        assert run("predict", finished.path, path, "-o", target).exit_code == 0
        before, after = list(read_table(path)), list(read_table(target))
        assert [{key: row[key] for key in before[0]} for row in after] == before
        assert len(after[0]) > len(before[0])
        path = target


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_text_is_refused(finished, text):
    told = refused(run("predict", finished.path, "a film", text))
    assert told == "predict: need a text to work on; got an empty one, input 2; leave it out."
    assert refused(run("look", finished.path, text)).endswith("got an empty text; write one.")


@pytest.mark.parametrize("given", [["a film", ""], ["a film", " \n"], ("dull", "\t")])
def test_an_empty_text_is_refused_from_python_too(finished, given):
    for predict in (finished.predict, lambda texts: regard.predict(finished.path, texts)):
        with pytest.raises(DataError) as caught:
            predict(given)
        assert str(caught.value) == "predict: need a text to work on; got an empty one, input 2; leave it out."
    with pytest.raises(DataError, match=r"need a list of inputs, one text each; got ndarray; put them into a list\."):
        finished.predict(np.array("a film"))
    with pytest.raises(DataError, match="got an empty one, input 1"):
        finished.predict("")


def test_empty_texts_of_a_table_are_told(finished, tmp_path):
    path = write_csv(tmp_path / "t.csv", [("superb", "positive"), (" ", "negative"), ("dull", "negative")])
    for command in ("predict", "evaluate"):
        result = run(command, finished.path, path)
        assert result.exit_code == 0
        told = f"regard: {path}: 1 texts are empty (first in row 2); what is predicted of them means nothing\n"
        assert told in result.stderr


def test_pipes_devices_and_folders_are_no_tables(finished, tmp_path):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    for command in ("predict", "look", "evaluate"):
        assert "got a pipe or a device; " in refused(run(command, finished.path, pipe))
        assert "got a pipe or a device; " in refused(run(command, finished.path, "/dev/zero"))
        assert "got a folder" in refused(run(command, finished.path, tmp_path))


@pytest.mark.parametrize("folder", [".", "/", "into"])
def test_a_folder_holds_no_texts(finished, tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "into").mkdir()
    told = refused(run("predict", finished.path, folder))
    assert told.endswith(": need texts or tables for this run; got a folder; name the files in it.")


def test_an_output_that_would_stay_empty_is_refused(finished, tmp_path):
    told = refused(run("predict", finished.path, "a film", "-o", tmp_path / "said.txt"))
    assert told == (
        f"--output: need a file of type .csv, .tsv, .jsonl, .parquet; got '{tmp_path}/said.txt'; rename it."
    )
    path = write_csv(tmp_path / "t.csv", [("superb", "positive")])
    assert refused(run("predict", finished.path, path, "--column", "")).startswith(f"{path}: need the column ''; got ")


def test_lines_of_standard_input_end_where_lines_end(finished):
    result = run("predict", finished.path, "-", piped="a superb\x0cfilm\r\ndull\u2028dull\rdull\n")
    assert len(result.stdout.splitlines()) == 3


def test_a_file_of_another_kind_is_refused(finished, tmp_path):
    path = tmp_path / "notes.md"
    path.write_text("superb")
    assert "got '.md'; convert it." in refused(run("predict", finished.path, path))
    assert "got a file of another kind; " in refused(run("look", finished.path, path))
