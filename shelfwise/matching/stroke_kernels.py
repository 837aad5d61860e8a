"""The inner loops of `shelfwise.matching.strokes`, compiled by numba.

Importing this module imports numba (half a second): import it inside functions.
"""

from __future__ import annotations

import numpy as np
from numba import njit  # noqa: TID253 - this module is itself imported inside functions

# Costs in tenths of a keystroke. `SHORT`: a word shortened to its first letters (three or more) or its consonants;
# `LOST`: a word of the title that the line lacks.
SLIP, SHORT, LOST = 10, 4, 10
MOST_WORDS, MOST_CELLS = 24, 2048
# A state is one number: cost, spare letters, shortened words, and which words of the title are used. Of two states the
# smaller number is the better one, and adding to a part of it adds to that part.
_COST, _SPARE, _SHORT = 40, 29, 24
_NEVER = np.int64(1 << 61)


@njit(nogil=True, cache=True)
def pair_rarity(ptr, chars, n):  # pragma: no cover - compiled
    """Return float32 [4096]: the inverse document frequency of each pair of neighbouring characters in n texts."""
    seen = np.full(4096, -1, np.int64)
    count = np.zeros(4096, np.int64)
    for row in range(n):
        before = 0
        for at in range(ptr[row], ptr[row + 1] + 1):
            char = chars[at] if at < ptr[row + 1] else 0
            pair = before << 6 | char
            before = char
            if seen[pair] != row:
                seen[pair] = row
                count[pair] += 1
    out = np.empty(4096, np.float32)
    for pair in range(4096):
        out[pair] = np.log((1 + n) / (1 + count[pair])) + 1
    return out


@njit(nogil=True, cache=True)
def pair_lengths(ptr, chars, rarity):  # pragma: no cover - compiled
    """Return float32: the length of each text's vector of character pairs."""
    n = len(ptr) - 1
    seen = np.full(4096, -1, np.int64)
    out = np.empty(n, np.float32)
    for row in range(n):
        before, total = 0, np.float32(0.0)
        for at in range(ptr[row], ptr[row + 1] + 1):
            char = chars[at] if at < ptr[row + 1] else 0
            pair = before << 6 | char
            before = char
            if seen[pair] != row:
                seen[pair] = row
                total += rarity[pair] * rarity[pair]
        out[row] = max(np.sqrt(total), np.float32(1e-6))
    return out


@njit(nogil=True, cache=True)
def pair_cosines(q_ptr, q_chars, r_ptr, r_chars, r_length, rarity, line, row):  # pragma: no cover - compiled
    """Return, per (line `line[i]`, text `row[i]`), the cosine of their character pairs. `line` ascends."""
    out = np.empty(len(line), np.float32)
    squared = rarity * rarity
    weight = np.zeros(4096, np.float32)
    seen = np.full(4096, -1, np.int64)
    current, length = -1, np.float32(1.0)
    for i in range(len(line)):
        if line[i] != current:
            for fill in range(2):  # empties what the line before left, then fills
                if current >= 0:
                    before = 0
                    for at in range(q_ptr[current], q_ptr[current + 1] + 1):
                        char = q_chars[at] if at < q_ptr[current + 1] else 0
                        weight[before << 6 | char] = squared[before << 6 | char] * fill
                        before = char
                current = line[i]
            total, before = np.float32(0.0), 0
            for at in range(q_ptr[current], q_ptr[current + 1] + 1):
                char = q_chars[at] if at < q_ptr[current + 1] else 0
                pair = before << 6 | char
                before = char
                if seen[pair] != -2 - current:
                    seen[pair] = -2 - current
                    total += squared[pair]
            length = max(np.sqrt(total), np.float32(1e-6))
        dot, before = np.float32(0.0), 0
        for at in range(r_ptr[row[i]], r_ptr[row[i] + 1] + 1):
            char = r_chars[at] if at < r_ptr[row[i] + 1] else 0
            pair = before << 6 | char
            before = char
            if weight[pair] > 0 and seen[pair] != i:
                seen[pair] = i
                dot += weight[pair]
        out[i] = dot / (length * r_length[row[i]])
    return out


