"""The textbook sentence of attention, in float64 and in loops, against which everything else is checked.

    weights_ij = exp(score_ij) / (exp(sink) + sum_k exp(score_ik)),   output_i = sum_j weights_ij value_j

Nothing here is fast, and nothing here is shared with the library: one query at a time, one key at a time.
A rule (who sees whom) is a function `(at, i, j, queries, keys) -> bool`, and a bias a function with the same
arguments that returns the number to add; `at` is the index of the leading axes, the head last.
"""

import math

import numpy as np

# --- rules: who sees whom ---------------------------------------------------------------------------------------


def causal():
    """Query i sees key j when j <= i + S - T: the last query sees every key."""
    return lambda at, i, j, queries, keys: j <= i + keys - queries


def window(left, right):
    """From `left` keys before the query's own position to `right` keys after it; None is without limit."""

    def see(at, i, j, queries, keys):
        own = i + keys - queries
        return (left is None or j >= own - left) and (right is None or j <= own + right)

    return see


def prefix(n):
    """The first n keys are seen by all."""
    return lambda at, i, j, queries, keys: j < n


def pairs(queries, keys):
    """Chosen queries, by their own positions, see chosen keys; None are all."""

    def among(position, chosen):
        if isinstance(chosen, slice):
            return position in range(10**6)[chosen]
        return chosen is None or position in np.atleast_1d(chosen)

    return lambda at, i, j, queries_, keys_: among(i + keys_ - queries_, queries) and among(j, keys)


def _of_example(array, at, axes):
    """The entry of an array over the axes before the head; of three axes the one before T is such an axis."""
    array = np.asarray(array)
    leading = array.ndim - axes
    index = at if len(at) == leading or len(at) == 1 else at[:-1]
    index = index[len(index) - leading :]
    return array[tuple(0 if size == 1 else number for size, number in zip(array.shape, index, strict=False))]


def lengths(key_lengths, query_lengths=None):
    """Keys before their example's length are seen, by the queries before theirs."""

    def see(at, i, j, queries, keys):
        if query_lengths is not None and i >= _of_example(query_lengths, at, 0):
            return False
        return j < _of_example(key_lengths, at, 0)

    return see


def segments(query_ids, key_ids=None):
    """A query sees the keys of its own segment."""
    key_ids = query_ids if key_ids is None else key_ids
    return lambda at, i, j, queries, keys: _of_example(query_ids, at, 1)[i] == _of_example(key_ids, at, 1)[j]


def boolean(array):
    """An array that broadcasts to (..., H, T, S)."""
    array = np.asarray(array)

    def see(at, i, j, queries, keys):
        return bool(_broadcast_entry(array, (*at, i, j)))

    return see


def both(first, second):
    return lambda *place: first(*place) and second(*place)


def either(first, second):
    return lambda *place: first(*place) or second(*place)


def neither(rule):
    return lambda *place: not rule(*place)


def _broadcast_entry(array, index):
    index = index[len(index) - array.ndim :]
    return array[tuple(0 if size == 1 else number for size, number in zip(array.shape, index, strict=True))]


# --- biases: what is added to the score ----------------------------------------------------------------------------


def alibi(slopes):
    """-slope_h * |i + S - T - j|."""
    return lambda at, i, j, queries, keys: -float(slopes[at[-1] if at else 0]) * abs(i + keys - queries - j)


def relative(table, bidirectional=True, max_distance=128):
    """T5's: the entry of the bucket of j - (i + S - T), for the head."""
    table = np.asarray(table, np.float64)

    def add(at, i, j, queries, keys):
        return table[bucket(j - (i + keys - queries), bidirectional, table.shape[0], max_distance), at[-1] if at else 0]

    return add


def bucket(distance, bidirectional, buckets, max_distance):
    """The bucket of a signed distance: half of them exact, the rest logarithmic, in whole numbers alone."""
    first = 0
    if bidirectional:
        buckets //= 2
        first = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = buckets // 2
    if distance < exact:
        return first + distance
    steps = buckets - exact
    reached = 0  # the largest k with distance >= exact * (max_distance / exact) ** (k / steps)
    while reached < steps - 1 and distance**steps >= exact ** (steps - reached - 1) * max_distance ** (reached + 1):
        reached += 1
    return first + exact + reached


