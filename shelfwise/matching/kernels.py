"""The inner loops of retrieval, compiled by numba: sparse dot products against an inverted index and between pairs.

scipy and sparse_dot_topn compute the same numbers. What they cannot do is stop after so many entries of the inverted
index, or score a list of pairs without first copying both sides of every pair; here these were two thirds of the time
of a match. All kernels let go of the interpreter lock, take CSR arrays as they are, and break ties by position, so
that the same input gives the same output. Compiled once per machine (numba keeps the result beside this file).

Importing this module imports numba (half a second): import it inside functions.
"""

from __future__ import annotations

import numpy as np
from numba import njit  # noqa: TID253 - this module is itself imported inside functions


@njit(nogil=True, cache=True)
def invert(starts, terms, n_terms):  # pragma: no cover - compiled
    """Return (starts, rows): for each term the rows that hold it, ascending. Row i holds `terms[starts[i]:...]`."""
    lists = np.zeros(n_terms + 1, np.int64)
    for term in terms:
        lists[term + 1] += 1
    for term in range(n_terms):
        lists[term + 1] += lists[term]
    rows = np.empty(len(terms), np.uint32)  # unsigned: no check for an index from the end
    place = lists[:-1].copy()
    for row in range(len(starts) - 1):
        for at in range(starts[row], starts[row + 1]):
            rows[place[terms[at]]] = row
            place[terms[at]] += 1
    return lists, rows


@njit(nogil=True, cache=True)
def spliced(starts, terms, more_starts, more_terms, source):  # pragma: no cover - compiled
    """Return (starts, terms) of the rows at `source`, -1 standing for the next of more rows."""
    n = len(source)
    out_starts = np.zeros(n + 1, starts.dtype)
    new = 0
    for i in range(n):
        if source[i] >= 0:
            length = starts[source[i] + 1] - starts[source[i]]
        else:
            length = more_starts[new + 1] - more_starts[new]
            new += 1
        out_starts[i + 1] = out_starts[i] + length
    out = np.empty(out_starts[n], terms.dtype)
    new = 0
    for i in range(n):
        if source[i] >= 0:
            out[out_starts[i] : out_starts[i + 1]] = terms[starts[source[i]] : starts[source[i] + 1]]
        else:
            out[out_starts[i] : out_starts[i + 1]] = more_terms[more_starts[new] : more_starts[new + 1]]
            new += 1
    return out_starts, out


@njit(nogil=True, cache=True, inline="always")
def _worse(score_a, name_a, score_b, name_b):
    """Whether a ranks below b: a lower score, or an equal one of a later name."""
    return score_a < score_b or (score_a == score_b and name_a > name_b)


@njit(nogil=True, cache=True)
def _offer(scores, names, size, depth, score, name):
    """Put (score, name) into a heap of the `depth` best, the worst on top; return the heap's size."""
    if size < depth:
        at = size
        while at > 0:
            above = (at - 1) >> 1
            if not _worse(score, name, scores[above], names[above]):
                break
            scores[at], names[at] = scores[above], names[above]
            at = above
        scores[at], names[at] = score, name
        return size + 1
    if not _worse(scores[0], names[0], score, name):
        return size
    at = 0
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and _worse(scores[below + 1], names[below + 1], scores[below], names[below]):
            below += 1
        if not _worse(scores[below], names[below], score, name):
            break
        scores[at], names[at] = scores[below], names[below]
        at = below
    scores[at], names[at] = score, name
    return size


@njit(nogil=True, cache=True)
def _rarest_first(q_terms, start, end, t_indptr):
    """Return the positions `start` to `end` ordered by the length of their terms' lists.

    By insertion: a title has some dozens of terms, at most a few hundred.
    """
    order = np.empty(end - start, np.int64)
    for count in range(end - start):
        term = q_terms[start + count]
        cost = t_indptr[term + 1] - t_indptr[term]
        place = count
        while place > 0:
            other = q_terms[order[place - 1]]
            if t_indptr[other + 1] - t_indptr[other] <= cost:
                break
            order[place] = order[place - 1]
            place -= 1
        order[place] = start + count
    return order


