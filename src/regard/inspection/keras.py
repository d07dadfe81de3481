"""`AttentionMonitor`: how each head attends while a Keras model trains."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import keras

from regard.errors import ConfigError
from regard.inspection.history import Recorder
from regard.models.watch import watch


class AttentionMonitor(keras.callbacks.Callback):
    """Records entropy, largest score, mean distance, weight on the first key and drift of each head in training.

    Before training, every so many batches and at its end, the model is called on a small, fixed probe and watched.
    Training goes the same way with it as without: no variable, random state or compiled function is touched.

    Args:
        probe: What the model is called on, as `model(probe)`: some 8 or 16 inputs, the same each time.
        every: So many training batches lie between two recordings.
        real: Which positions of the probe count, boolean `(B, T)`: False for padding; default all.
        layers: Which attentions to record, as for `regard.watch`; default all.
        path: Where to draw the plot when training ends, if at all.

    Attributes:
        history: a `History`: `history.entropy[step][layer][head]`, and so on; `history.save("history.csv")`.

    Raises:
        ConfigError: Fewer than one batch between two recordings.
        UnsupportedError: As training begins, a model without an attention that can be watched.

    Cost:
        A call of the model on the probe, outside of its compiled function, and two passes over its scores.

    Example:
        >>> import numpy as np, keras
        >>> from regard.inspection.keras import AttentionMonitor
        >>> inputs = keras.Input((7, 12))
        >>> outputs = keras.layers.Dense(1)(keras.layers.MultiHeadAttention(3, 4)(inputs, inputs))
        >>> model = keras.Model(inputs, outputs)
        >>> model.compile("adam", "mean_squared_error")
        >>> x, y = np.ones((40, 7, 12)), np.ones((40, 7, 1))
        >>> monitor = AttentionMonitor(probe=x[:8], every=4)
        >>> _ = model.fit(x, y, batch_size=4, verbose=0, callbacks=[monitor])
        >>> monitor.history.steps, np.shape(monitor.history.entropy)
        ([0, 4, 8, 10], (4, 1, 3))
    """

    def __init__(
        self,
        probe: Any,
        every: int = 200,
        *,
        real: Any = None,
        layers: Iterable[int | str] | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        if every < 1:
            raise ConfigError(f"AttentionMonitor: need every to be 1 batch or more; got {every}; the default is 200.")
        self.probe, self.every, self.path = probe, every, path
        self.layers = None if layers is None else list(layers)
        self._recorder = Recorder(real)
        self.history = self._recorder.history
        self._step = self._before = 0  # batches so far, and before this epoch

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draws each measure over the steps, a figure with a panel for each layer and a line for each head."""
        return self.history.plot(path)

    def on_train_begin(self, logs: Any = None) -> None:
        self._record()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._before = self._step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        last, self._step = self._step, self._before + batch + 1  # several batches at once with steps_per_execution
        if self._step // self.every > last // self.every:
            self._record()

    def on_train_end(self, logs: Any = None) -> None:
        self._record()
        if self.path is not None:
            self.plot(self.path)

    def _record(self) -> None:
        if self._step in self.history.steps[-1:]:
            return
        model = self.model  # asked for here: on JAX this brings the variables up to date, which no scope may undo
        # What a call assigns in this scope (a random generator's state, say) is forgotten with it.
        with keras.StatelessScope(), watch(model, self.layers) as seen:
            model(self.probe, training=False)
        self._recorder.record(self._step, seen)