@njit(nogil=True, cache=True)
def _write(text, n, patterns, starts, bits, shorts, n_patterns, cells):  # noqa: PLR0915  # pragma: no cover
    """Return the best state of writing text[:n] with the patterns, each word at most once along the best path.

    Pattern p is `patterns[starts[p]:starts[p + 1]]`, stands for word `bits[p]`, and is its short form where
    `shorts[p]`. `cells`: int64 [3, MOST_CELLS]; pattern p has the cells from `starts[p] + p` on, the first of which
    holds the state before its first character. Source: one-stage dynamic programming (Ney 1984) over edit distance
    with transpositions.
    """
    one = np.int64(1)
    slip = np.int64(SLIP) << _COST
    spare = slip + (one << _SPARE)
    short = (np.int64(SHORT) << _COST) + (one << _SHORT)
    gain = np.int64(LOST) << _COST
    width = starts[n_patterns] + n_patterns
    for at in range(width):
        cells[0, at] = _NEVER
        cells[2, at] = _NEVER
    # `between`: no word is open; `parted`: the same, and what stands for the space before the next word is behind.
    between, one_ago, two_ago = np.int64(0), _NEVER, _NEVER
    for j in range(n + 1):
        now, last, older = j % 3, (j + 2) % 3, (j + 1) % 3
        parted = _NEVER
        here, before = np.uint8(255), np.uint8(255)
        if j > 0:
            here = text[j - 1]
            before = text[j - 2] if j > 1 else np.uint8(255)
            one_ago, two_ago = between, one_ago
            if here == 0:
                between = one_ago
            else:
                between = one_ago + spare
                parted = one_ago + slip
            for p in range(n_patterns):
                first, size = starts[p], starts[p + 1] - starts[p]
                base = first + p
                cells[now, base] = _NEVER
                above = _NEVER
                diagonal = cells[last, base]
                bit = one << bits[p]
                least = _NEVER
                ahead = np.uint8(255)
                for i in range(1, size):
                    char = patterns[first + i - 1]
                    left = cells[last, base + i]
                    cell = min(diagonal + (np.int64(0) if char == here else slip), min(above, left) + slip)
                    if char == before and ahead == here:
                        cell = min(cell, cells[older, base + i - 2] + slip)
                    cells[now, base + i] = cell
                    least = min(least, cell if i >= 3 else _NEVER)
                    diagonal, above, ahead = left, cell, char
                char = patterns[first + size - 1]
                cell = diagonal + (np.int64(0) if char == here else slip)
                cell = min(cell, min(above, cells[last, base + size]) + slip)
                if char == before and ahead == here:
                    cell = min(cell, cells[older, base + size - 2] + slip)
                cells[now, base + size] = cell
                done = cell | bit
                if shorts[p]:
                    done += short
                else:
                    done = min(done, (least | bit) + short)
                between = min(between, done)
                if before == 0 and char == here:
                    ending = short if shorts[p] else np.int64(0)
                    parted = min(parted, (cells[older, base + size - 1] | bit) + ending + slip)
        glued = np.int64(0) if (j == 0 or j == n or here == 0 or text[j] == 0) else slip
        opened = min(between + glued, parted)
        for p in range(n_patterns):
            base, bit = starts[p] + p, one << bits[p]
            cells[now, base] = _NEVER
            if not opened & bit:
                start = opened - gain
                cells[now, base] = start
                for i in range(1, min(3, starts[p + 1] - starts[p])):
                    start += slip
                    cells[now, base + i] = min(cells[now, base + i], start)
            if here == 0 and j > 1 and before == patterns[starts[p]] and two_ago < _NEVER and not two_ago & bit:
                cells[now, base + 1] = min(cells[now, base + 1], two_ago - gain + slip)
    return between


