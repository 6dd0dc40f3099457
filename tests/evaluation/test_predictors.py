"""The table of predictors: every line has its words, an oracle alone gets counts."""

from __future__ import annotations

import re

import pytest

from helpers.toy_cohort import toy_cohort
from helpers.toy_slide import toy_bundle
from hespotex.evaluation.predictors import BASELINES, MODEL, PREDICTORS, label_of, rivals
from hespotex.genes.panel import GenePanel
from hespotex.models.predict import predict_section


def test_labels_are_one_each_and_colours_are_colours() -> None:
    assert next(iter(PREDICTORS)) == MODEL
    assert len({p.label for p in PREDICTORS.values()}) == len(PREDICTORS)
    for name, predictor in PREDICTORS.items():
        assert len(predictor.label) <= 21 or not predictor.code, name  # as it fits beside pictures
        for colour in (predictor.colour, predictor.on_dark):
            assert re.fullmatch(r"#[0-9a-f]{6}", colour), name
    assert label_of("ridge") == "ridge regression"
    assert label_of("of_another_version") == "of_another_version"
    assert PREDICTORS["depth_only"].marked == "measured depth alone (oracle)"
    assert PREDICTORS["ceiling"].marked == "ceiling set by counting noise"


def test_every_baseline_of_the_table_can_be_loaded() -> None:
    assert list(BASELINES.all()) == [name for name in PREDICTORS if PREDICTORS[name].code]


@pytest.mark.parametrize("with_training", [True, False])
def test_what_cannot_be_had_is_left_out(with_training: bool) -> None:
    bundle, cohort = toy_bundle(), toy_cohort()
    item = cohort.items[0].without_expression()
    found = rivals(
        {},
        GenePanel(bundle.genes),
        cohort if with_training else None,
        item,
        predict_section(bundle, item),
    )
    # Those that keep arrays in a model file have none here; the nearest patches need the training sections.
    assert set(found) <= {name for name in BASELINES if not PREDICTORS[name].oracle}
    assert not {"ridge", "train_mean"} & set(found)
    assert ("nearest_patches" in found) == with_training
    assert not found["predicted_depth_only"].in_units
