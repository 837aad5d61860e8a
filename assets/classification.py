"""Classification: from labelled listings to trained classifiers of text and of pictures, candidates for champion."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pandas as pd

from assets.category_reports import some_pictures
from assets.common import CATALOG_TEAM, float_metadata, table, table_metadata
from assets.models import artifact_metadata, missing, publish_once, train_once
from resources.classification import ClassificationConfig
from resources.lake import Lake
from resources.registry import IMAGE_CLASSIFIER, TEXT_CLASSIFIER
from resources.source import DataDirectory
from resources.trainer import Trainer
from shelfwise.artifacts import content_id, frame_id
from shelfwise.classification import picture_files
from shelfwise.classification.listings import picture_keys, why_too_few, with_parts, with_text
from shelfwise.classification.promotion import TRAINED_ON, trained_on
from shelfwise.timing import DomainClock

if TYPE_CHECKING:
    from shelfwise.classification.pictures import Pictures

PICTURES_VERSION = "2"  # part of the content id: raise it when the same inputs would give another artifact than before
LABELS = ("listing_id", "category", "categories", "split")
TEXT_MODULE, IMAGE_MODULE = "shelfwise.classification.train_text", "shelfwise.classification.train_image"

SUSPICIOUS_SHARE = 0.01  # of all labels, from where on somebody should look
OF_SELLERS = ("choices", "unlikely_choices", "sellers", "unlikely_sellers")

LISTINGS = dg.AssetIn(["marts", "labelled_listings"])


@dg.asset(
    key_prefix="classification",
    group_name="classification",
    owners=CATALOG_TEAM,
    kinds={"numpy"},
    ins={"labelled_listings": LISTINGS},
    deps=[["raw", "data_directory"]],
    io_manager_key="reference_io",
    code_version=PICTURES_VERSION,
)
def listing_pictures(
    labelled_listings: pd.DataFrame, source: DataDirectory, classification: ClassificationConfig, lake: Lake
) -> dg.MaterializeResult[dict]:
    """The pictures of the labelled listings, turned upright, scaled and packed into one array. What is broken, missing
    or no picture is listed with the reason and stops nothing.
    """
    clock = DomainClock()
    with clock:
        found = picture_files.find(source.url, labelled_listings)
    if found.empty:
        return missing("no listing has a picture: none names one, and there is no images/<listing_id>.jpg of any")

    from shelfwise.classification.pictures import Pictures

    side = classification.side()

    def write(directory: Path) -> None:
        with clock:
            Pictures.pack(picture_files.read(source.url, found), side, directory)

    pictures_id = content_id(PICTURES_VERSION, frame_id(found), side)
    location, made = publish_once(lake, "listing_pictures", pictures_id, write)
    pictures = Pictures.load(lake.fetch(location))
    metadata = {
        **float_metadata({"pictures": len(pictures), "broken": len(pictures.problems), "side": side}),
        "listings_without_picture": len(labelled_listings) - len(found),
        "problems": table(pictures.problems, 100, width=200),
        "reasons": table(_reasons(pictures.problems)),
        **some_pictures(pictures, labelled_listings),
        **artifact_metadata(location, made, clock),
    }
    value = {"id": pictures_id, "location": location, "pictures": len(pictures)}
    return dg.MaterializeResult(value=value, metadata=metadata, data_version=dg.DataVersion(pictures_id))


def packed_pictures(reference: dict, lake: Lake) -> "Pictures | None":
    """Return what classification/listing_pictures has packed, None where no listing has a picture."""
    if "location" not in reference:
        return None
    from shelfwise.classification.pictures import Pictures

    return Pictures.load(lake.fetch(reference["location"]))


def _reasons(problems: pd.DataFrame) -> pd.DataFrame:
    """How many pictures have which problem."""
    return problems["problem"].value_counts().rename_axis("problem").reset_index(name="pictures")


@dg.asset(
    key_prefix="classification",
    group_name="classification",
    owners=CATALOG_TEAM,
    kinds={"pandas", "parquet"},
    ins={"labelled_listings": LISTINGS},
    code_version="1",
)
def listing_parts(
    context: dg.AssetExecutionContext,
    labelled_listings: pd.DataFrame,
    listing_pictures: dict,
    classification: ClassificationConfig,
    lake: Lake,
) -> dg.MaterializeResult[pd.DataFrame]:
    """Which listings are trained on, and which are held out: every category in its share, duplicates (the same words,
    or the same picture) together. A part once given is kept when data grows.
    """
    from shelfwise.classification.splits import listing_parts as deal

    former = lake.last_table(context.asset_key)
    with DomainClock() as clock:
        listings, pictures = labelled_listings, packed_pictures(listing_pictures, lake)
        if pictures is not None:
            listings = listings.assign(image_key=picture_keys(listings, pictures))
        parts = deal(listings, seed=classification.split_seed, former=former)
        dealt = with_parts(listings, parts)
    counts = dealt.value_counts(["split", "source"]).rename("listings").sort_index().reset_index()
    metadata = {
        **float_metadata({f"{part}_listings": float(n) for part, n in dealt["split"].value_counts().items()}),
        "counts": table(counts),
        "categories": int(dealt["category"].nunique()),
        "new": len(parts) - (0 if former is None else int(parts["group_id"].isin(former.get("group_id", [])).sum())),
        **table_metadata(parts, clock),
    }
    return dg.MaterializeResult(value=parts, metadata=metadata)


LABELS_CHECK = dg.AssetCheckSpec(
    "plausible_categories",
    asset=["classification", "suspicious_labels"],
    description="Listings whose category is probably wrong are few; they are listed for review, nothing is dropped.",
)
SELLERS_CHECK = dg.AssetCheckSpec(
    "plausible_sellers",
    asset=["classification", "suspicious_sellers"],
    description="No seller chooses very unlikely categories more often than chance explains.",
)


def _suspicious(code_version: str, says: str) -> dg.AssetOut:
    return dg.AssetOut(
        key_prefix="classification",
        group_name="classification",
        owners=CATALOG_TEAM,
        kinds={"cleanlab", "parquet"},
        description=says,
        code_version=code_version,
    )


# Both come of one judging, which takes long.
@dg.multi_asset(
    ins={"labelled_listings": LISTINGS, "stg_listings": dg.AssetIn(["staging", "stg_listings"])},
    outs={
        "suspicious_labels": _suspicious(
            "2",
            "Listings whose category is probably wrong, the most suspicious first, for somebody to look at: found by "
            "confident learning (cleanlab) over what models say that had not seen them. Nothing is dropped or changed.",
        ),
        "suspicious_sellers": _suspicious(
            "1",
            "Sellers who keep choosing very unlikely categories, the worst first, judged by what they chose: by every "
            "staged listing, reposts too, before anybody corrected it.",
        ),
    },
    check_specs=[LABELS_CHECK, SELLERS_CHECK],
)
def suspicious_listings(
    labelled_listings: pd.DataFrame, stg_listings: pd.DataFrame, classification: ClassificationConfig
) -> Iterator[dg.MaterializeResult[pd.DataFrame] | dg.AssetCheckResult]:
    """Doubt labels, and those who choose them."""
    from shelfwise.classification.suspicious import review

    with DomainClock() as clock:
        labels, sellers, numbers = review(labelled_listings, stg_listings, seed=classification.split_seed)
    pairs = labels.value_counts(["category", "suggested"])
    metadata = {
        **float_metadata({name: value for name, value in numbers.items() if name not in OF_SELLERS}),
        "most_suspicious": table(labels, 50, width=200),
        "confused": table(pairs.rename("listings").reset_index(), 30),
        **table_metadata(labels, clock),
    }
    yield dg.MaterializeResult(asset_key=LABELS_CHECK.asset_key, value=labels, metadata=metadata)
    told = {**float_metadata({name: numbers[name] for name in OF_SELLERS}), "first": table(sellers, 50, width=200)}
    told |= table_metadata(sellers)
    yield dg.MaterializeResult(asset_key=SELLERS_CHECK.asset_key, value=sellers, metadata=told)
    share = numbers["suspicious_share"]
    yield dg.AssetCheckResult(
        asset_key=LABELS_CHECK.asset_key,
        passed=share <= SUSPICIOUS_SHARE,
        check_name=LABELS_CHECK.name,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(labels):,} of {numbers['judged']:,.0f} categories ({share:.1%}) are probably wrong",
        metadata={"first": table(labels, 20, width=200)},
    )
    yield dg.AssetCheckResult(
        asset_key=SELLERS_CHECK.asset_key,
        passed=sellers.empty,
        check_name=SELLERS_CHECK.name,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(sellers)} of {numbers['sellers']:,.0f} sellers choose very unlikely categories too often",
        metadata={"sellers": table(sellers, 50, width=200)},
    )


@dg.asset(
    key_prefix="classification",
    group_name="classification",
    owners=CATALOG_TEAM,
    kinds={"torch", "sklearn"},
    ins={"labelled_listings": LISTINGS},
    pool="gpu",
    io_manager_key="reference_io",
    code_version="3",
)
def text_classifier(
    context: dg.AssetExecutionContext,
    labelled_listings: pd.DataFrame,
    listing_parts: pd.DataFrame,
    classification: ClassificationConfig,
    trainer: Trainer,
    lake: Lake,
) -> dg.MaterializeResult[dict]:
    """The candidate that reads title and description: a linear model on n-grams, similar listings and a transformer, of
    which the best on validation listings, or their blend, is kept and then fitted on those listings too; trained in a
    process of its own. The same listings and settings are trained once.
    """
    from shelfwise.classification.text import TextConfig, fingerprint

    listings = with_text(with_parts(labelled_listings, listing_parts))
    why = why_too_few(listings, classification.least_listings, "labelled listings with a text")
    if why:
        return missing(why)
    config = TextConfig.from_dict(classification.text_overrides())

    def write(work: Path) -> Mapping[str, Path]:
        listings.to_parquet(work / "listings.parquet", index=False)
        return {"listings": work / "listings.parquet"}

    model_id = fingerprint(listings, config)
    beside = {TRAINED_ON: trained_on(listing_parts)}
    trained = train_once(context, trainer, lake, TEXT_MODULE, (TEXT_CLASSIFIER, model_id), config, write, beside)
    value = {"id": model_id, "location": trained.location, "listings": frame_id(listings)}
    metadata = {"listings": len(listings), **trained.metadata}
    return dg.MaterializeResult(value=value, metadata=metadata, data_version=dg.DataVersion(model_id))


@dg.asset(
    key_prefix="classification",
    group_name="classification",
    owners=CATALOG_TEAM,
    kinds={"torch"},
    ins={"labelled_listings": LISTINGS},
    pool="gpu",
    io_manager_key="reference_io",
    code_version="1",
)
def image_classifier(
    context: dg.AssetExecutionContext,
    labelled_listings: pd.DataFrame,
    listing_parts: pd.DataFrame,
    listing_pictures: dict,
    classification: ClassificationConfig,
    trainer: Trainer,
    lake: Lake,
) -> dg.MaterializeResult[dict]:
    """The candidate that looks at the picture: a small convolutional network trained from scratch with augmentation, or
    a pretrained backbone; in a process of its own. The same pictures, labels and settings are trained once.
    """
    pictures = packed_pictures(listing_pictures, lake)
    if pictures is None:
        return missing(listing_pictures["missing"])
    from shelfwise.classification.judge import with_picture
    from shelfwise.classification.train_image import ImageConfig, fingerprint

    labels = with_picture(with_parts(labelled_listings, listing_parts), pictures)
    why = why_too_few(labels, classification.least_listings, "listings with a picture")
    if why:
        return missing(why)
    config = ImageConfig.from_dict(classification.image_overrides())

    def write(work: Path) -> Mapping[str, Path]:
        labels[[*LABELS]].to_parquet(work / "labels.parquet", index=False)
        return {"pictures": lake.fetch(listing_pictures["location"]), "labels": work / "labels.parquet"}

    model_id = fingerprint(pictures, labels, config)
    beside = {TRAINED_ON: trained_on(listing_parts)}
    trained = train_once(context, trainer, lake, IMAGE_MODULE, (IMAGE_CLASSIFIER, model_id), config, write, beside)
    value = {"id": model_id, "location": trained.location, "listings": frame_id(labels[[*LABELS]])}
    metadata = {"listings": len(labels), **trained.metadata}
    return dg.MaterializeResult(value=value, metadata=metadata, data_version=dg.DataVersion(model_id))
