"""What own sections are worth to a model: nothing of a left-out section or block reaches a fit or a choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from helpers.levelled_slides import levelled_slides
from helpers.own_sections import own_cohort, own_section
from helpers.toy_cohort import toy_cohort
from hespotex.config import RunConfig
from hespotex.evaluation.paired import SectionDifference
from hespotex.models.adapting import Adaptation
from hespotex.models.bundle import Bundle
from hespotex.models.default.adapt import Strength
from hespotex.models.fit import fit_bundle
from hespotex.models.types import Cohort, EncodedSection
from hespotex.sections.splits import Fold
from hespotex.storage.adaptation_record import ADAPTED, CAME, OWN
from hespotex.validation import adaptation
from hespotex.validation.adaptation import (
    PENALTIES,
    best_penalty,
    choose_strength,
    held_maps,
    held_out_round,
    parts_of,
    summary,
)
from hespotex.validation.adapted_folds import adapted_fold

CONFIG = RunConfig.from_values(
    {}, ["model.epochs=2", "model.ensemble=1", "model.hidden=8", "model.n_components=8"]
)


@pytest.fixture(scope="module")
def base() -> Bundle:
    return fit_bundle(toy_cohort(), CONFIG)


def _scrambled(item: EncodedSection, rows: Any = slice(None)) -> EncodedSection:
    section = item.section
    assert section.counts is not None
    dense = section.counts.toarray()
    dense[rows] = 3 * np.random.default_rng(0).permutation(dense[rows].ravel()).reshape(
        dense[rows].shape
    )
    return replace(item, section=replace(section, counts=sparse.csr_matrix(dense)))


def _with_scrambled(cohort: Cohort, name: str) -> Cohort:
    items = [_scrambled(i) if i.section.section_id == name else i for i in cohort.items]
    return replace(cohort, items=tuple(items))


@pytest.mark.slow
def test_permuting_a_left_out_section_changes_no_bit_of_choice_or_adapted_model(
    base: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = own_cohort("XYZ", n_side=9)
    part = parts_of(cohort)[0]
    assert [i.section.section_id for i in part.held] == ["O0"]
    mixed = _with_scrambled(cohort, "O0")
    made: list[list[Bundle]] = []
    plain_maps = held_maps

    def noted(parts: Any, models: Any, *more: Any) -> Any:
        def keep(rest: Cohort) -> Any:
            made.append(list(models(rest)))
            return made[-1]

        return plain_maps(parts, keep if len(parts) == 1 else models, *more)

    monkeypatch.setattr(adaptation, "held_maps", noted)
    records = [held_out_round(base, parts_of(c)[:1]) for c in (cohort, mixed)]
    assert records[0].strengths == records[1].strengths
    assert records[0].sections != records[1].sections  # scores do know what was measured
    for one, other in zip(*made, strict=True):
        assert one.model.hyper == other.model.hyper
        for name, array in one.model.tensors.items():
            np.testing.assert_array_equal(array, other.model.tensors[name], err_msg=name)
    other = held_out_round(base, parts_of(_with_scrambled(cohort, "O1"))[:1])
    assert other.sections[0].scores[ADAPTED] != records[0].sections[0].scores[ADAPTED]
    assert other.sections[0].scores[CAME] == records[0].sections[0].scores[CAME]
    fold = Fold(("O0",), ("O1", "O2"))
    strength = Strength(1.0, levels=True)
    pair = [adapted_fold(base, c, fold, strength) for c in (cohort, mixed)]
    for kept in ("trust", "model"):
        a, b = (getattr(o.bundle, kept) for o in pair)
        a, b = (a.tensors, b.tensors) if kept == "model" else (a, b)
        assert {"ood", "regions"} <= {n.partition(".")[0] for n in a} or kept == "model"
        for name, array in a.items():
            np.testing.assert_array_equal(array, b[name], err_msg=name)
    np.testing.assert_array_equal(
        pair[0].held_out[0].prediction.composition, pair[1].held_out[0].prediction.composition
    )


@pytest.mark.slow
def test_permuting_a_block_of_the_one_section_changes_nothing_that_is_said_of_it(
    base: Bundle,
) -> None:
    cohort = own_cohort("X", n_side=14)
    parts = parts_of(cohort)
    assert len(parts) == 4
    item, gap_um = cohort.items[0], 2 * cohort.items[0].section.geometry.spot_pitch_um
    for part in parts:
        between = part.rest.items[0].section.xy_um[:, None] - item.section.xy_um[part.rows[0]]
        assert np.linalg.norm(between, axis=2).min() > gap_um
    np.testing.assert_array_equal(
        np.sort(np.concatenate([p.rows[0] for p in parts])), np.arange(item.section.n_spots)
    )
    rows = parts[0].rows[0]
    mixed = replace(cohort, items=(_scrambled(item, rows),))

    def adapted(rest: Cohort) -> list[Bundle]:
        strength = choose_strength(base, rest)
        return [adaptation.Adaptation.of(base, rest).bundle(strength)]

    (plain,), (other,) = (
        [maps[0] for _, maps in held_maps(parts_of(c), adapted, base)] for c in (cohort, mixed)
    )
    np.testing.assert_array_equal(plain.composition[rows], other.composition[rows])
    np.testing.assert_array_equal(plain.log1p[rows], other.log1p[rows])
    rest = np.setdiff1d(np.arange(item.section.n_spots), rows)
    assert not np.array_equal(plain.composition[rest], other.composition[rest])


@pytest.mark.slow
def test_own_sections_that_say_more_pay_and_the_record_says_by_how_much(base: Bundle) -> None:
    cohort = own_cohort("XYZ", n_side=9)
    rounds = [held_out_round(base, [part]) for part in parts_of(cohort)]
    chosen = choose_strength(base, cohort)
    assert chosen.penalty is not None
    assert chosen.levels
    found = summary(base, rounds, chosen, held_out="patient", note="", new=4)
    assert found.pays
    assert (found.folds, found.folds_kept) == (3, 0)
    assert found.rows[ADAPTED].pcc_composition_mean > found.rows[CAME].pcc_composition_mean + 0.05
    assert found.rows[ADAPTED].rmse_log1p < found.rows[CAME].rmse_log1p - 0.1
    against = found.differences[CAME]
    assert against.units == "blocks"
    assert 0 < against.lower < against.value < against.upper
    mean = found.rows[ADAPTED].pcc_composition_mean - found.rows[CAME].pcc_composition_mean
    assert against.value == pytest.approx(mean, abs=1e-6)
    assert found.differences[OWN].value == pytest.approx(
        found.rows[ADAPTED].pcc_composition_mean - found.rows[OWN].pcc_composition_mean, abs=0.02
    )
    assert found.sentence.startswith("adapting pays: composition PCC 0.")


def test_too_few_spots_to_choose_on_leave_the_model_as_it_came(base: Bundle) -> None:
    few = replace(own_cohort("X"), items=(own_section("O0", "X", 1, n_side=6),))
    assert parts_of(few) == []
    assert choose_strength(base, few) == Strength()


@pytest.mark.parametrize(
    ("deviations", "kept"),
    [((0.1, 0.1), True), ((0.2, 0.2), False), ((0.2, None), False), ((None, None), True)],
)
def test_a_gain_within_its_error_is_none_also_beside_a_section_without_one(
    deviations: tuple[float | None, ...], kept: bool
) -> None:
    """Gains of 0.12 and 0.08 on two sections: 0.1, whose error is deviation / sqrt(2)."""
    nan = float("nan")
    pairs = [
        [SectionDifference(v if k == 1 else 0.0, nan if d is None else d, 10) for k in range(4)]
        for v, d in zip((0.12, 0.08), deviations, strict=True)
    ]
    assert best_penalty(pairs) == (PENALTIES[1] if kept else None)


@pytest.mark.slow
def test_counts_without_any_pattern_bring_none(base: Bundle) -> None:
    """Levels may be told from noise, too: only the pattern has to stay."""
    cohort = own_cohort("XYZ", n_side=9)
    noise = []
    for item in cohort.items:
        assert item.section.counts is not None
        dense = item.section.counts.toarray()
        shuffled = np.random.default_rng(3).permutation(dense)  # whole spots: levels stay
        section = replace(item.section, counts=sparse.csr_matrix(shuffled))
        noise.append(replace(item, section=section))
    chosen = choose_strength(base, replace(cohort, items=tuple(noise)))
    assert chosen.levels
    assert chosen.penalty is None or chosen.penalty == max(adaptation.PENALTIES)


@pytest.mark.slow
def test_permuting_a_left_out_patient_moves_no_level_that_own_patients_show() -> None:
    """Five own patients say how far slides follow; the sixth, whose slide is predicted, says nothing of it."""
    made = levelled_slides(8).cohort
    ids = [i.section.section_id for i in made.items]
    base, own = fit_bundle(made.subset(ids[:2]), CONFIG), made.subset(ids[2:])
    held = parts_of(own)[0].held[0].section.section_id
    mixed = [_with_scrambled(own, name) for name in (held, ids[-1])]
    assert held != ids[-1]
    plain, same, other = (
        Adaptation.of(base, parts_of(c)[0].rest).bundle(Strength(levels=True))
        for c in (own, *mixed)
    )
    assert plain.model.hyper["level"]["patients"] == 5
    for name, array in plain.model.tensors.items():
        np.testing.assert_array_equal(array, same.model.tensors[name], err_msg=name)
    assert (plain.model.tensors["level.slopes"] != other.model.tensors["level.slopes"]).any()