@njit(nogil=True, cache=True)
def propose(
    q_indptr, q_terms, q_weights, t_starts, t_names, weight, scale, n_first, depth_first, depth_rest, postings
):  # pragma: no cover - compiled
    """Return (line, name), the names most like each query, by the part of the dot product that `postings` pays for.

    `q_*`: queries in CSR form; `t_*`: for each term the names that hold it (see `invert`); a name's weight of a term is
    `weight[term] * scale[name]`. Terms are taken from the rarest on, until the entries read pass `postings`; at least
    four are taken. Names below `n_first` (catalog names) and the rest (past lines) have lists of their own, of
    `depth_first` and `depth_rest` names. Lines ascending, names unordered. Source: query-side pruning of impact-ordered
    retrieval, with document frequency for impact.
    """
    n, n_names = len(q_indptr) - 1, len(scale)
    lines = np.empty(n * (depth_first + depth_rest), np.int32)
    found = np.empty(n * (depth_first + depth_rest), np.int32)
    filled = 0
    score = np.zeros(n_names, np.float32)
    touched = np.empty(n_names + 1, np.uint32)
    a_scores, a_names = np.empty(max(depth_first, 1), np.float32), np.empty(max(depth_first, 1), np.uint32)
    b_scores, b_names = np.empty(max(depth_rest, 1), np.float32), np.empty(max(depth_rest, 1), np.uint32)
    for line in range(n):
        order = _rarest_first(q_terms, q_indptr[line], q_indptr[line + 1], t_starts)
        n_touched, read = 0, 0
        for rank in range(len(order)):
            term = q_terms[order[rank]]
            share = q_weights[order[rank]] * weight[term]
            read += t_starts[term + 1] - t_starts[term]
            if rank >= 4 and read > postings:
                break
            for entry in range(t_starts[term], t_starts[term + 1]):
                name = t_names[entry]
                before = score[name]
                # Written whether it is new or not, and kept if it is: no branch to be guessed wrong.
                touched[n_touched] = name
                n_touched += before == 0.0
                score[name] = before + share
        # What does not reach the worst of a full list, which is nearly everything, is not worth a call.
        a_size, b_size = 0, 0
        a_least, b_least = np.float32(0.0), np.float32(0.0)
        for at in range(n_touched):
            name = touched[at]
            value = score[name] * scale[name]
            score[name] = 0.0
            if name < n_first:
                if value >= a_least and depth_first:
                    a_size = _offer(a_scores, a_names, a_size, depth_first, value, name)
                    if a_size == depth_first:
                        a_least = a_scores[0]
            elif value >= b_least and depth_rest:
                b_size = _offer(b_scores, b_names, b_size, depth_rest, value, name)
                if b_size == depth_rest:
                    b_least = b_scores[0]
        for at in range(a_size):
            lines[filled], found[filled] = line, a_names[at]
            filled += 1
        for at in range(b_size):
            lines[filled], found[filled] = line, b_names[at]
            filled += 1
    return lines[:filled], found[:filled]


@njit(nogil=True, cache=True, inline="always")
def _spread(dense, q_indptr, q_terms, values, before, line):
    """Put the values of query `line` at its terms, where so far those of query `before` stand (-1: nothing)."""
    if before >= 0:
        for at in range(q_indptr[before], q_indptr[before + 1]):
            dense[q_terms[at]] = 0
    for at in range(q_indptr[line], q_indptr[line + 1]):
        dense[q_terms[at]] = values[at]


@njit(nogil=True, cache=True)
def pair_scores(
    q_indptr, q_terms, q_weights, n_terms, r_indptr, r_terms, r_weights, line, row
):  # pragma: no cover - compiled
    """Return the dot product of query `line[i]` and row `row[i]` for every i, float32. `line` ascends."""
    out = np.empty(len(line), np.float32)
    dense = np.zeros(n_terms, np.float32)
    current = -1
    for i in range(len(line)):
        if line[i] != current:
            _spread(dense, q_indptr, q_terms, q_weights, current, line[i])
            current = line[i]
        total = np.float32(0.0)
        for at in range(r_indptr[row[i]], r_indptr[row[i] + 1]):
            total += dense[r_terms[at]] * r_weights[at]
        out[i] = total
    return out


@njit(nogil=True, cache=True)
def unit_scores(q_indptr, q_terms, q_weights, starts, terms, weight, scale, line, row):  # pragma: no cover - compiled
    """Return the dot product of query `line[i]` and row `row[i]` for every i, float32. `line` ascends.

    A row's weight of a term it holds is `weight[term] * scale[row]`.
    """
    out = np.empty(len(line), np.float32)
    shares = q_weights * weight[q_terms]
    dense = np.zeros(len(weight), np.float32)
    current = -1
    for i in range(len(line)):
        if line[i] != current:
            _spread(dense, q_indptr, q_terms, shares, current, line[i])
            current = line[i]
        total = np.float32(0.0)
        for at in range(starts[row[i]], starts[row[i] + 1]):
            total += dense[terms[at]]
        out[i] = total * scale[row[i]]
    return out


