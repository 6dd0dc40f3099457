"""Nothing of a held-out section reaches a fit: permuting its counts changes no bit of any model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from scipy import sparse

from helpers.feature_cohort import SMALL, toy_items, write_cohort
from helpers.fine_cohort import fine_cohort
from helpers.levelled_slides import levelled_slides
from helpers.toy_cohort import toy_cohort
from hespotex import pipeline
from hespotex.config import Machine, RunConfig
from hespotex.evaluation.held_out import HeldOut, evaluate_bundle
from hespotex.evaluation.predictors import BASELINES, PREDICTORS, rivals
from hespotex.features.appearance import Appearance
from hespotex.genes.gene_sets import GeneSet
from hespotex.genes.panel import GenePanel
from hespotex.models.bundle import Bundle, read_model
from hespotex.models.fit import fit_bundle
from hespotex.models.predict import predict_section
from hespotex.models.types import Cohort, EncodedSection
from hespotex.predicting import SlideOptions
from hespotex.sections.section import Section
from hespotex.sections.splits import Fold, make_folds
from hespotex.validation import cross_validation
from hespotex.validation.cross_validation import (
    FoldOutcome,
    calibrated,
    run_fold,
    searched,
    with_baselines,
)

pytestmark = pytest.mark.usefixtures("blank_pictures")


def _scrambled(item: EncodedSection) -> EncodedSection:
    """The same spots with their counts permuted over spots and genes, and multiplied."""
    section = item.section
    assert section.counts is not None
    rng = np.random.default_rng(0)
    dense = section.counts.toarray()
    dense = 3 * rng.permutation(dense.ravel()).reshape(dense.shape)
    return replace(item, section=replace(section, counts=sparse.csr_matrix(dense)))


def _with_scrambled(cohort: Cohort, held_out: tuple[str, ...]) -> Cohort:
    items = tuple(_scrambled(i) if i.section.section_id in held_out else i for i in cohort.items)
    return replace(cohort, items=items)


def _assert_same_arrays(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


def _assert_same_bundle(a: Bundle, b: Bundle) -> None:
    """Weights, panel, epochs, and all that was calibrated, fitted beside or searched."""
    assert a.config == b.config
    assert a.genes == b.genes
    assert a.training_totals == b.training_totals
    assert a.model.hyper == b.model.hyper
    assert a.model.history == b.model.history
    _assert_same_arrays(a.model.tensors, b.model.tensors)
    _assert_same_arrays(a.trust, b.trust)


def _assert_same_predictions(a: tuple[HeldOut, ...], b: tuple[HeldOut, ...]) -> None:
    """Predictions, their intervals and what is said of the slide; not the scores."""
    for one, other in zip(a, b, strict=True):
        for pair in ((one.prediction, other.prediction), (one.extras, other.extras)):
            values = [{f.name: getattr(v, f.name) for f in fields(v)} for v in pair]
            claims = [found.pop("claims", None) for found in values]
            assert repr(claims[0]) == repr(claims[1])
            ridge = [found.pop("ridge", None) for found in values]
            _assert_same_arrays(*values)
            if pair[0] is one.extras:
                assert None not in ridge
                _assert_same_arrays(*(vars(maps) for maps in ridge))


def _assert_same_fit(a: FoldOutcome, b: FoldOutcome) -> None:
    _assert_same_bundle(a.bundle, b.bundle)
    assert a.search == b.search
    _assert_same_predictions(a.held_out, b.held_out)


QUICK = ["panel.n_top=15", "model.epochs=4", "model.ensemble=2"]
CONFIGS = {
    "default": [*QUICK, "panel.min_spot_fraction=0.5"],
    "gate": [*QUICK, "model.latent_target='gate'", "model.gate_steps=3"],
    "published": [
        "profile=published",
        "published.gate_steps=5",
        "published.epochs=2",
        "panel.n_top=15",
        "panel.min_spots=0",
    ],
}
SEARCH = {"grid": {"model.hidden": [8, 16]}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("profile", "by"),
    [
        *(("default", by) for by in ("patient", "section", "kfold:2")),
        *(("published", by) for by in ("patient", "section", "kfold:2")),
        ("gate", "patient"),
    ],
)
def test_permuting_held_out_counts_changes_no_bit_of_the_fit(profile: str, by: str) -> None:
    cohort = toy_cohort(n_side=6)
    config = RunConfig.from_values({}, CONFIGS[profile])
    ids = [i.section.section_id for i in cohort.items]
    fold = make_folds(ids, [i.section.patient_id for i in cohort.items], by)[0]
    plain = run_fold(cohort, fold, config)
    scrambled = run_fold(_with_scrambled(cohort, fold.held_out), fold, config)
    kept = {name.partition(".")[0] for name in plain.bundle.trust}
    assert {"intervals", "ood", "regions", "ridge", "train_mean", "training"} <= kept
    _assert_same_fit(plain, scrambled)
    assert plain.held_out[0].region_coverage is not None
    assert not np.array_equal(
        plain.held_out[0].region_coverage, scrambled.held_out[0].region_coverage, equal_nan=True
    )
    assert (
        plain.held_out[0].scores["model"].summary != scrambled.held_out[0].scores["model"].summary
    )


@pytest.mark.slow
def test_permuting_held_out_bins_changes_no_bit_of_a_fit_on_squares() -> None:
    """The rule that sums fine bins into squares looks at each section by itself."""
    bins, shallow = fine_cohort(scrambled=()), fine_cohort(scrambled=("B1",))
    fold, config = Fold(("B1",), ("A1", "A2")), RunConfig.from_values({}, QUICK)
    plain, other = (run_fold(cohort, fold, config) for cohort in (bins, shallow))
    assert plain.held_out[0].item.section.n_spots > other.held_out[0].item.section.n_spots
    _assert_same_bundle(plain.bundle, other.bundle)
    assert len(plain.held_out[0].sizes) > 2


@pytest.mark.slow
def test_permuting_held_out_counts_changes_nothing_that_is_searched() -> None:
    cohort = toy_cohort(n_side=6)
    config = RunConfig.from_values({"search": SEARCH}, CONFIGS["default"])
    fold = Fold(("B1", "B2"), ("A1", "A2"))
    plain = run_fold(cohort, fold, config)
    assert [c.values for c in plain.search.candidates] == [
        {"model.hidden": 8},
        {"model.hidden": 16},
    ]
    _assert_same_fit(plain, run_fold(_with_scrambled(cohort, fold.held_out), fold, config))


def test_permuting_held_out_counts_changes_nothing_beside_the_fit() -> None:
    """A listed panel, gene sets, limits of colour and texture, and what the baselines say of the held-out slide."""
    plain_cohort = toy_cohort(n_side=6)
    rng = np.random.default_rng(1)
    seen = rng.normal(size=(36, 10)).astype(np.float32)
    items = [
        replace(i, appearance=Appearance(seen[:, :6], seen[:, 6:])) for i in plain_cohort.items
    ]
    cohort = replace(plain_cohort, items=tuple(items))
    genes = tuple(f"G{j:02d}" for j in range(20))
    panel = {"kind": "list", "genes": genes}
    config = RunConfig.from_values({"panel": panel}, QUICK[1:])
    sets = (GeneSet("first", genes[:5]), GeneSet("last", genes[-5:]))
    fold = Fold(("B1", "B2"), ("A1", "A2"))

    def all_of(scrambled: tuple[str, ...]) -> tuple[FoldOutcome, list[Any]]:
        mixed = _with_scrambled(cohort, scrambled)
        outcome = run_fold(mixed, fold, config, gene_sets=sets)
        panel = GenePanel(outcome.bundle.genes, outcome.bundle.training_totals)
        blind = [item.without_expression() for item in mixed.subset(fold.held_out).items]
        return outcome, [
            rivals(
                outcome.bundle.trust,
                panel,
                mixed.subset(fold.train),
                item,
                predict_section(outcome.bundle, item),
            )
            for item in blind
        ]

    plain, ours = all_of(())
    scrambled, theirs = all_of(fold.held_out)
    _assert_same_fit(plain, scrambled)
    for part in ("ood.colours.", "ood.textures.", "sets.regions.", "sets.training."):
        assert any(name.startswith(part) for name in plain.bundle.trust)
    assert plain.bundle.gene_sets == scrambled.bundle.gene_sets == sets
    blind = [name for name in BASELINES if not PREDICTORS[name].oracle]
    assert {"ridge", "nearest_patches", "train_mean", "predicted_depth_only"} <= set(blind)
    assert [list(r) for r in ours] == [blind] * 2
    for one, other in zip(ours, theirs, strict=True):
        for name, pair in one.items():
            np.testing.assert_array_equal(pair.log1p, other[name].log1p, err_msg=name)
            if pair.composition is not None:
                np.testing.assert_array_equal(pair.composition, other[name].composition, name)


@pytest.mark.slow
def test_permuting_held_out_counts_changes_no_bit_of_a_fit_with_nuclei() -> None:
    plain_cohort = toy_cohort(n_side=6)
    items = [replace(i, nuclei=np.linspace(1.1, 2.0, 36)) for i in plain_cohort.items]
    cohort = replace(plain_cohort, items=tuple(items))
    config = RunConfig.from_values({}, [*CONFIGS["published"], "nuclei.mode=published"])
    fold = Fold(("B1", "B2"), ("A1", "A2"))
    plain = run_fold(cohort, fold, config)
    assert plain.bundle.model.hyper["uses_nuclei"]
    _assert_same_fit(plain, run_fold(_with_scrambled(cohort, fold.held_out), fold, config))


@pytest.mark.slow
def test_permuting_held_out_counts_changes_no_bit_of_a_level_that_tells_slides_apart() -> None:
    cohort = levelled_slides(12).cohort
    config = RunConfig.from_values({}, ["model.epochs=1", "model.ensemble=1", "model.hidden=8"])
    ids = tuple(i.section.section_id for i in cohort.items)
    fold = Fold(ids[:2], ids[2:])
    plain = run_fold(cohort, fold, config)
    assert plain.bundle.model.hyper["level"]["tells_slides_apart"]
    assert np.max(plain.bundle.model.tensors["level.follows"]) > 0
    _assert_same_fit(plain, run_fold(_with_scrambled(cohort, fold.held_out), fold, config))
    assert all(held.extras.ridge_level is not None for held in plain.held_out)
    # Nor does their picture: not its features' directions, nor how far off it lies.
    far = [
        replace(i, features=50 - 9 * i.features[::-1]) if k < 2 else i
        for k, i in enumerate(cohort.items)
    ]
    moved = run_fold(replace(cohort, items=tuple(far)), fold, config)
    _assert_same_bundle(plain.bundle, moved.bundle)
    seen, unseen = plain.held_out[0].prediction, moved.held_out[0].prediction
    assert not np.array_equal(seen.composition, unseen.composition)
    other = fit_bundle(_with_scrambled(cohort, ids[2:3]).subset(fold.train), config)
    level = "level.slopes"
    assert not np.array_equal(plain.bundle.model.tensors[level], other.model.tensors[level])


@pytest.mark.slow
def test_permuting_training_counts_does_change_the_fit() -> None:
    cohort = toy_cohort(n_side=6)
    config = RunConfig.from_values({}, CONFIGS["default"])
    fold = Fold(("A1",), ("A2", "B1", "B2"))
    plain = run_fold(cohort, fold, config)
    scrambled = run_fold(_with_scrambled(cohort, ("B1",)), fold, config)
    with pytest.raises(AssertionError):
        _assert_same_fit(plain, scrambled)


@pytest.mark.slow
@pytest.mark.parametrize("training", [("A1", "A2", "B1"), ("A1", "A2"), ("A1",)])
def test_inner_folds_predict_only_what_their_model_was_not_fitted_on(
    training: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By patient, by section, and by blocks of a single section with a gap between the spots."""
    train = toy_cohort(n_side=8).subset(training)
    config = RunConfig.from_values({"search": SEARCH}, CONFIGS["default"])
    fitted: list[Cohort] = []
    pairs: list[tuple[Cohort, EncodedSection]] = []
    fit, predict = fit_bundle, cross_validation.predict_section

    def noted_fit(cohort: Cohort, *args: Any, **kwargs: Any) -> Bundle:
        fitted.append(cohort)
        return fit(cohort, *args, **kwargs)

    def noted_predict(bundle: Bundle, item: EncodedSection, **kwargs: Any) -> Any:
        assert item.section.counts is None
        pairs.append((fitted[-1], item))
        return predict(bundle, item, **kwargs)

    bundle = fit(train, config)
    for module in ("cross_validation", "nested_search"):
        monkeypatch.setattr(f"hespotex.validation.{module}.fit_bundle", noted_fit)
        monkeypatch.setattr(f"hespotex.validation.{module}.predict_section", noted_predict)
    calibrated(bundle, train)
    searched(train, config)
    assert pairs
    for cohort, item in pairs:
        same = [i for i in cohort.items if i.section.section_id == item.section.section_id]
        if len(training) > 1:
            assert not same
        if training == ("A1", "A2", "B1"):
            assert item.section.patient_id not in {i.section.patient_id for i in cohort.items}
        for other in same:
            between = other.section.xy_um[:, None] - item.section.xy_um[None]
            assert np.linalg.norm(between, axis=2).min() > 2 * item.section.geometry.spot_pitch_um


