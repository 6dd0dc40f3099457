"""Segmenters: what is missing is said in one line; slides too coarse are refused; nothing leaks."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from scipy import sparse

from helpers.toy_cohort import toy_cohort
from hespotex.config import RunConfig
from hespotex.errors import NucleiError
from hespotex.models.types import Cohort, EncodedSection
from hespotex.nuclei import list_segmenters
from hespotex.nuclei.networks import NetworkSegmenter
from hespotex.nuclei.origin import SOURCES
from hespotex.nuclei.segmenters import SEGMENTERS, refuse_coarse
from hespotex.sections.splits import Fold
from hespotex.validation.cross_validation import run_fold


@pytest.fixture
def _no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and nothing downloaded before."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


@pytest.mark.usefixtures("_no_hub")
def test_classical_is_always_ready_and_others_say_what_they_lack() -> None:
    found = {s.name: s for s in list_segmenters()}
    assert set(found) == {"classical", "instanseg", "cellpose"}
    assert found["classical"].ready
    assert not found["instanseg"].ready
    assert "weights" in found["instanseg"].missing or "pip install" in found["instanseg"].missing


def test_the_table_has_every_source_but_masks() -> None:
    assert [*SEGMENTERS, "mask"] == list(SOURCES)
    assert list(SEGMENTERS.all()) == list(SEGMENTERS)


@pytest.mark.slow
@pytest.mark.usefixtures("_no_hub")
def test_weights_that_cannot_be_had_are_the_error_and_not_another() -> None:
    pytest.importorskip("lazyslide_models")
    wanted = (
        r"^nuclei by instanseg: its weights are not on this machine and HF_HUB_OFFLINE forbids "
        r"fetching them.*`classical` needs no weights$"
    )
    with pytest.raises(NucleiError, match=wanted):
        NetworkSegmenter("instanseg", "cpu")


def test_a_library_that_is_not_installed_is_named() -> None:
    try:
        metadata.version("cellpose")
    except metadata.PackageNotFoundError:
        pass
    else:
        pytest.skip("cellpose is installed")
    with pytest.raises(NucleiError, match=r"^nuclei by cellpose: .* not installed; pip install"):
        NetworkSegmenter("cellpose", "cpu")


def test_a_slide_too_coarse_for_nuclei_is_refused() -> None:
    refuse_coarse(0.69)
    with pytest.raises(
        NucleiError, match=r"at most 1 um per pixel .* found 2\.76: a nucleus has 2 pixels"
    ):
        refuse_coarse(2.76)


def _with_nuclei(cohort: Cohort) -> Cohort:
    rng = np.random.default_rng(5)
    items = tuple(replace(i, nuclei=rng.uniform(1, 2, i.section.n_spots)) for i in cohort.items)
    return replace(cohort, items=items)


def _scrambled(item: EncodedSection) -> EncodedSection:
    assert item.section.counts is not None
    dense = np.random.default_rng(0).permutation(item.section.counts.toarray())
    return replace(item, section=replace(item.section, counts=sparse.csr_matrix(dense)))


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["default", "published"])
def test_with_nuclei_too_held_out_counts_change_no_bit_of_the_fit(profile: str) -> None:
    values = {
        "profile": profile,
        "panel": {"n_top": 15, "min_spots": 0},
        "model": {"epochs": 2, "ensemble": 1},
        "published": {"gate_steps": 3, "epochs": 2},
        "trust": {"calibrate": False},
        "nuclei": {"mode": "density"},
    }
    config, cohort = RunConfig.from_values(values), _with_nuclei(toy_cohort(n_side=6))
    fold = Fold(("A1", "A2"), ("B1", "B2"))
    items = tuple(
        _scrambled(i) if i.section.section_id in fold.held_out else i for i in cohort.items
    )
    plain, changed = (
        run_fold(cohort, fold, config),
        run_fold(replace(cohort, items=items), fold, config),
    )
    assert plain.bundle.model.hyper["uses_nuclei"]
    for name, value in plain.bundle.model.tensors.items():
        np.testing.assert_array_equal(value, changed.bundle.model.tensors[name], err_msg=name)
    np.testing.assert_array_equal(
        plain.held_out[0].prediction.log1p, changed.held_out[0].prediction.log1p
    )
