"""The examples run as a reader would run them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_article(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "article.py")],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert "score 11, scaled 7.78, weight 1, output [5. 6.]" in lines
    assert "output (32, 10, 128) weights (32, 10, 10)" in lines
    assert "rows of the weights sum to 1: True" in lines
    [losses] = [line.partition(": ")[2].split(" -> ") for line in lines if line.startswith("loss")]
    assert [float(loss) for loss in losses] == sorted(map(float, losses), reverse=True)
    assert (tmp_path / "attention.png").stat().st_size > 10_000