@njit(nogil=True, cache=True)
def strokes(  # noqa: PLR0915
    t_ptr, text, line, product, w_ptr, words, c_ptr, chars, b_ptr, bones, names, rarity
):  # pragma: no cover - compiled
    """Return, per (line `line[i]`, title `product[i]`), float32 [n, 6]: the fewest keystrokes from title to line.

    `t_ptr`, `text`: characters of the lines; `w_ptr`, `words`: words of each title; `c_ptr`, `chars`: characters of
    each word; `b_ptr`, `bones`: its consonants, empty where they are no short form; `names`: a hash of each word (see
    `hashed`); `rarity`: of each word. Columns: keystrokes in all, slips, spare letters of the line, shortened words,
    lost words, share of the title's rarity that is found.
    """
    out = np.empty((len(line), 6), np.float32)
    of_line, begin, stop = np.zeros(512, np.uint64), np.zeros(512, np.int64), np.zeros(512, np.int64)
    taken = np.zeros(512, np.bool_)
    rest = np.zeros(1024, np.uint8)
    patterns, cells = np.zeros(MOST_CELLS, np.uint8), np.zeros((3, MOST_CELLS), np.int64)
    starts, bits = np.zeros(2 * MOST_WORDS + 2, np.int64), np.zeros(2 * MOST_WORDS + 1, np.int64)
    shorts, open_words = np.zeros(2 * MOST_WORDS + 1, np.bool_), np.zeros(MOST_WORDS, np.int64)
    held = np.full(4096, -1, np.int64)  # the last pair whose rest of the line held these two neighbouring characters
    current, n_line = -1, 0
    for k in range(len(line)):
        if line[k] != current:
            current, n_line = line[k], 0
            at = t_ptr[current]
            while at < t_ptr[current + 1]:
                if text[at] == 0:
                    at += 1
                    continue
                begin[n_line] = at
                value = np.uint64(1469598103934665603)
                while at < t_ptr[current + 1] and text[at] != 0:
                    value = (value ^ np.uint64(text[at])) * np.uint64(1099511628211)
                    at += 1
                stop[n_line], of_line[n_line] = at, value
                n_line += 1
        for i in range(n_line):
            taken[i] = False
        # Words that both hold as they are need no search.
        total, found, n_open, lost = np.float32(0.0), np.float32(0.0), 0, 0
        for at in range(w_ptr[product[k]], w_ptr[product[k] + 1]):
            word = words[at]
            total += rarity[word]
            same = -1
            for i in range(n_line):
                if of_line[i] == names[word] and not taken[i]:
                    same = i
                    break
            if same >= 0:
                taken[same] = True
                found += rarity[word]
            elif n_open < MOST_WORDS:
                open_words[n_open] = word
                n_open += 1
            else:
                lost += 1
        n, spares = 0, 0
        for i in range(n_line):
            if not taken[i]:
                if n > 0:
                    rest[n] = 0
                    n += 1
                for at in range(begin[i], stop[i]):
                    rest[n] = text[at]
                    n += 1
                    spares += 1
        slips, shortened = 0, 0
        if n_open and n:
            n_patterns, filled = 0, 0
            before = 0
            for at in range(n):
                held[before << 6 | rest[at]] = k
                before = rest[at]
            held[before << 6] = k
            for i in range(n_open):
                word = open_words[i]
                for form in range(2):
                    a = c_ptr[word] if form == 0 else b_ptr[word]
                    b = c_ptr[word + 1] if form == 0 else b_ptr[word + 1]
                    if a == b or filled + b - a + n_patterns + 2 >= MOST_CELLS:
                        continue
                    starts[n_patterns], bits[n_patterns], shorts[n_patterns] = filled, i, form == 1
                    before, near = 0, 0
                    for at in range(b - a):
                        char = chars[a + at] if form == 0 else bones[a + at]
                        patterns[filled + at] = char
                        near += held[before << 6 | char] == k
                        before = char
                    near += held[before << 6] == k
                    # Consonants that vowels part in the word stand together where it was shortened.
                    if near > 0 and (form == 0 or 2 * near > b - a):
                        filled += b - a
                        n_patterns += 1
            starts[n_patterns] = filled
            state = _write(rest, n, patterns, starts, bits, shorts, n_patterns, cells)
            spares, shortened = (state >> _SPARE) & 2047, (state >> _SHORT) & 31
            used = 0
            for i in range(n_open):
                if (state >> i) & 1:
                    found += rarity[open_words[i]]
                    used += 1
            slips = ((state >> _COST) + LOST * used - SHORT * shortened) // SLIP - spares
            lost += n_open - used
        else:
            lost += n_open
        out[k, 0] = slips + spares + (SHORT * shortened + LOST * lost) / np.float32(SLIP)
        out[k, 1] = slips
        out[k, 2] = spares
        out[k, 3] = shortened
        out[k, 4] = lost
        out[k, 5] = found / max(total, np.float32(1e-6))
    return out


@njit(nogil=True, cache=True)
def hashed(ptr, chars):  # pragma: no cover - compiled
    """Return a hash (FNV-1a) of each text, uint64."""
    out = np.empty(len(ptr) - 1, np.uint64)
    for row in range(len(out)):
        value = np.uint64(1469598103934665603)
        for at in range(ptr[row], ptr[row + 1]):
            value = (value ^ np.uint64(chars[at])) * np.uint64(1099511628211)
        out[row] = value
    return out
