"""Domains of sections that several models predicted: one name for what is alike, another for what is not."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from benchmarks.made_predictions import write_made_prediction
from sklearn.metrics import adjusted_rand_score

from hespotex.analysis.domain_models import paired
from hespotex.analysis.domains import DomainOptions, Domains, find_domains

GENES = [f"G{j}" for j in range(200)]
SIDE = 12


def tissue_rows(bands: int) -> npt.NDArray[np.int_]:
    """(n,) tissue of each spot of a made section: bands from top to bottom."""
    return np.arange(SIDE * SIDE) // SIDE * bands // SIDE


def made(
    folder: Path,
    name: str,
    model: str,
    *,
    gain: float = 1.0,
    bands: int = 3,
    skip: int | None = None,
) -> npt.NDArray[np.int_]:
    """Write a section of bands, each a tissue with a profile of its own, times `gain`; the tissue of every spot."""
    profile = np.random.default_rng(5).normal(size=(4, len(GENES)))
    kind = tissue_rows(bands)
    if skip is not None:
        kind = np.where(kind == skip, 3, kind)  # a tissue that no other section has
    path = write_made_prediction(
        folder / f"{name}.h5ad", level=np.zeros(len(GENES)), section_id=name, patient_id=name,
        genes=GENES, side=SIDE, model_id=model,
    )  # fmt: skip
    noise = np.random.default_rng(len(name) + ord(name[0])).normal(0, 0.2, (len(kind), len(GENES)))
    with h5py.File(path, "r+") as file:
        file["layers/composition"][...] = gain * (profile[kind] + noise)
    return kind


def drawn(folder: Path, **options: object) -> Domains:
    return find_domains(
        [folder], folder / "out", DomainOptions(n=3, length_um=0, **options)  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_domain_of_two_models_that_say_it_more_or_less_strongly_has_one_name(
    tmp_path: Path,
) -> None:
    tissue = {
        "a": made(tmp_path, "a", "strong"),
        "b": made(tmp_path, "b", "weak", gain=0.05),
        "c": made(tmp_path, "c", "weak", gain=0.05),
    }
    found = drawn(tmp_path)
    of = found.labels["composition"]
    pooled = [np.concatenate([v[name] for name in tissue]) for v in (tissue, of)]
    assert adjusted_rand_score(*pooled) == pytest.approx(1.0)
    assert any("predictions of 2 models: the sections of each were divided alone" in n for n in found.notes)  # fmt: skip


def test_a_tissue_that_one_model_alone_has_gets_a_name_of_its_own(tmp_path: Path) -> None:
    made(tmp_path, "a", "one")
    kind = made(tmp_path, "b", "two", skip=1)
    found = drawn(tmp_path)
    of = found.labels["composition"]
    names = pd.crosstab(kind, of["b"]).idxmax(axis=1)
    assert set(of["a"].tolist()) == {0, 1, 2}
    assert names[3] == 3
    assert {names[0], names[2]} < {0, 1, 2}
    assert any("; D4 of its own" in n for n in found.notes)


def test_predictions_of_one_model_are_clustered_together(tmp_path: Path) -> None:
    made(tmp_path, "a", "one")
    made(tmp_path, "b", "one", skip=1)
    found = drawn(tmp_path)
    assert found.n_domains("composition") == 3
    assert not any("models" in n for n in found.notes)


def test_levels_that_are_kept_and_models_of_few_spots_are_clustered_together_and_said(
    tmp_path: Path,
) -> None:
    made(tmp_path, "a", "one")
    made(tmp_path, "b", "two")
    assert any("2 models, clustered together" in n for n in drawn(tmp_path, keep_levels=True).notes)
    write_made_prediction(
        tmp_path / "few" / "c.h5ad", level=np.zeros(len(GENES)), section_id="c", patient_id="c",
        genes=GENES, side=5, model_id="three",
    )  # fmt: skip
    small = find_domains(
        [tmp_path / "few" / "c.h5ad", tmp_path / "a.h5ad"], tmp_path / "out", DomainOptions(n=3)
    )
    assert any("2 models, clustered together" in n for n in small.notes)
    with_two = find_domains(
        [tmp_path / f for f in ("few/c.h5ad", "a.h5ad", "b.h5ad")], tmp_path / "out", DomainOptions(n=3)
    )  # fmt: skip
    assert (with_two.labels["composition"]["c"] >= 0).all()
    alone = find_domains(
        [tmp_path / f for f in ("a.h5ad", "b.h5ad")], tmp_path / "out", DomainOptions(n=3)
    )
    for name, of in alone.labels["composition"].items():  # the small one shaped nothing
        assert adjusted_rand_score(of, with_two.labels["composition"][name]) > 0.95


def test_one_number_is_chosen_for_all_models(tmp_path: Path) -> None:
    made(tmp_path, "a", "one")
    made(tmp_path, "b", "two", gain=0.05)
    found = find_domains([tmp_path], tmp_path / "out", DomainOptions(length_um=0))
    assert len(found.stability["composition"][0].ari) == 20
    assert found.n_domains("composition") == 3


def test_names_go_where_the_sum_of_likeness_is_highest_and_only_to_what_is_alike() -> None:
    rng = np.random.default_rng(0)
    named = rng.normal(size=(3, 50))
    own = np.stack([named[2] * 7 + 1, rng.normal(size=50), named[0] / 3])
    names, likeness = paired(own, named)
    assert names.tolist() == [2, 3, 0]
    np.testing.assert_allclose(likeness[[0, 2]], 1.0)
    assert np.isnan(likeness[1])
    empty = paired(np.full((1, 50), np.nan), named)
    assert empty[0].tolist() == [3]
