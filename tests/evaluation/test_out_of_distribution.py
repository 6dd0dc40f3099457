"""Spots and slides unlike the training slides are flagged, those alike are not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from hespotex.errors import HESpotExError
from hespotex.evaluation.out_of_distribution import fit_ood
from hespotex.features.appearance import Appearance


def slide(
    seed: int, n: int = 200, shift: float = 0.0, n_features: int = 40
) -> npt.NDArray[np.float32]:
    """Features of rank five plus noise, as encoders give them; `shift` moves all of them."""
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(99).normal(size=(5, n_features))
    values = rng.normal(size=(n, 5)) @ basis + 0.3 * rng.normal(size=(n, n_features))
    return (values + 10 + shift).astype(np.float32)


def coloured(colours: npt.NDArray[np.float32]) -> Appearance:
    """Spots of these colours, of unknown texture."""
    return Appearance(colours, np.zeros((len(colours), 0), np.float32))


def positions(n: int = 200) -> npt.NDArray[np.float64]:
    y, x = np.divmod(np.arange(n), 15)
    return np.column_stack([100.0 * x, 100.0 * y])


def test_false_alarms_on_a_new_slide_of_the_same_kind_are_rare() -> None:
    model = fit_ood([slide(i) for i in range(3)], [positions()] * 3)
    shares = [model.report(slide(10 + i)).share for i in range(8)]
    assert np.mean(shares) < 0.10
    assert np.mean(shares) > 0.001
    assert model.report(slide(20)).verdict == "like the training slides"


@pytest.mark.parametrize("n_sections", [1, 3])
def test_a_shifted_slide_is_unlike(n_sections: int) -> None:
    model = fit_ood([slide(i) for i in range(n_sections)], [positions()] * n_sections)
    report = model.report(slide(10, shift=4.0))
    assert report.share > 0.95
    assert report.verdict == "unlike: tissue"
    assert (report.flagged == (report.score > 1)).all()


def test_only_the_odd_spots_of_a_slide_are_flagged() -> None:
    model = fit_ood([slide(i) for i in range(3)], [positions()] * 3)
    features = slide(10)
    features[:20] += 8
    report = model.report(features)
    assert report.flagged[:20].all()
    assert report.flagged[20:].mean() < 0.15
    assert report.verdict == "like the training slides"


def test_another_colour_is_called_staining_and_another_texture_tissue() -> None:
    sections = [slide(i) for i in range(3)]
    colours = [coloured(slide(50 + i, n_features=6)) for i in range(3)]
    model = fit_ood(sections, [positions()] * 3, colours)
    odd = slide(10, shift=6.0)
    # Another colour moves the features as well, and less.
    assert (
        model.report(odd, coloured(slide(60, n_features=6, shift=40.0))).verdict
        == "unlike: staining"
    )
    assert model.report(odd, coloured(slide(60, n_features=6))).verdict == "unlike: tissue"
    assert (
        model.report(odd, coloured(slide(60, n_features=6, shift=4.0))).verdict == "unlike: tissue"
    )


def test_another_colour_is_seen_even_where_the_encoder_looks_past_it() -> None:
    colours = [coloured(slide(50 + i, n_features=6)) for i in range(3)]
    model = fit_ood([slide(i) for i in range(3)], [positions()] * 3, colours)
    same = model.report(slide(10), coloured(slide(60, n_features=6)))
    assert same.share < 0.1
    inverted = model.report(slide(10), coloured(-slide(60, n_features=6)))
    assert inverted.share > 0.95
    assert inverted.verdict == "unlike: staining"


def test_a_feature_constant_in_training_does_not_decide_alone() -> None:
    sections = [slide(i) for i in range(3)]
    for values in sections:
        values[:, 3] = 0.5
    new = slide(10)
    new[:, 3] = 0.5001
    assert fit_ood(sections, [positions()] * 3).report(new).share < 0.15


def test_scales_are_taken_together() -> None:
    sections = [slide(i).reshape(200, 4, 10) for i in range(2)]
    model = fit_ood(sections, [positions()] * 2)
    flat = fit_ood([slide(i) for i in range(2)], [positions()] * 2)
    np.testing.assert_array_equal(
        model.report(slide(5).reshape(200, 4, 10)).score, flat.report(slide(5)).score
    )


def test_a_slide_of_the_same_kind_may_be_shifted_as_spots_of_one_slide_differ() -> None:
    """One training section cannot tell how far others lie: a modest shift of all spots is forgiven, a large one not."""
    model = fit_ood([slide(0)], [positions()])
    direction = np.random.default_rng(99).normal(size=(5, 40))[0]
    near, far = slide(10) + 0.7 * direction, slide(10) + 12 * direction
    assert model.report(near.astype(np.float32)).share < 0.1
    assert model.report(near.astype(np.float32)).verdict == "like the training slides"
    report = model.report(far.astype(np.float32))
    assert report.flagged.all()
    assert report.verdict == "unlike: tissue"


def test_a_slide_like_one_of_several_kinds_in_training_is_like_them() -> None:
    kinds = [slide(0), slide(1), slide(2, shift=30.0), slide(3, shift=30.0)]
    model = fit_ood(kinds, [positions()] * 4, patients=["A", "B", "C", "D"])
    assert model.report(slide(10)).verdict == "like the training slides"
    assert model.report(slide(10, shift=30.0)).verdict == "like the training slides"
    assert model.report(slide(10, shift=80.0)).verdict == "unlike: tissue"


def test_sections_of_one_patient_leave_more_room_than_as_many_patients() -> None:
    sections = [slide(i) for i in range(3)]
    one = fit_ood(sections, [positions()] * 3, patients=["P", "P", "P"])
    three = fit_ood(sections, [positions()] * 3, patients=["P", "Q", "R"])
    assert one.features.spot_limit == pytest.approx(
        three.features.spot_limit * np.sqrt(2 / (4 / 3))
    )


def test_parts_of_a_slide_score_as_the_whole() -> None:
    sections, colours = (
        [slide(i) for i in range(3)],
        [coloured(slide(50 + i, n_features=6)) for i in range(3)],
    )
    model = fit_ood(sections, [positions()] * 3, colours)
    new, colour = slide(10), coloured(slide(60, n_features=6))
    rows = [np.arange(i, i + 50) for i in range(0, 200, 50)]
    place = model.place((new[r], colour.spots(r)) for r in rows)
    parts = [model.report(new[r], colour.spots(r), place).score for r in rows]
    np.testing.assert_allclose(np.concatenate(parts), model.report(new, colour).score, rtol=1e-5)


def test_no_spot_is_an_error() -> None:
    model = fit_ood([slide(0), slide(1)], [positions()] * 2)
    with pytest.raises(HESpotExError, match=r"expected spots to compare .* found none"):
        model.report(slide(2)[:0])


def test_features_of_another_encoder_are_an_error() -> None:
    model = fit_ood([slide(0), slide(1)], [positions()] * 2)
    with pytest.raises(HESpotExError, match="expected 40 features a spot as in training, found 39"):
        model.report(slide(2)[:, :39])


def test_too_few_spots_are_an_error() -> None:
    with pytest.raises(HESpotExError, match=r"at least 8 training spots .* found 5"):
        fit_ood([slide(0, n=5)], [positions(5)])


def test_a_section_of_twelve_spots_can_be_trained_on() -> None:
    model = fit_ood([slide(0, n=12)], [positions(12)])
    assert np.isfinite(model.report(slide(1)).score).all()
