"""Evaluating trees: the same numbers as LightGBM, whatever is missing, tied or out of range."""

from __future__ import annotations

import numpy as np
import pytest

from shelfwise.matching.trees import Forest


def grown(x, y, rounds=40, **parameters):
    import lightgbm

    usual = {"objective": "binary", "num_leaves": 15, "verbose": -1, "num_threads": 1, "seed": 1}
    data = lightgbm.Dataset(x, y, categorical_feature=parameters.pop("categorical", "auto"))
    return lightgbm.train({**usual, **parameters}, data, rounds)


@pytest.fixture(scope="module")
def model():
    """Columns: whole numbers, reals, one that is never missing in training, some that often are, a constant."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 7)).astype(np.float32)
    x[:, 0] = np.round(x[:, 0])
    x[:, 3:5][rng.random((3000, 2)) < 0.2] = np.nan
    x[:, 6] = 1.0
    y = ((x[:, 0] * x[:, 1] + x[:, 2] > 0.3) ^ np.isnan(x[:, 3]) ^ (np.nan_to_num(x[:, 4]) > 1)).astype(int)
    return grown(x, y)


def assert_same(model, rows):
    forest = Forest.of(model.model_to_string(), model.num_feature())
    np.testing.assert_array_equal(forest.predict(rows), model.predict(rows, raw_score=True))


def test_rows_of_all_kinds_score_as_in_lightgbm(model):
    rng = np.random.default_rng(1)
    rows = (3 * rng.normal(size=(1003, 7))).astype(np.float32)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    rows[rng.random(rows.shape) < 0.2] = 0
    rows[:5] = [[np.nan] * 7, [np.inf] * 7, [-np.inf] * 7, [0] * 7, [-0.0] * 7]
    assert_same(model, rows)


def test_values_that_are_thresholds_go_where_lightgbm_sends_them(model):
    forest = Forest.of(model.model_to_string(), 7)
    values = forest.threshold.astype(np.float32)
    values = np.concatenate([values, np.nextafter(values, np.float32(np.inf)), np.nextafter(values, np.float32(-9e9))])
    values[np.abs(values) < 1e-30] = 0  # LightGBM reads those as zero
    assert_same(model, np.stack([np.roll(values, i) for i in range(7)], axis=1))


@pytest.mark.parametrize("count", [1, 31, 32, 33])
def test_any_number_of_rows(model, count):
    assert_same(model, np.random.default_rng(count).normal(size=(count, 7)).astype(np.float32))


def test_no_rows(model):
    assert Forest.of(model.model_to_string(), 7).predict(np.ones((0, 7), np.float32)).shape == (0,)


def test_trees_of_one_leaf_add_to_the_base():
    x = np.ones((300, 2), np.float32)
    model = grown(x, np.arange(300) % 3 == 0, 3)
    forest = Forest.of(model.model_to_string(), 2)
    assert not forest.trees
    np.testing.assert_array_equal(forest.predict(x[:3]), model.predict(x[:3], raw_score=True))


def test_the_gain_is_that_of_lightgbm(model):
    forest = Forest.of(model.model_to_string(), 7)
    np.testing.assert_allclose(forest.gain, model.feature_importance("gain"), rtol=1e-4)


def test_trees_of_another_kind_are_refused():
    x = np.random.default_rng(0).integers(0, 5, (500, 2)).astype(float)
    model = grown(x, x[:, 0] == 2, 3, categorical=[0], min_data_per_group=5)
    with pytest.raises(ValueError, match="categorical"):
        Forest.of(model.model_to_string(), 2)


def test_more_thresholds_than_a_byte_holds_are_refused():
    x, y = np.random.default_rng(0).normal(size=(2, 6000))
    model = grown(x.reshape(-1, 1), y > 0, 60, max_bin=2000, num_leaves=60, min_data_in_leaf=1)
    with pytest.raises(ValueError, match="254 thresholds"):
        Forest.of(model.model_to_string(), 1)
