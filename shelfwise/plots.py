"""Pictures of results, each a function from plain data to PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from shelfwise.matching.guarantee import Certificate
    from shelfwise.simulation import Story

INK, MUTED, ACCENT, GOOD, WARN, BAD = "#1f2933", "#8a94a0", "#2f6fde", "#2e9e6b", "#e0a32e", "#cf4b4b"


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, np.ndarray]:
    """Return a figure of this size in inches with its axes [rows, columns]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A Figure of its own rather than pyplot: no global state, so steps in one process cannot draw over each other.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(colors=INK, labelsize=8)
        axis.title.set_fontsize(10)
    return figure, axes


def png(figure: Figure) -> bytes:
    """Return a figure as a picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def literal(text: str) -> str:
    """Text that matplotlib draws as it is: between dollar signs it would read formulas, and fail on what is none."""
    return text.replace("$", r"\$")


def profile_picture(profile: Mapping[str, pd.Series]) -> bytes:
    """Draw a product profile: title lengths, tokens, missing values and the largest categories.

    `profile` holds `title_length` and `title_tokens` (one value per product), `missing_share` (by column) and
    `category` (products by category).
    """
    figure, axes = new_figure(10, 6, 2, 2)
    axes[0, 0].hist(profile["title_length"], bins=40, color=ACCENT)
    axes[0, 0].set(title="Title length (characters)", ylabel="products")
    counts = profile["title_tokens"].value_counts().sort_index()
    axes[0, 1].bar(counts.index, counts, color=ACCENT)
    axes[0, 1].set(title="Tokens per title")
    missing = profile["missing_share"].sort_values()
    axes[1, 0].barh(missing.index, missing * 100, color=WARN)
    axes[1, 0].set(title="Missing values (%)", xlim=(0, 100))
    categories = profile["category"].head(15)[::-1]
    axes[1, 1].barh([literal(str(name)[-40:]) for name in categories.index], categories, color=ACCENT)
    axes[1, 1].set(title="Largest categories (products)")
    return png(figure)


def precision_coverage_picture(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    approve_point: tuple[float, float] | None = None,
    certificate: Certificate | None = None,
    title: str = "Precision against coverage, lines of unseen vendors",
    covers: str = "coverage: share of lines with a match that were answered rightly",
    settled: str = "approved",
    lines: str = "lines",
) -> bytes:
    """Draw precision against coverage for each model: `curves[name] = (coverage, precision)`, both in 0..1.

    `approve_point` is (coverage, precision) at the auto-approve threshold. `certificate`: what is guaranteed; the
    target is drawn as a line, threshold, bound and sample are named. `covers`: what coverage is; `settled`, `lines`:
    what is done with what, without a person.
    """
    figure, axes = new_figure(7, 4.5)
    axis = axes[0, 0]
    colours = [ACCENT, MUTED, WARN, GOOD, BAD]
    for index, (name, (coverage, precision)) in enumerate(curves.items()):
        width = 2.2 if index == 0 else 1.4
        axis.plot(coverage, precision, label=name, color=colours[index % len(colours)], linewidth=width)
    if approve_point is not None and all(np.isfinite(approve_point)):
        axis.plot(*approve_point, "o", color=GOOD, markersize=8, label=f"auto-{settled}")
    if certificate is not None:
        axis.axhline(certificate.target, color=GOOD, linewidth=0.9, linestyle="--")
        axis.annotate(
            _promise(certificate, settled, lines),
            (0.99, 0.03),
            xycoords="axes fraction",
            ha="right",
            va="bottom",
            fontsize=8,
            color=INK,
        )
    axis.set(xlabel=covers, xlim=(0, 1))
    axis.set(ylabel="precision of the answers", ylim=(0, 1.02))
    axis.set_title(title)
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=8, loc="lower left")
    return png(figure)


def _promise(one: Certificate, settled: str, lines: str) -> str:
    if one.threshold is None:
        return (
            f"target {one.target:.4g}: too little evidence among {one.sample:,} {lines},\n"
            f"nothing is {settled} on its own"
        )
    return (
        f"{settled} from {one.threshold:.4f}, certified on other {lines}:\n"
        f"precision ≥ {one.bound:.4f} ({one.confidence:.0%} confidence; target {one.target:.4g})\n"
        f"{one.wrong:,} of {one.lines:,} {lines} wrong, of {one.sample:,} looked at"
    )


def accuracy_picture(
    metrics: Mapping[str, Mapping[str, float]], title: str = "Accuracy on unseen vendors, 95 % intervals"
) -> bytes:
    """Draw top-1 and top-5 of each model as bars; `metrics[name]` holds `top1`, `top5` and, where known, bounds."""
    figure, axes = new_figure(7, 0.9 + 0.55 * len(metrics))
    axis = axes[0, 0]
    names = list(metrics)[::-1]
    positions = np.arange(len(names))
    for offset, measure, colour in ((0.2, "top1", ACCENT), (-0.2, "top5", MUTED)):
        values = np.array([metrics[name].get(measure, np.nan) for name in names])
        low = np.array([metrics[name].get(f"{measure}_low", value) for name, value in zip(names, values, strict=True)])
        high = np.array(
            [metrics[name].get(f"{measure}_high", value) for name, value in zip(names, values, strict=True)]
        )
        errors = np.clip(np.vstack([values - low, high - values]), 0, None)
        axis.barh(
            positions + offset, values, height=0.36, color=colour, label=measure.replace("top", "top-"), xerr=errors
        )
        for position, value, end in zip(positions + offset, values, values + errors[1], strict=True):
            room = value > 0.15  # a short bar is written beside, where its interval cannot cross the number
            x, colour = (0.01, "white") if room else (np.nan_to_num(end) + 0.01, "black")
            axis.text(x, position, f"{value:.3f}", va="center", color=colour, fontsize=8)
    axis.set_yticks(positions, names)
    axis.set(xlim=(0, 1), title=title)
    axis.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2)
    return png(figure)


def differences_picture(rows: pd.DataFrame, margins: Mapping[str, float]) -> bytes:
    """Draw paired differences with their 95 % intervals, one row each (a forest plot), in points.

    `rows`: label, group, difference, low, high, as shares. `margins`: by group, how far below zero is still accepted,
    drawn as a dashed line beside the rows of that group.
    """
    rows = rows[np.isfinite(rows["difference"])].reset_index(drop=True)
    figure, axes = new_figure(8, 1.3 + 0.24 * max(len(rows), 3))
    axis, at = axes[0, 0], -np.arange(len(rows))
    points = rows[["difference", "low", "high"]].to_numpy(dtype=float).T * 100
    for position, difference, low, high in zip(at, *points, strict=True):
        colour = GOOD if low > 0 else BAD if high < 0 else MUTED
        axis.plot([low, high], [position, position], color=colour, linewidth=1.6, solid_capstyle="butt")
        axis.plot(difference, position, "o", color=colour, markersize=4.5)
    for group, own in rows.groupby("group", sort=False):
        if str(group) in margins:
            edge = -100 * margins[str(group)]
            ends = [at[own.index[0]] + 0.4, at[own.index[-1]] - 0.4]
            axis.plot([edge, edge], ends, color=WARN, linewidth=1, linestyle="--")
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set_yticks(at, [literal(str(label)[-48:]) for label in rows["label"]])
    axis.set(xlabel="candidate minus champion, points, 95 % interval; dashed: what may be lost")
    axis.set_title("Candidate against champion, line by line")
    axis.grid(alpha=0.25, axis="x")
    return png(figure)


def decisions_picture(scores: Sequence[float], decisions: Sequence[str], title: str) -> bytes:
    """Draw the scores of an upload's best candidates, coloured by the decisions they led to."""
    figure, axes = new_figure(7, 3)
    axis = axes[0, 0]
    values = np.asarray(scores, dtype=float)
    bins = np.linspace(0, 1, 41)
    parts = [values[np.asarray(decisions) == name] for name in ("no_match", "review", "approved")]
    names = [f"{name}: {len(part):,}" for name, part in zip(("no match", "review", "approved"), parts, strict=True)]
    axis.hist(parts, bins=bins, color=[BAD, WARN, GOOD], label=names, stacked=True)
    axis.set(xlabel="score of the best candidate", ylabel="lines", title=literal(title), xlim=(0, 1))
    axis.legend(frameon=False, fontsize=8)
    return png(figure)


