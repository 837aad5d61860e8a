"""What classifiers did, as the UI shows it: numbers it plots over time, confusion, calibration, examples, slices."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from assets.common import float_metadata, picture, table

if TYPE_CHECKING:
    from shelfwise.classification.evaluate import Evaluation
    from shelfwise.classification.pictures import Pictures

BASELINES = {
    "majority": "most frequent category",
    "ngrams": "linear model on n-grams",
    "neighbours": "5 nearest pictures by pixels",
    "text": "text alone",
    "image": "picture alone",
}
SHOWN = 24


def category_metadata(result: "Evaluation", value: dict[str, Any], pictures: "Pictures | None") -> dict[str, Any]:
    """Return metadata of an evaluation. `value`: what the evaluation asset stores."""
    from shelfwise.classification.plots import pictures_of

    metrics, champion = result.metrics, value["champion_metrics"]
    drawn = pictures_of(result, {"current champion": champion} if champion else None)
    return {
        **{name: picture(png, name.replace("_", " ")) for name, png in drawn.items()},
        **({"seen": picture(_looked_at(result, pictures), "what pictures were taken for")} if pictures else {}),
        "by_level": table(result.levels),
        "slices": table(result.slices, 60),
        "confused": table(result.confusion, 30, width=200),
        "examples": table(result.examples, 40, width=300),
        "baselines": table(result.baselines.assign(baseline=result.baselines["baseline"].map(BASELINES))),
        "about": result.about,
        **({f"champion_{name}": float(champion[name]) for name in ("top1", "top5", "macro_f1")} if champion else {}),
        **float_metadata({name: one for name, one in metrics.items() if one == one}),
    }


def _looked_at(result: "Evaluation", pictures: "Pictures") -> bytes:
    """Draw pictures of held-out listings, wrong and right ones in turn, with what they were taken for."""
    from shelfwise.classification.plots import examples_picture

    lines = result.lines[pictures.rows_of(result.lines["listing_id"]) >= 0]
    lines = lines.assign(turn=lines.groupby("right").cumcount()).sort_values("turn", kind="stable").head(SHOWN)
    rows = pictures.rows_of(lines["listing_id"])
    names = (lines[name].tolist() for name in ("predicted_category", "truth_category", "score"))
    return examples_picture(pictures.pixels[rows], *names)


def some_pictures(pictures: "Pictures", listings: pd.DataFrame) -> dict[str, Any]:
    """Return pictures as they were packed, of one category after the other; nothing where there are none."""
    from shelfwise.classification.plots import examples_picture

    known = listings[pictures.rows_of(listings["listing_id"]) >= 0]
    if known.empty:
        return {}
    known = known.assign(turn=known.groupby("category").cumcount()).sort_values("turn", kind="stable").head(SHOWN)
    categories = known["category"].astype(str).tolist()
    png = examples_picture(pictures.pixels[pictures.rows_of(known["listing_id"])], categories, categories)
    return {"some": picture(png, "pictures with their category")}