@pytest.mark.parametrize("profile", ["default", pytest.param("published", marks=pytest.mark.slow)])
def test_evaluation_predicts_the_same_whatever_was_measured(profile: str) -> None:
    cohort = toy_cohort(n_side=6)
    config = RunConfig.from_values({}, CONFIGS[profile])
    train, held_out = cohort.subset(("A1", "A2")), cohort.subset(("B1", "B2"))
    bundle = calibrated(with_baselines(fit_bundle(train, config), train), train)
    plain = evaluate_bundle(bundle, None, held_out)
    scrambled = evaluate_bundle(bundle, None, _with_scrambled(held_out, ("B1", "B2")))
    _assert_same_predictions(plain, scrambled)


def test_a_section_is_predicted_without_its_expression() -> None:
    item = toy_cohort(n_side=4).items[0]
    seen: Section = item.without_expression().section
    assert seen.counts is None
    assert seen.genes is None
    np.testing.assert_array_equal(seen.xy_px0, item.section.xy_px0)


class TestCommands:
    """The same on files, through everything that the commands do around a fit."""

    MACHINE = Machine(device="cpu", threads=1)

    @pytest.fixture
    def cohorts(self, tmp_path: Path) -> tuple[Path, Path]:
        """A cohort, and the same with patient B's counts scrambled."""
        items = toy_items(n_side=8)
        mixed = [_scrambled(i) if i.section.patient_id == "B" else i for i in items]
        return write_cohort(tmp_path / "plain", items), write_cohort(tmp_path / "mixed", mixed)

    @pytest.mark.slow
    def test_training_and_validation(self, cohorts: tuple[Path, Path], tmp_path: Path) -> None:
        """Fold 1 holds out B. The final model and the grades may know B's counts; fold 1 may not."""
        plain, mixed = (
            pipeline.train(m, tmp_path / f"{n}.hespotex", config=SMALL, machine=self.MACHINE)
            for n, m in enumerate(cohorts)
        )
        _assert_same_stored(*(m.with_suffix(".validation") for m in (plain, mixed)), ("B1", "B2"))
        first, second = (
            json.loads((m.with_suffix(".validation") / "metrics.json").read_text())["folds"]
            for m in (plain, mixed)
        )
        assert first[1]["model_id"] == second[1]["model_id"]
        assert first[0]["model_id"] != second[0]["model_id"]
        assert read_model(plain).model_id != read_model(mixed).model_id

    @pytest.mark.slow
    def test_predicting_and_evaluating_measured_sections(
        self, cohorts: tuple[Path, Path], tmp_path: Path
    ) -> None:
        model = pipeline.train(
            cohorts[0],
            tmp_path / "m.hespotex",
            config=SMALL,
            sections=["A1", "A2"],
            machine=self.MACHINE,
        )
        # Of a model of patient A nothing is claimed for B: every gene is asked for.
        for verb, more in (
            (pipeline.predict, {"options": SlideOptions(all_genes=True)}),
            (pipeline.evaluate, {}),
        ):
            folders = [tmp_path / f"{verb.__name__}-{n}" for n in range(2)]
            for manifest, folder in zip(cohorts, folders, strict=True):
                verb(model, manifest, folder, sections=["B1", "B2"], machine=self.MACHINE, **more)
            _assert_same_stored(*folders, ("B1", "B2"))


def _assert_same_stored(one: Path, other: Path, section_ids: tuple[str, ...]) -> None:
    """Stored predictions are equal but for what was measured."""
    for section_id in section_ids:
        a, b = (anndata.read_h5ad(f / "predictions" / f"{section_id}.h5ad") for f in (one, other))
        assert list(a.var_names) == list(b.var_names) != []
        np.testing.assert_array_equal(a.X, b.X)
        assert (a.layers["measured"] != b.layers["measured"]).any()
        for layer in ("composition", "lower", "upper"):
            np.testing.assert_array_equal(a.layers[layer], b.layers[layer])
        for column in ("predicted_depth", "ood_score", "ood"):
            np.testing.assert_array_equal(a.obs[column], b.obs[column])
        for size in (1, 4, 9):
            assert np.isfinite(a.var[f"half_width_{size}"]).all()
            np.testing.assert_array_equal(a.var[f"half_width_{size}"], b.var[f"half_width_{size}"])
