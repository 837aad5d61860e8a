"""The inner loops of the n-gram classifier, compiled by numba: cutting text into grams, looking them up, learning.

Vectorisers that build a string per n-gram read some eight thousand titles a second; here a gram is a hash of 64 bits
and nothing is built. All kernels let go of the interpreter lock. Compiled once per machine (numba keeps the result
beside this file). Importing this module imports numba (half a second): import it inside functions.
"""

from __future__ import annotations

import numpy as np
from numba import njit  # noqa: TID253 - this module is itself imported inside functions

WORD, PART, NEXT, NEAR, LAST, FIRST, TAIL, FRAME = range(8)
KINDS = 8
"""Kinds of grams: a word, a part of a word, two neighbours, two words further apart; of a title also its last word, its
first, its last two, and its first with its last."""

_SPACE = 32
_NEAR = np.float32(0.1)  # similarity above which a remembered row votes
_ONE = np.uint64(1)


@njit(nogil=True, cache=True, inline="always")
def _mixed(state, value):
    """Return a hash of a hash and one more value: multiplication and shift as in MurmurHash3's last step."""
    state = (state ^ value) * np.uint64(0xFF51AFD7ED558CCD)
    return state ^ (state >> np.uint64(29))


@njit(nogil=True, cache=True)
def _most(length, words, shortest, longest, window, parts):
    """Return an upper bound of the grams in a text of so many characters and words."""
    bound = words * (2 + window) + 4
    return bound + (length + 2 * words) * (longest - shortest + 1) if parts else bound


@njit(nogil=True, cache=True)
def _bound(codes, ends, shortest, longest, window, most_words, title):
    """Return an upper bound of the grams in all texts."""
    bound, begin = 0, 0
    for row in range(len(ends)):
        words = 0
        for at in range(begin, ends[row]):
            if codes[at] != _SPACE and (at == begin or codes[at - 1] == _SPACE):
                words += 1
        bound += _most(ends[row] - begin, min(words, most_words), shortest, longest, window, title)
        begin = ends[row]
    return bound


@njit(nogil=True, cache=True)
def _parts(codes, at, stop, shortest, longest, hashes, out):
    """Write the hashes of the parts of a word, codes[at:stop], from `out` on; return where they end."""
    length = stop - at
    for size in range(shortest, min(longest, length + 2) + 1):
        for place in range(-1, length + 2 - size):
            state = np.uint64(1000 + size)
            for i in range(place, place + size):
                state = _mixed(state, np.uint64(codes[at + i]) if 0 <= i < length else np.uint64(_SPACE))
            hashes[out] = state
            out += 1
    return out


@njit(nogil=True, cache=True)
def _pairs(word, words, window, hashes, kinds, first, second, out):
    """Write the pairs of a text's words from `out` on; return where they end. Words further apart have no order."""
    for one in range(words):
        for other in range(one + 1, min(words, one + window + 1)):
            kind = NEXT if other == one + 1 else NEAR
            a, b = word[one], word[other]
            if kind == NEAR and a > b:
                a, b = b, a
            hashes[out] = _mixed(_mixed(a, np.uint64(kind)), b)
            kinds[out], first[out], second[out] = kind, one, other
            out += 1
    return out


@njit(nogil=True, cache=True)
def _ends(word, words, hashes, kinds, first, second, out):
    """Write the grams of a title's ends from `out` on; return where they end."""
    last = words - 1
    hashes[out], kinds[out], first[out], second[out] = _mixed(word[last], np.uint64(LAST)), LAST, last, last
    hashes[out + 1], kinds[out + 1] = _mixed(word[0], np.uint64(FIRST)), FIRST
    first[out + 1], second[out + 1] = 0, 0
    if words == 1:
        return out + 2
    tail = _mixed(_mixed(word[last - 1], np.uint64(TAIL)), word[last])
    hashes[out + 2], kinds[out + 2], first[out + 2], second[out + 2] = tail, TAIL, last - 1, last
    frame = _mixed(_mixed(word[0], np.uint64(FRAME)), word[last])
    hashes[out + 3], kinds[out + 3], first[out + 3], second[out + 3] = frame, FRAME, 0, last
    return out + 4