@njit(nogil=True, cache=True)
def best_of_groups(
    q_indptr, q_terms, q_weights, starts, terms, weight, scale, line, group, group_starts, members
):  # pragma: no cover - compiled
    """Return per pair (line, group) the group's row most like the line (-1 for an empty group) and its dot product.

    Rows as in `unit_scores`; those of group g are `members[group_starts[g]:group_starts[g + 1]]`, of equal ones the
    earliest is taken. `line` ascends.
    """
    best = np.full(len(line), -1, np.int64)
    out = np.zeros(len(line), np.float32)
    shares = q_weights * weight[q_terms]
    dense = np.zeros(len(weight), np.float32)
    current = -1
    for i in range(len(line)):
        if group_starts[group[i]] == group_starts[group[i] + 1]:
            continue
        if line[i] != current:
            _spread(dense, q_indptr, q_terms, shares, current, line[i])
            current = line[i]
        for member in range(group_starts[group[i]], group_starts[group[i] + 1]):
            row = members[member]
            total = np.float32(0.0)
            for at in range(starts[row], starts[row + 1]):
                total += dense[terms[at]]
            total *= scale[row]
            if best[i] < 0 or total > out[i]:
                best[i], out[i] = row, total
    return best, out


@njit(nogil=True, cache=True, fastmath=True)
def dense_pair_scores(left, left_row, codes, scale, right_row):  # pragma: no cover - compiled
    """Return the dot product of `left[left_row[i]]` and `codes[right_row[i]] * scale[right_row[i]]` for every i."""
    out = np.empty(len(left_row), np.float32)
    for i in range(len(left_row)):
        a, b = left_row[i], right_row[i]
        total = np.float32(0.0)
        for at in range(left.shape[1]):
            total += left[a, at] * np.float32(codes[b, at])
        out[i] = total * scale[b]
    return out


@njit(nogil=True, cache=True)
def list_order(line, value, then):  # pragma: no cover - compiled
    """Return the place of each entry in its line by ascending value, equal values by `then`, int64.

    Equal lines are adjacent. By insertion: a line has some dozens of entries.
    """
    out = np.empty(len(line), np.int64)
    order = np.empty(len(line), np.int64)
    start = 0
    while start < len(line):
        end = start
        while end < len(line) and line[end] == line[start]:
            place = end
            while place > start:
                other = order[place - 1]
                if value[other] < value[end] or (value[other] == value[end] and then[other] <= then[end]):
                    break
                order[place] = other
                place -= 1
            order[place] = end
            end += 1
        for at in range(start, end):
            out[order[at]] = at - start
        start = end
    return out


@njit(nogil=True, cache=True)
def list_gaps(line, values):  # pragma: no cover - compiled
    """Return each value less the largest other value of its line (0 where there is none). Equal lines are adjacent."""
    out = np.empty(len(line), np.float32)
    start = 0
    while start < len(line):
        end = start
        best, second = -1, -1
        while end < len(line) and line[end] == line[start]:
            if best < 0 or values[end] > values[best]:
                best, second = end, best
            elif second < 0 or values[end] > values[second]:
                second = end
            end += 1
        for at in range(start, end):
            rival = second if at == best else best
            out[at] = values[at] - (values[rival] if rival >= 0 else 0.0)
        start = end
    return out


@njit(nogil=True, cache=True)
def list_ranks(line, values):  # pragma: no cover - compiled
    """Return how many values of the same line are larger. Equal lines are adjacent."""
    out = np.empty(len(line), np.float32)
    start = 0
    while start < len(line):
        end = start
        while end < len(line) and line[end] == line[start]:
            end += 1
        for at in range(start, end):
            larger = 0
            for other in range(start, end):
                larger += values[other] > values[at]
            out[at] = larger
        start = end
    return out


@njit(nogil=True, cache=True)
def list_close(line, values, within):  # pragma: no cover - compiled
    """Return how many other values of the same line are larger or at most `within` below. Equal lines are adjacent."""
    out = np.empty(len(line), np.float32)
    start = 0
    while start < len(line):
        end = start
        while end < len(line) and line[end] == line[start]:
            end += 1
        for at in range(start, end):
            least = values[at] - within - 1e-9
            close = -1
            for other in range(start, end):
                close += values[other] >= least
            out[at] = close
        start = end
    return out


