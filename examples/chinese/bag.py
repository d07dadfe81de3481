"""What a bag of characters knows of the same paragraphs: logistic regression on one and two characters each.

python examples/chinese/bag.py [FOLDER]        # default: data/chinese
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline


def read(path: Path) -> tuple[list[str], list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["program"] for row in rows]


def main(folder: Path) -> None:
    bag = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    model = make_pipeline(bag, LogisticRegression(C=10, max_iter=2000))
    model.fit(*read(folder / "help-train.csv"))
    texts, truth = read(folder / "help-test.csv")
    answers = model.predict(texts)
    right = sum(one == other for one, other in zip(answers, truth, strict=True)) / len(truth)
    print(f"accuracy {right:.3f}, macro F1 {f1_score(truth, answers, average='macro'):.3f}")


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["data/chinese"]))
