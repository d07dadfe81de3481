"""Asks the operators of one library all questions: `asking.py jax` prints what they answer, as JSON."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
from typing import Any

import numpy as np
from operators import Found, Operator
from questions import SCALE, Answer, Inputs, NoMasksError, Question, questions

REFUSED = Answer("refused")


def measured(library: str) -> dict[str, Any]:
    """Versions, and for each question the answer of each operator that it arises for."""
    module = importlib.import_module(f"operators.of_{library}")
    answers: dict[str, Any] = {}
    for name, question in questions():
        for operator in module.operators.all:
            if question.arises(operator) and (answer := asked(question, operator)) is not None:
                answers.setdefault(name, {})[operator.name] = {"said": answer.said, "same": answer.same}
    return {"versions": {name: version(name) for name in module.LIBRARIES}, "answers": answers}


def version(name: str) -> str:
    return importlib.metadata.version(name).partition("+")[0]


def asked(question: Question, operator: Operator) -> Answer | None:
    """The answer of an operator, the same in Regard compared with it; None for masks that it does not have."""
    try:
        inputs = question.inputs(operator)
        found = operator.attend(inputs.query, inputs.key, inputs.value, **inputs.call)
    except NoMasksError:
        return None
    except Exception:  # whatever a library refuses it with
        return REFUSED
    answer = question.read(found, inputs)
    scale = asked(SCALE, operator) if SCALE.arises(operator) and question is not SCALE else None
    beside = (scale and scale.same) or ""
    if answer.same is not None and not agrees(answer.same, beside, found, inputs):
        raise AssertionError(f"{operator.name}, {question.title}: {answer.same} gives something else")
    return answer


def agrees(same: str, beside: str, found: Found, inputs: Inputs) -> bool:
    """Whether Regard gives what an operator gave: its output, what is returned beside it, or who sees whom."""
    given, theirs = in_regard(same, beside, inputs), found.output
    if same.startswith("weights"):
        theirs = found.logsumexp if "logsumexp" in same else found.weights
    elif theirs is None:
        given, theirs = given > 0, np.asarray(found.weights) > 0
        given = np.broadcast_to(given, theirs.shape)
    theirs = np.asarray(theirs)
    return theirs.shape == given.shape and bool(np.allclose(given, theirs, atol=1e-4))


def in_regard(same: str, beside: str, inputs: Inputs) -> np.ndarray:
    """What `regard.attention` gives with the arguments of an answer, or its weights when they are asked.

    `beside`: the operator's own scale, where it is another.
    """
    import regard

    names = {"np": np, "masks": regard.masks, **vars(inputs), **inputs.names}
    arrays = {"query": inputs.query, "key": inputs.key, "value": inputs.value}
    if same.startswith("weights"):
        mask = inputs.names.get("mask")
        weights = regard.attention(**arrays, mask=mask).weights
        return np.asarray(eval(same, names | {"weights": weights}))
    return regard.attention(**arrays | eval(f"dict({same})", names) | eval(f"dict({beside})")).output


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1])))
