"""A model adapted to own sections: what it leaves over is added, what they do not say stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.levelled_slides import levelled_slides
from helpers.own_sections import LEFT_OVER, NEW, own_cohort, own_section
from helpers.toy_cohort import N_FOLLOWING, toy_cohort
from hespotex.config import RunConfig
from hespotex.errors import ConfigError, ModelFileError
from hespotex.evaluation.scores import pcc_per_gene
from hespotex.genes.panel import GenePanel, log1p_cpm, pearson_residuals, spot_totals
from hespotex.models.adapting import Adaptation, check_adaptable, check_new_ids
from hespotex.models.bundle import Bundle, read_model, write_model
from hespotex.models.default.adapt import Strength
from hespotex.models.default.level import SlideLevel, log_shares
from hespotex.models.fit import fit_bundle
from hespotex.models.predict import predict_section
from hespotex.models.preprocessing import feature_stats
from hespotex.models.types import Cohort, EncodedSection, Prediction

CONFIG = RunConfig.from_values({}, ["model.epochs=4", "model.ensemble=2", "model.hidden=16"])
FULL = Strength(0.25, levels=True)


@pytest.fixture(scope="module")
def base() -> Bundle:
    return fit_bundle(toy_cohort(), CONFIG)


@pytest.fixture(scope="module")
def own() -> Cohort:
    return own_cohort()


@pytest.fixture(scope="module")
def adapted(base: Bundle, own: Cohort) -> Bundle:
    return Adaptation.of(base, own).bundle(FULL)


@pytest.fixture(scope="module")
def unseen() -> EncodedSection:
    return own_section("U", "Z", 40)


def _pcc(bundle: Bundle, item: EncodedSection, prediction: Prediction) -> np.ndarray:
    counts = GenePanel(bundle.genes).counts(item.section).counts
    return pcc_per_gene(prediction.composition, pearson_residuals(counts))


def test_what_the_model_leaves_over_is_learnt_and_what_it_knows_stays(
    base: Bundle, adapted: Bundle, unseen: EncodedSection
) -> None:
    came, now = predict_section(base, unseen), predict_section(adapted, unseen)
    before, after = _pcc(base, unseen, came), _pcc(adapted, unseen, now)
    assert np.abs(before[LEFT_OVER]).mean() < 0.5
    assert after[LEFT_OVER].mean() > 0.7
    assert after[:N_FOLLOWING].mean() > before[:N_FOLLOWING].mean() - 0.02


def test_a_large_penalty_leaves_the_pattern_as_it_came(
    base: Bundle, own: Cohort, unseen: EncodedSection
) -> None:
    adaptation = Adaptation.of(base, own, base.genes)
    came = predict_section(base, unseen)
    shrunk = predict_section(adaptation.bundle(Strength(1e7)), unseen)
    np.testing.assert_allclose(shrunk.composition, came.composition, atol=2e-3)
    np.testing.assert_allclose(shrunk.depth, came.depth, rtol=1e-5)
    further = [
        np.abs(
            predict_section(adaptation.bundle(Strength(p)), unseen).composition - came.composition
        ).mean()
        for p in (0.25, 4.0, 64.0)
    ]
    assert further == sorted(further, reverse=True)
    assert adaptation.bundle(Strength()) is base


def test_levels_and_depth_become_those_of_the_own_sections(
    base: Bundle, own: Cohort, adapted: Bundle, unseen: EncodedSection
) -> None:
    counts = GenePanel(base.genes).counts(unseen.section)
    truth, measured = spot_totals(counts.counts), log1p_cpm(counts.counts).mean(axis=0)
    came = predict_section(base, unseen)
    levelled = predict_section(
        Adaptation.of(base, own, base.genes).bundle(Strength(levels=True)), unseen
    )
    assert np.median(came.depth) < 0.5 * np.median(truth)
    assert np.median(levelled.depth) == pytest.approx(np.median(truth), rel=0.15)
    errors = [np.abs(p.log1p.mean(axis=0) - measured) for p in (came, levelled)]
    assert errors[0][0] > 1
    assert errors[1][0] < 0.3
    assert errors[1].mean() < 0.5 * errors[0].mean()
    moved = levelled.composition - came.composition
    assert np.ptp(moved, axis=0).max() < 1e-4  # levels move no map


def test_new_genes_are_added_where_measured_and_move_no_other_gene(
    base: Bundle, own: Cohort, adapted: Bundle, unseen: EncodedSection
) -> None:
    assert adapted.genes == (*base.genes, *NEW)
    found = _pcc(adapted, unseen, predict_section(adapted, unseen))
    assert found[[-4, -3]].mean() > 0.7
    wide = Adaptation.of(base, own).prepared.model
    moved = predict_section(replace(base, model=wide), unseen)
    came = predict_section(base, unseen)
    n = len(base.genes)
    # The shares of the new genes are constant, so the others' ratios stay up to one number a spot.
    shift = moved.composition[:, :n] - came.composition
    assert np.ptp(shift, axis=1).max() < 1e-4
    listed = replace(
        base,
        config=CONFIG.model_copy(
            update={"panel": CONFIG.panel.model_copy(update={"kind": "list", "genes": base.genes})}
        ),
    )
    assert Adaptation.of(listed, own).panel.genes == base.genes


def test_a_gene_that_own_sections_did_not_measure_stays_as_it_came(
    base: Bundle, own: Cohort, unseen: EncodedSection
) -> None:
    seen = [f"G{j:02d}" for j in range(6, 30)]

    def targeted(item: EncodedSection) -> EncodedSection:
        names = item.section.genes
        assert names is not None
        assert item.section.counts is not None
        kept = np.isin(names, seen)
        section = replace(
            item.section, genes=names[kept], counts=item.section.counts[:, kept],
            missing_genes="unmeasured",
        )  # fmt: skip
        return replace(item, section=section)

    few = replace(own, items=tuple(targeted(i) for i in own.items))
    bundle = Adaptation.of(base, few).bundle(FULL)
    came, now = predict_section(base, unseen), predict_section(bundle, unseen)
    before, after = _pcc(base, unseen, came), _pcc(bundle, unseen, now)
    assert after[LEFT_OVER].mean() > 0.6
    np.testing.assert_allclose(after[:6], before[:6], atol=0.1)
    ratio = now.log1p[:, :6].mean(axis=0) - came.log1p[:, :6].mean(axis=0)
    assert np.abs(ratio).max() < 0.7  # other genes' shares move them; their own are not known


def test_the_file_of_an_adapted_model_says_of_what_and_predicts_the_same(
    base: Bundle, own: Cohort, adapted: Bundle, unseen: EncodedSection, tmp_path: Path
) -> None:
    write_model(tmp_path / "m.hespotex", adapted)
    back = read_model(tmp_path / "m.hespotex")
    assert back.model.hyper["adapted"]["from"] == base.model_id
    assert back.model.hyper["adapted"]["sections"] == ["O0", "O1"]
    assert [s.section_id for s in back.sections] == ["A1", "A2", "B1", "B2", "O0", "O1"]
    a, b = predict_section(adapted, unseen), predict_section(back, unseen)
    np.testing.assert_array_equal(a.composition, b.composition)
    np.testing.assert_array_equal(a.log1p, b.log1p)
    for bundle in (adapted, Adaptation.of(base, own).bundle(Strength(1.0))):
        level = SlideLevel.from_tensors(bundle.model.tensors)
        assert level is not None
        assert len(level.looks) == len(bundle.sections)


def test_an_adapted_model_can_be_adapted_again(adapted: Bundle, unseen: EncodedSection) -> None:
    more = replace(own_cohort("W"), items=(own_section("W0", "W", 50),))
    again = Adaptation.of(adapted, more).bundle(FULL)
    assert len(again.sections) == 7
    assert _pcc(again, unseen, predict_section(again, unseen))[LEFT_OVER].mean() > 0.7


def test_what_cannot_be_adapted_is_refused(base: Bundle, own: Cohort) -> None:
    with pytest.raises(ModelFileError, match="default profile to adapt, found one of the publ"):
        check_adaptable(replace(base, model=replace(base.model, profile="published")))
    bare = fit_bundle(toy_cohort(n_side=6), RunConfig.from_values({}, ["model.kernel_share=0", "model.epochs=1"]))  # fmt: skip
    with pytest.raises(ModelFileError, match=r"kernel regression .* to adapt, found one without"):
        Adaptation.of(bare, own)
    with pytest.raises(ConfigError, match="training has not, found A1 in both; rename"):
        check_new_ids(base, [i.section for i in toy_cohort(n_side=4).subset(["A1"]).items])
    check_new_ids(base, [i.section for i in own.items])


@pytest.mark.slow
def test_levels_that_slides_show_are_counted_from_the_own_slides_on() -> None:
    """The own slide's level is the own one, whatever it looks like; others keep their distance from it by their looks."""
    config = RunConfig.from_values({}, ["model.epochs=1", "model.ensemble=1", "model.hidden=8"])
    cohort = levelled_slides(14).cohort
    ids = [item.section.section_id for item in cohort.items]
    base = fit_bundle(cohort.subset(ids[:12]), config)
    assert base.model.hyper["level"]["tells_slides_apart"]
    own = cohort.subset(ids[12:13])
    adapted = Adaptation.of(base, own).bundle(Strength(levels=True))
    before, after = (SlideLevel.from_tensors(b.model.tensors) for b in (base, adapted))
    assert before is not None
    assert after is not None
    here, there = (feature_stats(cohort.items[k].features) for k in (12, 13))
    np.testing.assert_allclose(after(here)[0], 0, atol=1e-5)
    told = [level(there)[0] - level(here)[0] for level in (before, after)]
    assert np.abs(told[0]).max() > 0.01
    assert np.corrcoef(*told)[0, 1] > 0.95  # a look beyond the farthest training slide is drawn in
    moved = adapted.model.tensors["level.looks"][:12] - base.model.tensors["level.looks"]
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("foreign", "own", "tells"), [(2, 8, True), (2, 3, False), (12, 8, True)])
def test_from_four_own_patients_on_their_slides_show_how_far_levels_follow(
    foreign: int, own: int, tells: bool
) -> None:
    """Levels of patients that nobody trained on: missed by a model of two patients, found once eight more adapt it."""
    config = RunConfig.from_values({}, ["model.epochs=1", "model.ensemble=1", "model.hidden=8"])
    made = levelled_slides(foreign + own + 8)
    ids = [item.section.section_id for item in made.cohort.items]
    base = fit_bundle(made.cohort.subset(ids[:foreign]), config)
    mine, others = made.cohort.subset(ids[foreign:-8]), made.cohort.subset(ids[-8:]).items
    adapted = Adaptation.of(base, mine).bundle(Strength(levels=True))
    level = SlideLevel.from_tensors(adapted.model.tensors)
    assert level is not None
    assert level.tells is tells
    assert len(level.looks) == foreign + own
    record = adapted.model.hyper["level"]
    assert record["tells_slides_apart"] is tells
    assert record["patients"] == (own if own >= 4 else foreign)
    said = np.stack([level(feature_stats(i.features))[0] for i in others])[:, made.shown]
    totals = np.stack([np.asarray(i.section.counts.sum(axis=0)).ravel() for i in others])
    measured = log_shares(totals)[:, made.shown]
    if not tells:
        np.testing.assert_array_equal(said, 0)
        return
    assert np.nanmedian(pcc_per_gene(said, measured)) > 0.6
    away = said - said.mean(axis=0), measured - measured.mean(axis=0)
    assert np.square(away[1] - away[0]).mean() < 0.5 * np.square(away[1]).mean()


@pytest.mark.slow
def test_own_slides_that_show_nothing_leave_levels_as_they_came() -> None:
    config = RunConfig.from_values({}, ["model.epochs=1", "model.ensemble=1", "model.hidden=8"])
    made = levelled_slides(12).cohort
    base = fit_bundle(made, config)
    hidden = levelled_slides(8, visible=False).cohort
    renamed = [
        replace(i, section=replace(i.section, section_id=f"X{k}", patient_id=f"X{k}"))
        for k, i in enumerate(hidden.items)
    ]
    adapted = Adaptation.of(base, replace(hidden, items=tuple(renamed))).bundle(
        Strength(levels=True)
    )
    for name in ("slopes", "follows", "directions", "farthest"):
        np.testing.assert_array_equal(
            adapted.model.tensors[f"level.{name}"], base.model.tensors[f"level.{name}"]
        )
    assert adapted.model.hyper["level"] == base.model.hyper["level"]
