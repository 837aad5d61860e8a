"""Whether a vendor's file, or a week of files, differs from what the champion was trained on by more than files do.

Lines of one file resemble each other: one vendor writes capitals, another puts its article numbers first. A test that
takes the lines for draws from the pool of all vendors calls every file drifted, the more surely the longer it is. So
the unit of comparison is the file. Per measure of a line (`lines.MEASURES`) the reference knows the mean of each of its
vendors; vendors differ by a variance T, lines of a vendor by a variance S. The mean of a new vendor's file of n lines
then lies about the mean of the vendors' means with the variance T + S/n + what their own number leaves uncertain, and
the distance in these units follows Student's t with (vendors - 1) degrees of freedom: the prediction interval of a
random-effects model (Higgins, Thompson and Spiegelhalter 2009). With five vendors that interval is wide, as it should
be. Vendors' habits are not normal: beyond the interval, a file also has to be further off than any vendor of the
reference is from the others.

The titles of a vendor whose lines the champion knew are compared with its own past instead: its lines in the reference,
or any of its files that came before the champion was registered, of which the nearest counts. Its files may differ by
half of what vendors differ by. What the champion makes of lines is compared with other vendors always: labels do not
say how many of a vendor's own lines match nothing.

The false alarms stated are those of a file over all its measures together (Bonferroni). A measure drifted where all
of this says so and the change is worth a word at all (`Measure.least`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shelfwise.monitoring.lines import BY_NAME, EITHER, MEASURES, NAMES, OF_TITLE, Vocabulary

OK, WARN, FAIL = "ok", "warn", "fail"
OTHERS, OWN_PAST = "other vendors", "its own past"
LEAST_LINES = 20  # of a file or vendor, with a value of the measure: below, nothing is said about it
LEAST_VENDORS = 3  # below, nobody can say how much vendors differ
OWN_SPREAD = 0.5  # a vendor's files differ by this share of what vendors differ by (standard deviations)
OWN_SPREAD_OF_LINES = 0.25  # the same as a share of what lines differ by, where there are too few vendors to tell
FORMAT = 1
COLUMNS = (
    "measure", "about", "compared_with", "lines", "value", "usual", "change", "limit", "p_value", "drifted",
)  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """Lines of one vendor or file in one measure: how many have it, their mean and variance."""

    lines: int
    mean: float
    variance: float


Profiles = dict[str, Profile]


def profile(described: pd.DataFrame, measures: Sequence[str] = NAMES) -> Profiles:
    """Return the profile of each measure that any line has."""
    made = {}
    for name in measures:
        values = described[name].to_numpy(np.float64) if name in described else np.empty(0)
        values = values[np.isfinite(values)]
        if len(values):
            made[name] = Profile(len(values), float(values.mean()), float(values.var(ddof=1)) if len(values) > 1 else 0)
    return made


@dataclass(frozen=True)
class Spread:
    """How the vendors of the reference lie in one measure.

    `vendors`: how many; `mean` of their means; `between`: variance of a vendor's true mean; `within`: of lines about
    their vendor's mean; `uncertain`: variance of `mean`; `largest`: how far, in predicted deviations, the most unusual
    vendor is from the others (above them where only a rise counts, below where only a fall does).
    """

    vendors: int
    mean: float
    between: float
    within: float
    uncertain: float
    largest: float

    @classmethod
    def of(cls, profiles: Sequence[Profile], direction: int = EITHER, held_out: Sequence[bool] = ()) -> Spread:
        """Estimate from the vendors' profiles, by moments.

        `held_out`: which of them the model was not fitted on. The level is theirs alone, since lines that a model
        learned from look better to it; how vendors differ is taken from all, the others moved to that level.
        """
        n = np.array([one.lines for one in profiles], np.float64)
        mean = np.array([one.mean for one in profiles], np.float64)
        held = np.array(held_out, bool) if any(held_out) else np.ones(len(n), bool)
        if held.sum() < LEAST_VENDORS:
            held[:] = True
        if not held.all():
            mean[~held] += mean[held].mean() - mean[~held].mean()
        freedom = max(float((n - 1).sum()), 1.0)
        within = float(sum((one.lines - 1) * one.variance for one in profiles) / freedom)
        count = len(profiles)
        if count < LEAST_VENDORS:
            return cls(count, float(mean.mean()) if count else 0.0, 0.0, within, 0.0, 0.0)
        spread = float(mean.var(ddof=1))
        between = max(spread - within * float((1 / n).mean()), 0.0)
        far = [0.0]
        if count > LEAST_VENDORS:
            for i in range(count):
                rest = np.delete(np.arange(count), i)
                scatter = float(mean[rest].var(ddof=1))
                theirs = max(scatter - within * float((1 / n[rest]).mean()), 0.0)
                deviation = np.sqrt(theirs + within / n[i] + scatter / len(rest))
                change = mean[i] - float(mean[rest].mean())
                far.append(_counted(change, direction) / max(deviation, 1e-9) if abs(change) > 1e-9 else 0.0)
        return cls(count, float(mean.mean()), between, within, spread / int(held.sum()), float(max(far)))


def _counted(change: float, direction: int) -> float:
    """Return how large a change is in the direction that counts; negative in the other."""
    return abs(change) if direction == EITHER else change * direction


@dataclass(frozen=True)
class Judgement:
    """What a file or a week came to.

    `level`: "ok", "warn" where any measure drifted, "fail" where at least the stated share did. `columns`: one row per
    measure that could be compared (`COLUMNS`). `cause`: what drifted, in the terms of a signal ("" where nothing did).
    """

    level: str
    columns: pd.DataFrame
    sentence: str
    cause: str = ""
    share: float = 0.0
    drifted: tuple[str, ...] = ()


@dataclass
class Reference:
    """What the lines were like that a champion was trained and evaluated on.

    `lines`: a sample, described, with vendor_id, title, root (category of the best candidate) and decision. `vectors`:
    their unit vectors, [n, 0] without an encoder. `spreads`: by measure. `vendors`: each vendor's profiles. `roots`:
    lines per root category. `vocabulary`: the words the champion knows. `categories`: each product's root category.
    `thresholds`: for Evidently's distances, by column. `about`: champion, counts, shares.
    """

    lines: pd.DataFrame
    vectors: np.ndarray
    spreads: dict[str, Spread]
    vendors: dict[str, Profiles]
    roots: dict[str, int]
    vocabulary: Vocabulary
    categories: dict[str, str] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def save(self, directory: Path) -> None:
        """Write lines, words and products as Parquet, vectors.npy and reference.json."""
        directory.mkdir(parents=True, exist_ok=True)
        self.lines.to_parquet(directory / "lines.parquet", index=False)
        owner = self.vocabulary.owner
        words = pd.DataFrame({"word": list(owner), "owner": list(owner.values())}, dtype="str")
        words.to_parquet(directory / "words.parquet", index=False)
        products = pd.DataFrame(
            {"product_id": list(self.categories), "root": list(self.categories.values())}, dtype="str"
        )
        products.to_parquet(directory / "products.parquet", index=False)
        np.save(directory / "vectors.npy", self.vectors.astype(np.float16), allow_pickle=False)
        plain = {
            "format": FORMAT,
            "about": self.about,
            "roots": self.roots,
            "thresholds": self.thresholds,
            "spreads": {name: asdict(one) for name, one in self.spreads.items()},
            "vendors": {v: {m: asdict(one) for m, one in of.items()} for v, of in self.vendors.items()},
        }
        (directory / "reference.json").write_text(json.dumps(plain, indent=1, sort_keys=True))

    @classmethod
    def load(cls, directory: Path) -> Reference:
        """Read what `save` wrote. Raises ValueError where another version made it."""
        raw = json.loads((directory / "reference.json").read_text())
        if raw.get("format") != FORMAT:
            raise ValueError(f"the drift reference in {directory} was made by another version; make it again")
        words = pd.read_parquet(directory / "words.parquet")
        products = pd.read_parquet(directory / "products.parquet")
        return cls(
            pd.read_parquet(directory / "lines.parquet"),
            np.load(directory / "vectors.npy", allow_pickle=False).astype(np.float32),
            {name: Spread(**one) for name, one in raw["spreads"].items()},
            {v: {m: Profile(**one) for m, one in of.items()} for v, of in raw["vendors"].items()},
            raw["roots"],
            Vocabulary(dict(zip(words["word"], words["owner"], strict=True))),
            dict(zip(products["product_id"], products["root"], strict=True)),
            raw["thresholds"],
            raw["about"],
        )


def judge(
    described: pd.DataFrame,
    reference: Reference,
    vendor_id: str,
    pasts: Sequence[Profiles] = (),
    false_alarms: float = 0.01,
    fail_share: float = 0.2,
) -> Judgement:
    """Judge one vendor's file.

    `described`: its lines, or a random sample of them. `pasts`: profiles of the vendor's files from before the champion
    was registered, of measures of the title. `false_alarms`: share of undisturbed files that may be called drifted.
    `fail_share`: of the measures compared, from which on the level is "fail".
    """
    own = [reference.vendors[vendor_id], *pasts] if vendor_id in reference.vendors else list(pasts)
    found = profile(described)
    judged = [name for name in NAMES if _enough(found.get(name)) and name in reference.spreads]
    level = false_alarms / max(len(judged), 1)
    rows = []
    for name in judged:
        theirs = [past[name] for past in own if name in OF_TITLE and _enough(past.get(name))]
        row = _nearest_past(name, found[name], theirs, reference.spreads[name], level)
        row = row or _against_others(name, [found[name]], reference.spreads[name], level)
        if row:
            rows.append(row)
    return _judgement(rows, f"{len(described):,} lines", fail_share)


def judge_pool(
    files: Mapping[str, pd.DataFrame], reference: Reference, false_alarms: float = 0.01, fail_share: float = 0.2
) -> Judgement:
    """Judge the lines of several vendors together, vendor_id -> described lines: a shift that no file shows alone."""
    found = [profile(described) for described in files.values()]
    with_enough = {name: [one[name] for one in found if _enough(one.get(name))] for name in NAMES}
    judged = [name for name in NAMES if with_enough[name] and name in reference.spreads]
    level = false_alarms / max(len(judged), 1)
    rows = [_against_others(name, with_enough[name], reference.spreads[name], level) for name in judged]
    lines = sum(len(described) for described in files.values())
    vendors = f"{len(files)} vendor{'s' * (len(files) != 1)}"
    return _judgement([row for row in rows if row], f"{lines:,} lines of {vendors}", fail_share)


def _enough(one: Profile | None) -> bool:
    return one is not None and one.lines >= LEAST_LINES


def _against_others(name: str, files: Sequence[Profile], spread: Spread, level: float) -> dict[str, Any] | None:
    """Compare the mean of vendors' means with that of the reference; None where it has too few vendors, or where each
    vendor has a habit of its own.
    """
    if spread.vendors < LEAST_VENDORS or BY_NAME[name].habit:
        return None
    count = len(files)
    noise = sum(max(one.variance, spread.within) / one.lines for one in files) / count
    deviation = np.sqrt((spread.between + noise) / count + spread.uncertain)
    value = float(np.mean([one.mean for one in files]))
    # The most unusual vendor of the reference is the measure for one vendor; the mean of several is closer to normal.
    largest = spread.largest / np.sqrt(count)
    lines = sum(one.lines for one in files)
    return _row(name, OTHERS, lines, value, spread.mean, deviation, spread.vendors - 1, level, largest)


def _nearest_past(
    name: str, one: Profile, pasts: Sequence[Profile], spread: Spread, level: float
) -> dict[str, Any] | None:
    """Compare with each past of the vendor and return the row of the nearest, None without any."""
    between = OWN_SPREAD**2 * spread.between
    freedom = spread.vendors - 1
    if spread.vendors < LEAST_VENDORS:
        between, freedom = OWN_SPREAD_OF_LINES**2 * spread.within, 2
    rows = []
    for past in pasts:
        noise = max(one.variance, past.variance, spread.within)
        deviation = np.sqrt(between + noise * (1 / one.lines + 1 / past.lines))
        rows.append(_row(name, OWN_PAST, one.lines, one.mean, past.mean, deviation, freedom, level))
    return min(rows, key=lambda row: _counted(row["change"], BY_NAME[name].direction) / row["limit"], default=None)


def _row(
    name: str,
    compared_with: str,
    lines: int,
    value: float,
    usual: float,
    deviation: float,
    freedom: int,
    level: float,
    largest: float = 0.0,
) -> dict[str, Any]:
    from scipy.special import stdtr, stdtrit  # Student's t: a hundred times as fast as scipy.stats

    measure = BY_NAME[name]
    change = value - usual
    counted, sides = _counted(change, measure.direction), 2 if measure.direction == EITHER else 1
    deviation = max(float(deviation), 1e-9)
    limit = max(float(-stdtrit(freedom, level / sides)) * deviation, largest * deviation, measure.least)
    p_value = min(float(stdtr(freedom, -counted / deviation)) * sides, 1.0)
    told = (name, measure.about, compared_with, lines, value, usual, change, limit, p_value, counted > limit)
    return dict(zip(COLUMNS, told, strict=True))


def _judgement(rows: list[dict[str, Any]], of_what: str, fail_share: float) -> Judgement:
    columns = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    columns["drifted"] = columns["drifted"].astype(bool)
    if not rows:
        return Judgement(OK, columns, f"{of_what}: too little to compare, so nothing is said about drift")
    excess = columns["change"].abs() / columns["limit"]
    told = columns.assign(excess=excess)[columns["drifted"]].sort_values("excess", ascending=False)
    share = len(told) / len(columns)
    level = FAIL if len(told) and share >= fail_share else WARN if len(told) else OK
    if level == OK:
        return Judgement(OK, columns, f"{of_what}: none of {len(columns)} measures drifted")
    parts = [f"{row.measure} {row.value:.3g} (usual {row.usual:.3g}, {row.compared_with})" for row in told.itertuples()]
    sentence = f"{of_what}: {len(told)} of {len(columns)} measures drifted: " + "; ".join(map(str, parts))
    names = tuple(told["measure"])
    cause = "inputs" if any(not BY_NAME[name].of_model for name in names) else "scores"
    return Judgement(level, columns, sentence, cause, share, names)


def spreads_of(vendors: Mapping[str, Profiles], held_out: Collection[str] = ()) -> dict[str, Spread]:
    """Return how vendors lie in each measure; measures that no vendor has are left out. `held_out`: see `Spread.of`."""
    made = {}
    for measure in MEASURES:
        some = {vendor: of[measure.name] for vendor, of in vendors.items() if _enough(of.get(measure.name))}
        if some:
            held = [vendor in held_out for vendor in some] if measure.of_model else []
            made[measure.name] = Spread.of(list(some.values()), measure.direction, held)
    return made