@njit(nogil=True, cache=True)
def grams(codes, ends, shortest, longest, window, most_words, title):
    """Return (hashes, kinds, first, second, starts) of the grams of texts, row i at starts[i]:starts[i + 1].

    `codes` uint32: the texts' characters one after another, `ends` [n] where each text ends. `first` and `second`: the
    words that a gram stands for, counted in their text. `shortest` to `longest`: characters of a part, of which the
    spaces around its word are some. Words up to `window` apart make a pair. Of a text the first `most_words` words
    count. Parts and the grams of a title's ends are only made where `title` is set.
    """
    bound = _bound(codes, ends, shortest, longest, window, most_words, title)
    hashes = np.empty(bound, np.uint64)
    kinds = np.empty(bound, np.uint8)
    first = np.empty(bound, np.int16)
    second = np.empty(bound, np.int16)
    starts = np.zeros(len(ends) + 1, np.int64)
    word = np.empty(most_words, np.uint64)
    out, begin = 0, 0
    for row in range(len(ends)):
        end, words, at = ends[row], 0, begin
        while at < end and words < most_words:
            if codes[at] == _SPACE:
                at += 1
                continue
            stop = at
            state = np.uint64(7)
            while stop < end and codes[stop] != _SPACE:
                state = _mixed(state, np.uint64(codes[stop]))
                stop += 1
            word[words] = state
            hashes[out], kinds[out], first[out], second[out] = _mixed(state, np.uint64(WORD)), WORD, words, words
            out += 1
            if title:
                after = _parts(codes, at, stop, shortest, longest, hashes, out)
                kinds[out:after], first[out:after], second[out:after] = PART, words, words
                out = after
            words += 1
            at = stop
        out = _pairs(word, words, window, hashes, kinds, first, second, out)
        if title and words:
            out = _ends(word, words, hashes, kinds, first, second, out)
        starts[row + 1] = out
        begin = end
    return hashes[:out], kinds[:out], first[:out], second[:out], starts


@njit(nogil=True, cache=True)
def table(keys):
    """Return (slots, numbers) of an open-addressed hash table that gives each key its place; -1 marks a free slot."""
    bits = 1
    while (1 << bits) < 2 * len(keys) + 2:
        bits += 1
    slots = np.zeros(1 << bits, np.uint64)
    numbers = np.full(1 << bits, -1, np.int32)
    mask = np.uint64((1 << bits) - 1)
    for number in range(len(keys)):
        place = (keys[number] >> np.uint64(7)) & mask
        while numbers[place] >= 0:
            place = (place + _ONE) & mask
        slots[place], numbers[place] = keys[number], number
    return slots, numbers


@njit(nogil=True, cache=True)
def found(hashes, starts, slots, numbers):
    """Return (features, origins, starts): the known grams of each row by number, and which gram each one was."""
    mask = np.uint64(len(slots) - 1)
    features = np.empty(len(hashes), np.int32)
    origins = np.empty(len(hashes), np.int64)
    known = np.zeros(len(starts), np.int64)
    out = 0
    for row in range(len(starts) - 1):
        for at in range(starts[row], starts[row + 1]):
            place = (hashes[at] >> np.uint64(7)) & mask
            while numbers[place] >= 0:
                if slots[place] == hashes[at]:
                    features[out], origins[out] = numbers[place], at
                    out += 1
                    break
                place = (place + _ONE) & mask
        known[row + 1] = out
    return features[:out], origins[:out], known


