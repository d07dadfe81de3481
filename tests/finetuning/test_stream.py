"""Files in, files out: the order of the input, and memory that does not grow with it."""

import csv
import tracemalloc

import pytest

from regard.errors import DataError
from regard.finetuning.data.tables import read_table
from regard.finetuning.runs import stream
from regard.finetuning.runs.run import Run
from regard.finetuning.runs.stream import predict_file


@pytest.fixture
def lengths(finished, monkeypatch):
    """A run that answers with the length of each text, at once; and the numbers of rows it was asked for."""
    asked = []

    def respond(self, inputs, display):
        asked.append(len(inputs))
        with display.bar("predict", len(inputs)) as advance:
            advance(len(inputs))
        return [{"label": str(len(text)), "tokens_cut": int(len(text) > 900)} for text in inputs]

    monkeypatch.setattr(Run, "respond", respond)
    return finished, asked


def write_texts(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "sentence"])
        writer.writerows((n, "film " * (n % 200)) for n in range(rows))
    return path


def test_many_rows_keep_their_order(lengths, tmp_path, monkeypatch):
    run, asked = lengths
    monkeypatch.setattr(stream, "ROWS", 97)
    source, target = write_texts(tmp_path / "in.csv", 500), tmp_path / "out.jsonl"
    written = predict_file(run, source, target)
    assert asked == [97, 97, 97, 97, 97, 15]
    rows = list(read_table(target))
    assert [row["number"] for row in rows] == [str(n) for n in range(500)]
    assert all(row["label"] == str(len(row["sentence"])) for row in rows)
    assert (written.rows, written.cut, written.path) == (500, sum(n % 200 > 180 for n in range(500)), target)


def test_the_model_answers_as_for_a_list(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "ROWS", 33)
    predict_file(finished, finished.config.data.test, tmp_path / "out.jsonl")
    given = read_table(finished.config.data.test)["sentence"]
    answered = read_table(tmp_path / "out.jsonl")["probability"]
    assert answered == pytest.approx([p["probability"] for p in finished.predict(list(given))], abs=1e-6)


def peak(run, source, target):
    tracemalloc.start()
    predict_file(run, source, target)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_memory_does_not_grow_with_the_file(lengths, tmp_path, monkeypatch, suffix):
    run, _ = lengths
    monkeypatch.setattr(stream, "ROWS", 100)
    few, many = (write_texts(tmp_path / f"{rows}.csv", rows) for rows in (300, 6000))
    peak(run, few, tmp_path / f"warm{suffix}")
    less, more = (peak(run, file, tmp_path / f"{file.stem}.out{suffix}") for file in (few, many))
    assert many.stat().st_size > 2e6
    assert more < less + 0.2 * many.stat().st_size


def test_memory_that_grows_is_found(lengths, tmp_path, monkeypatch):
    run, _ = lengths
    few, many = (write_texts(tmp_path / f"{rows}.csv", rows) for rows in (300, 6000))
    monkeypatch.setattr(stream, "ROWS", 10_000)
    less, more = (peak(run, file, tmp_path / f"{file.stem}.out.jsonl") for file in (few, many))
    assert more > less + 0.2 * many.stat().st_size


def test_a_fault_in_the_last_line_is_told_before_the_first_prediction(lengths, tmp_path):
    run, asked = lengths
    source = tmp_path / "in.jsonl"
    source.write_text('{"sentence": "a film"}\n' * 3 + '{"sentence": null}\n')
    with pytest.raises(DataError) as caught:
        predict_file(run, source, tmp_path / "out.jsonl")
    assert str(caught.value) == f"{source}: need a text in each row; got none in row 4; correct or drop the row."
    assert asked == []
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_an_empty_file_gives_an_empty_file(lengths, tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("\n")
    assert predict_file(lengths[0], source, tmp_path / "out.jsonl").rows == 0
    assert (tmp_path / "out.jsonl").read_text() == ""