@njit(nogil=True, cache=True)
def shared_sums(q_indptr, q_terms, n_terms, r_indptr, r_terms, line, row, weights):  # pragma: no cover - compiled
    """Return, per pair (query `line[i]`, row `row[i]`) and weighting, the summed weight of the terms both hold.

    `weights`: [k, n_terms], the result is float32 [n, k + 1]; its last column is the largest of the first weights.
    """
    k = len(weights)
    out = np.zeros((len(line), k + 1), np.float32)
    held, present = np.zeros(n_terms, np.bool_), np.ones(len(q_terms), np.bool_)
    current = -1
    for i in range(len(line)):
        if line[i] != current:
            _spread(held, q_indptr, q_terms, present, current, line[i])
            current = line[i]
        for at in range(r_indptr[row[i]], r_indptr[row[i] + 1]):
            term = r_terms[at]
            if held[term]:
                for j in range(k):
                    out[i, j] += weights[j, term]
                out[i, k] = max(out[i, k], weights[0, term])
    return out


@njit(nogil=True, cache=True)
def shared_kinds(q_indptr, q_terms, r_indptr, r_terms, line, row, kind, n_kinds):  # pragma: no cover - compiled
    """Return, per pair and kind of term, whether the two hold a term of that kind in common; bool [n, n_kinds].

    Terms of a query and of a row are sorted and few, so the two are merged.
    """
    out = np.zeros((len(line), n_kinds), np.bool_)
    for i in range(len(line)):
        a, a_end = q_indptr[line[i]], q_indptr[line[i] + 1]
        b, b_end = r_indptr[row[i]], r_indptr[row[i] + 1]
        while a < a_end and b < b_end:
            if q_terms[a] == r_terms[b]:
                out[i, kind[q_terms[a]]] = True
                a += 1
                b += 1
            elif q_terms[a] < r_terms[b]:
                a += 1
            else:
                b += 1
    return out


@njit(nogil=True, cache=True)
def holds(indptr, indices, row, column):  # pragma: no cover - compiled
    """Return 1 where row `row[i]` holds `column[i]`, else 0; a column below zero is held by nothing."""
    out = np.zeros(len(row), np.float32)
    for i in range(len(row)):
        if column[i] >= 0:
            for at in range(indptr[row[i]], indptr[row[i] + 1]):
                if indices[at] == column[i]:
                    out[i] = 1.0
                    break
    return out


@njit(nogil=True, cache=True)
def forest_scores(rows, threshold, threshold_start, node, value, root, steps, base):  # pragma: no cover - compiled
    """Return the sums of trees laid out as in `trees.Forest`, float64 [n], for float32 rows [n, features]."""
    n, n_features = rows.shape
    out = np.empty(n, np.float64)
    block = 32  # rows worked on together: their steps do not wait for each other
    ranks = np.zeros((block, 2 * n_features), np.uint8)
    at = np.zeros(block, np.uint32)
    sums = np.zeros(block, np.float64)
    for start in range(0, n, block):
        count = min(block, n - start)
        for i in range(count):
            for f in range(n_features):
                x = rows[start + i, f]
                if np.isnan(x):
                    ranks[i, f] = 0
                    ranks[i, n_features + f] = 255
                    continue
                # One more than the number of thresholds below x, by halving without a branch to be guessed wrong.
                low, size = threshold_start[f], threshold_start[f + 1] - threshold_start[f]
                while size > 0:
                    half = size >> 1
                    above = threshold[low + half] < x
                    low = low + half + 1 if above else low
                    size = size - half - 1 if above else half
                code = low - threshold_start[f] + 1
                ranks[i, f] = code
                ranks[i, n_features + f] = code
        for i in range(block):
            sums[i] = 0.0
        for tree in range(len(root)):
            first = root[tree]
            for i in range(block):
                at[i] = first
            for _ in range(steps[tree]):
                for i in range(block):
                    word = node[at[i]]
                    right = ranks[i, word >> np.uint32(24)] > (word >> np.uint32(16)) & np.uint32(255)
                    at[i] = first + (word & np.uint32(65535)) + np.uint32(right)
            for i in range(block):
                sums[i] += value[at[i]]
        for i in range(count):
            out[start + i] = base + sums[i]
    return out