@njit(nogil=True, cache=True)
def _random(state):
    """Return the next state of a xorshift generator (Marsaglia 2003); its upper half is the random number."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    return state ^ (state << np.uint64(17))


@njit(nogil=True, cache=True, fastmath=True)
def learn(
    features, values, starts, cuts, labels, label_starts, order, weights, squares, bias, rate, lost, blind, smooth, seed
):  # pragma: no cover - compiled
    """Make one pass of stochastic gradient descent over the rows in `order`; return the mean loss.

    Softmax regression with one AdaGrad step size (Duchi et al. 2011) per feature. `weights` [features, classes],
    `squares` [features] and `bias` [classes] are changed in place. The right classes of row i are
    labels[label_starts[i]:label_starts[i + 1]], each with an equal share. `rate`: the step size at the beginning and at
    the end of the pass. A feature is left out with the chance `lost`, and of a row with title and description
    (divided at `cuts`) either one with the chance `blind`. `smooth`: share of the target spread over all classes.
    """
    classes = weights.shape[1]
    z = np.empty(classes, np.float32)
    kept = np.empty(max(1, np.max(starts[1:] - starts[:-1])), np.int64)
    state = np.uint64(2 * seed + 1) * np.uint64(0x9E3779B97F4A7C15)
    none = np.uint64(lost * 4294967296.0)
    one_field, other_field = np.uint64(blind * 4294967296.0), np.uint64(2 * blind * 4294967296.0)
    more = np.float32(1.0 / (1.0 - lost))
    total = 0.0
    for turn in range(len(order)):
        row = order[turn]
        step = np.float32(rate[0] + (rate[1] - rate[0]) * turn / len(order))
        begin, end = starts[row], starts[row + 1]
        if begin < cuts[row] < end:
            state = _random(state)
            chance = state >> np.uint64(32)
            if chance < one_field:
                begin = cuts[row]
            elif chance < other_field:
                end = cuts[row]
        for c in range(classes):
            z[c] = bias[c]
        count = 0
        for at in range(begin, end):
            state = _random(state)
            if (state >> np.uint64(32)) < none:
                continue
            kept[count] = at
            count += 1
            row_weights, value = weights[features[at]], values[at] * more
            for c in range(classes):
                z[c] += row_weights[c] * value
        highest = z[0]
        for c in range(1, classes):
            highest = max(highest, z[c])
        mass = np.float32(0.0)
        for c in range(classes):
            z[c] = np.exp(z[c] - highest)
            mass += z[c]
        for c in range(classes):
            z[c] = z[c] / mass
        right = label_starts[row + 1] - label_starts[row]
        likely = np.float32(0.0)
        for at in range(label_starts[row], label_starts[row + 1]):
            likely += z[labels[at]]
        total -= np.log(likely + 1e-12)
        for at in range(label_starts[row], label_starts[row + 1]):
            z[labels[at]] -= np.float32((1.0 - smooth) / right)
        square = np.float32(0.0)
        for c in range(classes):
            z[c] -= np.float32(smooth / classes)
            square += z[c] * z[c]
        for c in range(classes):
            bias[c] -= np.float32(0.1) * step * z[c]
        for place in range(count):
            at = kept[place]
            feature, value = features[at], values[at] * more
            squares[feature] += value * value * square
            scale = step * value / np.sqrt(squares[feature] + np.float32(1e-8))
            row_weights = weights[feature]
            for c in range(classes):
                row_weights[c] -= scale * z[c]
    return total / len(order)


@njit(nogil=True, cache=True, fastmath=True)
def scores(features, values, starts, weights, bias):  # pragma: no cover - compiled
    """Return float32 [n, classes]: for each row the bias and the weights of its features times their values."""
    classes = len(bias)
    out = np.empty((len(starts) - 1, classes), np.float32)
    for row in range(len(starts) - 1):
        z = out[row]
        for c in range(classes):
            z[c] = bias[c]
        for at in range(starts[row], starts[row + 1]):
            row_weights, value = weights[features[at]], values[at]
            for c in range(classes):
                z[c] += row_weights[c] * value
    return out


@njit(nogil=True, cache=True, fastmath=True)
def votes(
    features, values, starts, list_starts, list_rows, list_values, label_starts, labels, power, classes
):  # pragma: no cover - compiled
    """Return float32 [n, classes]: what all remembered rows say of each row, each for its own classes in equal shares
    and with the weight of its similarity to the power `power`.

    The remembered rows that hold feature f are list_rows[list_starts[f]:list_starts[f + 1]], `list_values` what f adds
    to the similarity there. Row i of the others holds features[starts[i]:starts[i + 1]] with `values`.
    """
    remembered = len(label_starts) - 1
    out = np.zeros((len(starts) - 1, classes), np.float32)
    near = np.zeros(remembered, np.float32)
    for row in range(len(starts) - 1):
        near[:] = 0.0
        for at in range(starts[row], starts[row + 1]):
            feature, value = features[at], values[at]
            for place in range(list_starts[feature], list_starts[feature + 1]):
                near[list_rows[place]] += value * list_values[place]
        for other in range(remembered):
            if near[other] > _NEAR:
                weight = near[other] ** power / (label_starts[other + 1] - label_starts[other])
                for place in range(label_starts[other], label_starts[other + 1]):
                    out[row, labels[place]] += weight
    return out


@njit(nogil=True, cache=True, fastmath=True)
def chosen_votes(
    features, values, starts, groups, chosen, list_starts, list_rows, list_values, label_starts, labels, power
):  # pragma: no cover - compiled
    """Return for each row its votes for one class, and all of its votes, float32 [n] each; see `votes`.

    Rows groups[i] to groups[i + 1] belong together: they ask for the class chosen[i], and are much alike. So the lists
    are read once for all rows of a group to see which remembered rows may be near any of them, by the highest value of
    each feature, and once to see how near these are to each.
    """
    remembered = len(label_starts) - 1
    for_chosen, everything = np.zeros(len(starts) - 1, np.float32), np.zeros(len(starts) - 1, np.float32)
    near = np.zeros(remembered, np.float32)
    places = np.full(remembered, -1, np.int32)
    columns = np.full(len(list_starts) - 1, -1, np.int32)
    for group in range(len(groups) - 1):
        begin, end = groups[group], groups[group + 1]
        # The features of the group, and the value of each in each of its rows.
        held = np.empty(starts[end] - starts[begin], np.int32)
        count = 0
        for at in range(starts[begin], starts[end]):
            if columns[features[at]] < 0:
                columns[features[at]] = count
                held[count] = features[at]
                count += 1
        table = np.zeros((count, end - begin), np.float32)
        for row in range(begin, end):
            for at in range(starts[row], starts[row + 1]):
                table[columns[features[at]], row - begin] += values[at]
        near[:] = 0.0
        for column in range(count):
            highest = table[column].max()
            for place in range(list_starts[held[column]], list_starts[held[column] + 1]):
                near[list_rows[place]] += highest * list_values[place]
        found = 0
        for other in range(remembered):
            if near[other] > _NEAR:
                places[other] = found
                found += 1
        similar = np.zeros((found, end - begin), np.float32)
        for column in range(count):
            for place in range(list_starts[held[column]], list_starts[held[column] + 1]):
                at = places[list_rows[place]]
                if at >= 0:
                    for row in range(end - begin):
                        similar[at, row] += table[column, row] * list_values[place]
            columns[held[column]] = -1
        for other in range(remembered):
            if places[other] < 0:
                continue
            among, right = label_starts[other + 1] - label_starts[other], 0
            for place in range(label_starts[other], label_starts[other + 1]):
                right += labels[place] == chosen[group]
            for row in range(end - begin):
                if similar[places[other], row] > _NEAR:
                    weight = similar[places[other], row] ** power
                    everything[begin + row] += weight
                    for_chosen[begin + row] += weight * right / among
            places[other] = -1
    return for_chosen, everything