def array(values):
    """An array that broadcasts to (..., H, T, S)."""
    values = np.asarray(values, np.float64)
    return lambda at, i, j, queries, keys: float(_broadcast_entry(values, (*at, i, j)))


# --- attention -----------------------------------------------------------------------------------------------------


class Result:
    """Scores, weights and output in full, and every question asked of them in loops."""

    def __init__(self, scores, visible, weights, logsumexp, output):
        self.scores, self.visible, self.weights = scores, visible, weights
        self.logsumexp, self.output = logsumexp, output

    def _rows(self):
        return np.ndindex(self.weights.shape[:-1])

    def times(self, x):
        """weights @ x, for x (..., S, X)."""
        x = np.asarray(x, np.float64)
        leading = np.broadcast_shapes(self.weights.shape[:-2], x.shape[:-2])
        weights = np.broadcast_to(self.weights, leading + self.weights.shape[-2:])
        x = np.broadcast_to(x, leading + x.shape[-2:])
        result = np.zeros((*leading, weights.shape[-2], x.shape[-1]))
        for *at, i in np.ndindex(result.shape[:-1]):
            for j in range(weights.shape[-1]):
                result[(*at, i)] += weights[(*at, i, j)] * x[(*at, j)]
        return result

    def transposed_times(self, x):
        """weights.T @ x, for x (..., T, X): only the last two axes change places."""
        turned = Result(None, None, np.swapaxes(self.weights, -1, -2), None, None)
        return turned.times(x)

    def received(self, queries=None):
        chosen = range(self.weights.shape[-2]) if queries is None else _positions(queries, self.weights.shape[-2])
        result = np.zeros(self.weights.shape[:-2] + self.weights.shape[-1:])
        for *at, j in np.ndindex(result.shape):
            for i in chosen:
                result[(*at, j)] += self.weights[(*at, i, j)]
        return result

    def mass(self, keys):
        chosen = _positions(keys, self.weights.shape[-1])
        result = np.zeros(self.weights.shape[:-1])
        for row in self._rows():
            for j in chosen:
                result[row] += self.weights[(*row, j)]
        return result

    def entropy(self):
        """-sum_j weights_ij log weights_ij, in nats; a weight of zero adds nothing."""
        result = np.zeros(self.weights.shape[:-1])
        for row in self._rows():
            for j, weight in enumerate(self.weights[row]):
                if weight != 0:
                    result[row] -= weight * (self.scores[(*row, j)] - self.logsumexp[row])
        return result

    def distance(self):
        """sum_j weights_ij |i + S - T - j|: the mean distance, of rows that sum to one."""
        queries, keys = self.weights.shape[-2:]
        result = np.zeros(self.weights.shape[:-1])
        for row in self._rows():
            for j, weight in enumerate(self.weights[row]):
                result[row] += weight * abs(row[-1] + keys - queries - j)
        return result

    def max(self):
        result = np.zeros(self.weights.shape[:-1])
        for row in self._rows():
            result[row] = max(self.weights[row], default=0.0)
        return result

    def max_score(self):
        result = np.full(self.weights.shape[:-1], -np.inf)
        for row in self._rows():
            for j, score in enumerate(self.scores[row]):
                if self.visible[(*row, j)] and not (score <= result[row] or np.isnan(result[row])):
                    result[row] = score
        return result

    def topk(self, k):
        """The k largest weights of each query, largest first."""
        result = np.zeros((*self.weights.shape[:-1], k))
        for row in self._rows():
            result[row] = sorted(self.weights[row], reverse=True)[:k]
        return result

    def pool(self, rows, columns, reduce="mean"):
        """Mean or maximum of each block; block b of n over a length begins at floor(b * length / n)."""
        queries, keys = self.weights.shape[-2:]
        result = np.zeros((*self.weights.shape[:-2], rows, columns))
        for *at, r, c in np.ndindex(result.shape):
            block = [
                self.weights[(*at, i, j)]
                for i in range(r * queries // rows, (r + 1) * queries // rows)
                for j in range(c * keys // columns, (c + 1) * keys // columns)
            ]
            result[(*at, r, c)] = sum(block) / len(block) if reduce == "mean" else max(block)
        return result


def _positions(chosen, length):
    """Positions from a slice, a list of positions or a boolean for each."""
    if isinstance(chosen, slice):
        return list(range(length))[chosen]
    chosen = np.asarray(chosen)
    if chosen.dtype == bool:
        return [int(place) for place in range(length) if chosen[place]]
    return [int(place) % length for place in chosen.reshape(-1)]


def attention(
    query,
    key,
    value,
    *,
    mask=None,
    causal=False,
    bias=None,
    scale=None,
    similarity="dot",
    softcap=None,
    sinks=None,
):
    """Attention and everything about its weights.

    Shapes: query (..., H, T, D), key (..., G, S, D), value (..., G, S, E); head h reads key head h // (H / G).
    """
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    without_heads = query.ndim == 2 and key.ndim == 2 and value.ndim == 2
    query, key, value = (x[None] if x.ndim == 2 else x for x in (query, key, value))
    leading = np.broadcast_shapes(query.shape[:-3], key.shape[:-3], value.shape[:-3])
    heads, groups = query.shape[-3], key.shape[-3]
    queries, keys = query.shape[-2], key.shape[-2]
    query, key, value = (np.broadcast_to(x, leading + x.shape[-3:]) for x in (query, key, value))
    scale = scale if scale is not None else 1 / math.sqrt(query.shape[-1]) if similarity == "dot" else 1.0
    if isinstance(mask, np.ndarray):
        mask = boolean(mask)
    if isinstance(bias, np.ndarray):
        bias = array(bias)
    corner = globals()["causal"]()

    shape = (*leading, heads, queries)
    scores = np.full((*shape, keys), -np.inf)
    visible = np.zeros((*shape, keys), bool)
    weights = np.zeros((*shape, keys))
    logsumexp = np.full(shape, -np.inf)
    output = np.zeros((*shape, value.shape[-1]))
    with np.errstate(all="ignore"):
        for *lead, h, i in np.ndindex(shape):
            lead, row = tuple(lead), (*lead, h, i)
            place = () if without_heads else (*lead, h)
            group = (*lead, h // (heads // groups))
            q = query[row]
            for j in range(keys):
                if causal and not corner(place, i, j, queries, keys):
                    continue
                if mask is not None and not mask(place, i, j, queries, keys):
                    continue
                visible[(*row, j)] = True
                k = key[(*group, j)]
                score = np.dot(q, k)
                if similarity == "cosine":
                    score = np.dot(q / np.sqrt(np.dot(q, q)), k / np.sqrt(np.dot(k, k)))
                score = score * scale
                if softcap is not None:
                    score = softcap * np.tanh(score / softcap)
                if bias is not None:
                    score = score + bias(place, i, j, queries, keys)
                scores[(*row, j)] = score
            seen = scores[row][visible[row]]
            if seen.size == 0 or np.all(seen == -np.inf):
                continue  # a query that sees no key gives zeros
            terms = seen if sinks is None else np.append(seen, float(sinks[h]))
            top = terms.max()  # NaN wins
            logsumexp[row] = top + np.log(np.sum(np.exp(terms - top)))
            for j in range(keys):
                if visible[(*row, j)]:
                    weights[(*row, j)] = np.exp(scores[(*row, j)] - logsumexp[row])
                    output[row] += weights[(*row, j)] * value[(*group, j)]
    found = [scores, visible, weights, logsumexp, output]
    return Result(*(x[0] for x in found)) if without_heads else Result(*found)


# --- gradients -------------------------------------------------------------------------------------------------------


def gradient(function, x, step=2e-3):
    """Gradient of a scalar function by central differences at two steps, extrapolated, and how far it may be off.

    Returns the gradient, and a bound on its own error: the change that the extrapolation made to the fourth order,
    squared-step by squared-step, and the rounding of the function's values divided by the step.
    """
    x = np.array(x, np.float64)
    result, doubt = np.zeros_like(x), 0.0

    def difference(index, h):
        here = x[index]
        x[index] = here + h
        above = function(x)
        x[index] = here - h
        below = function(x)
        x[index] = here
        return (above - below) / (2 * h), max(abs(above), abs(below))

    for index in np.ndindex(x.shape):
        wide, size = difference(index, step)
        narrow, _ = difference(index, step / 2)
        result[index] = (4 * narrow - wide) / 3
        rounding = 64 * np.finfo(np.float64).eps * (1 + size) / step  # of terms that are larger than their sum
        doubt = max(doubt, abs(narrow - wide) * step + rounding)
    return result, doubt