def live_picture(table: pd.DataFrame, accepted: Mapping[str, float], vendors: int = 12) -> bytes:
    """Draw accuracy in production: by week above, by vendor below, both over all lines with 95 % intervals.

    `table`: rows of the levels week and vendor of `monitoring.live`'s table. `accepted`: top1 and top5 with which the
    champion was accepted, drawn as lines. A hollow point is about a part of the lines only: the kinds of lines that
    nobody answered for are not in it.
    """
    weeks = table[table["level"] == "week"].tail(60)
    names = table[table["level"] == "vendor"].nlargest(vendors, "answers")[::-1]
    figure, axes = new_figure(9, 4 + 0.3 * max(len(names), 1), 2, 1)
    above, below = axes[0, 0], axes[1, 0]
    for metric, colour, shift in (("top5", MUTED, 0.08), ("top1", ACCENT, -0.08)):
        label = metric.replace("top", "top-")
        _points(above, np.arange(len(weeks)) + shift, weeks, metric, colour, label=label)
        _points(below, np.arange(len(names)) - shift, names, metric, colour, upright=False)
        if metric in accepted:
            text = f"accepted {label}: {accepted[metric]:.3f}"
            above.axhline(accepted[metric], color=colour, linewidth=1, linestyle="--", label=text)
            below.axvline(accepted[metric], color=colour, linewidth=1, linestyle="--")
    step = max(1, -(-len(weeks) // 9))
    lowest = np.nanmin(
        [0.9, *weeks["top1_low"], *names["top1_low"], *(accepted.get(name, 0.9) for name in ("top1", "top5"))]
    )
    bottom = max(np.floor(lowest * 10 - 0.5) / 10, 0)
    above.set_xticks(np.arange(len(weeks))[::step], weeks["week"].tolist()[::step])
    above.set(title="Accuracy over all lines, by the week of the answers (95 % intervals)", ylim=(bottom, 1.02))
    labels = [f"{literal(str(v)[:30])} ({n:,})" for v, n in zip(names["vendor_id"], names["answers"], strict=True)]
    below.set_yticks(np.arange(len(names)), labels)
    below.set(title="By vendor (answers)", xlim=(bottom, 1.02), ylim=(-0.6, max(len(names), 1) - 0.4))
    if not len(weeks):
        above.text(0.5, 0.5, "no answers yet", ha="center", transform=above.transAxes, color=MUTED)
    if above.get_legend_handles_labels()[0]:
        above.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4)
    return png(figure)


def _points(
    axis: Axes, at: np.ndarray, rows: pd.DataFrame, metric: str, colour: str, upright: bool = True, label: str = ""
) -> None:
    """Draw a metric's values with their intervals; hollow where they are about a part of the lines."""
    whole = (rows["covered"] > 0.95).to_numpy()
    for part, fill in ((whole, colour), (~whole, "white")):
        value, low, high = (rows[f"{metric}{end}"].to_numpy(float)[part] for end in ("", "_low", "_high"))
        bars = {"yerr" if upright else "xerr": np.clip([value - low, high - value], 0, None)}
        place = (at[part], value) if upright else (value, at[part])
        axis.errorbar(
            *place,
            **bars,
            fmt="o",
            markersize=4,
            color=colour,
            mfc=fill,
            linewidth=1,
            label=label if fill == colour else None,
        )


def drift_picture(columns: pd.DataFrame, title: str) -> bytes:
    """Draw how far each measure of a file moved, as a share of what it may (1: from there on it has drifted).

    `columns`: measure, change, limit, drifted, as in `shelfwise.monitoring.drift.Judgement`.
    """
    figure, axes = new_figure(7, 1.1 + 0.26 * max(len(columns), 3))
    axis, rows = axes[0, 0], columns.iloc[::-1]
    share = np.clip(rows["change"] / rows["limit"], -3, 3)
    axis.barh(np.arange(len(rows)), share, height=0.6, color=[BAD if d else ACCENT for d in rows["drifted"]])
    axis.set_yticks(np.arange(len(rows)), rows["measure"])
    for edge in (-1, 1):
        axis.axvline(edge, color=WARN, linewidth=1, linestyle="--")
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set(xlim=(-3.1, 3.1), xlabel="change, as a multiple of what is usual (dashed); red: drifted")
    axis.set_title(literal(title))
    return png(figure)


@dataclass(frozen=True)
class Node:
    """A node of a lineage: its name, the group that colours it, and the nodes it is made from."""

    name: str
    group: str
    parents: tuple[str, ...]


def lineage_picture(nodes: Sequence[Node]) -> bytes:
    """Draw a directed acyclic graph from top to bottom, one row per distance from the sources.

    Edges that a longer path implies are left out, so that the picture can be read. Within a row, nodes are ordered by
    the mean position of their parents, which keeps most lines from crossing (the barycentre heuristic of Sugiyama,
    Tagawa and Toda, 1981).
    """
    names = {node.name for node in nodes}
    parents = _reduced({node.name: {name for name in node.parents if name in names} for node in nodes})
    depth: dict[str, int] = {}

    def level(name: str) -> int:
        if name not in depth:
            depth[name] = 1 + max((level(parent) for parent in parents[name]), default=-1)
        return depth[name]

    for node in nodes:
        level(node.name)
    for node in nodes:  # a source stands just above what it is for
        children = [name for name, own in parents.items() if node.name in own]
        if not parents[node.name] and children:
            depth[node.name] = min(depth[child] for child in children) - 1
    # An edge that spans rows goes through a place of its own in each of them, so that it runs past their boxes.
    routes: dict[tuple[str, str], list[str]] = {}
    for child, own in list(parents.items()):
        for parent in own:
            between = [f"{parent}>{child}@{row}" for row in range(depth[parent] + 1, depth[child])]
            routes[parent, child] = [parent, *between, child]
            for position, waypoint in enumerate(between, start=1):
                depth[waypoint], parents[waypoint] = depth[parent] + position, [routes[parent, child][position - 1]]
    above = parents | {route[-1]: [] for route in routes.values()}
    for route in routes.values():
        above[route[-1]] = [*above[route[-1]], route[-2]]
    rows: dict[int, list[str]] = {}
    for name in parents:
        rows.setdefault(depth[name], []).append(name)
    place: dict[str, tuple[float, float]] = {}
    for row in sorted(rows):
        members = rows[row]
        centre = {n: float(np.mean([place[p][0] for p in above[n]])) if above[n] else 9.0 for n in members}
        members.sort(key=lambda name: (centre[name], name))
        for position, name in enumerate(members):
            place[name] = (position - (len(members) - 1) / 2, -float(row))

    colours = {"raw": "#dbe7fb", "catalog": "#e7e1f7", "staging": "#d9f0e3", "marts": "#c5e8d5"}
    colours |= {"matching": "#fdeccb", "uploads": "#f9d9d9"}
    widest = max(len(members) for members in rows.values())
    figure, axes = new_figure(2.3 * widest, 0.62 * len(rows))
    axis = axes[0, 0]
    half = 0.25  # of a box's height, in rows
    for route in routes.values():
        points = [place[name] for name in route]
        points[0] = (points[0][0], points[0][1] - half)
        points[-1] = (points[-1][0], points[-1][1] + half)
        axis.plot(*zip(*points[:-1], strict=True), color=MUTED, linewidth=0.9, zorder=1)
        arrow = {"arrowstyle": "-|>", "color": MUTED, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", xy=points[-1], xytext=points[-2], arrowprops=arrow, zorder=1)
    for node in nodes:
        box = {"boxstyle": "round,pad=0.4", "facecolor": colours.get(node.group, "#eeeeee"), "edgecolor": MUTED}
        axis.text(*place[node.name], node.name, ha="center", va="center", fontsize=9, color=INK, bbox=box, zorder=3)
    axis.set(xlim=(-widest / 2 - 0.15, widest / 2 + 0.15), ylim=(-len(rows) + 0.5, 0.5))
    axis.axis("off")
    return png(figure)


def _reduced(parents: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """Return the parents that no other parent descends from (the transitive reduction)."""
    ancestors: dict[str, set[str]] = {}

    def above(name: str) -> set[str]:
        if name not in ancestors:
            ancestors[name] = set().union(*({parent} | above(parent) for parent in parents[name]))
        return ancestors[name]

    return {
        name: sorted(p for p in own if not any(p in above(other) for other in own if other != p))
        for name, own in parents.items()
    }


def simulation_picture(story: Story, planted: Sequence[tuple[int, str]]) -> bytes:
    """Draw a simulated year, three rows over the same weeks: promotions, refusals, rollbacks and signals; top-1 of each
    week's files and of four weeks together; what was settled without a person. `planted` events (week, name) are named
    in the last.
    """
    from shelfwise.simulation import PROMOTED, REFUSED, RETRAIN, ROLLED_BACK, SIGNAL, trend

    figure, axes = new_figure(10.5, 6.2, rows=3)
    what, accuracy, settled = axes[:, 0]
    grid = what.get_subplotspec().get_gridspec()
    grid.set_height_ratios([1.1, 2.2, 2.0])
    marks = (
        (RETRAIN, "o", ACCENT, "retrain before its time"),
        (SIGNAL, "d", INK, "drift or fall noticed"),
        (ROLLED_BACK, "v", WARN, "rolled back"),
        (REFUSED, "x", BAD, "candidate refused"),
        (PROMOTED, "^", GOOD, "candidate promoted"),
    )
    for place, (kind, marker, colour, _) in enumerate(marks):
        weeks = [one.week for one in story.of(kind)]
        what.plot(weeks, [place] * len(weeks), marker, color=colour, linestyle="none")
    what.set(ylim=(-0.6, len(marks) - 0.4))
    what.set_yticks(range(len(marks)), [label for *_, label in marks])
    what.set_title("A simulated year: files of vendors, answers of people, retrains, refusals and a rollback")
    seen = [one for one in story.weeks if one.top1 is not None]
    weeks, line = [one.week for one in seen], trend(story.weeks)
    accuracy.plot(weeks, [one.top1 for one in seen], ".", color=MUTED, label="a week's files")
    accuracy.plot(
        [week for week, _ in line], [top1 for _, top1 in line], color=ACCENT, linewidth=2, label="over four weeks"
    )
    accuracy.set_ylabel("top-1 of lines\nwith a product", fontsize=8)
    accuracy.legend(fontsize=7, loc="lower right", ncols=2)
    settled.plot(weeks, [one.settled for one in seen], color=GOOD, linewidth=1.5)
    highest = max([0.2, *(one.settled for one in seen if one.settled is not None)])
    settled.set_ylim(-0.02, 2.8 * highest)  # the names of the events stand above the line
    settled.set_ylabel("approved alone,\nand right", fontsize=8)
    settled.set_xlabel("week")
    for axis in axes.flat:
        axis.set_xlim(-1, max(52, len(story.weeks)))
        for week, _ in planted:
            axis.axvline(week, color=MUTED, linewidth=0.6, linestyle=":")
    for week, name in planted:
        settled.annotate(name, (week, 2.75 * highest), rotation=90, fontsize=7, color=INK, ha="right", va="top")
    for axis in (what, accuracy):
        axis.tick_params(labelbottom=False)
    return png(figure)
