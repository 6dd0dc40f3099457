"""A foreign model whose checksum is right and whose arrays do not fit one another is refused before it is kept."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.commands import command, refusal
from helpers.own_sections import own_cohort
from helpers.stored_model import MODEL, PREDICTION
from helpers.toy_cohort import toy_cohort
from hespotex.config import RunConfig
from hespotex.errors import ModelFileError
from hespotex.models.adapting import Adaptation
from hespotex.models.bundle import Bundle, read_model, write_model
from hespotex.models.default.adapt import Strength
from hespotex.models.fit import fit_bundle
from hespotex.models.predict import predict_expression
from hespotex.models.trial import check_predicts

STORED = read_model(MODEL)


def _with(bundle: Bundle, tensors: dict[str, npt.NDArray[np.generic]]) -> Bundle:
    return replace(bundle, model=replace(bundle.model, tensors={**bundle.model.tensors, **tensors}))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stored", "published", "adapted"])
def test_a_model_that_was_fitted_passes(kind: str) -> None:
    config = RunConfig.from_values({}, ["model.epochs=1", "model.ensemble=1", "model.hidden=8"])
    if kind == "published":
        config = RunConfig.from_values(
            {}, ["profile=published", "published.epochs=1", "panel.min_spots=1"]
        )
    bundle = STORED if kind == "stored" else fit_bundle(toy_cohort(n_side=6), config)
    if kind == "adapted":
        bundle = Adaptation.of(bundle, own_cohort(n_side=6)).bundle(Strength(1.0, levels=True))
    check_predicts(Path("m.hespotex"), bundle)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_change_of_arrays_is_refused_or_predicts_numbers(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(STORED.model.tensors)))
    value = STORED.model.tensors[name]
    change = data.draw(st.sampled_from(["none", "cut", "longer", "nan", "turned", "flat"]))
    changed = {
        "none": None,
        "cut": value[..., :-1] if value.ndim else value,
        "longer": np.concatenate([value, value]) if value.ndim else value,
        "nan": np.full_like(value, np.nan),
        "turned": value.T,
        "flat": value.ravel(),
    }[change]
    tensors = {k: v for k, v in STORED.model.tensors.items() if k != name}
    if changed is not None:
        tensors[name] = changed
    bundle = replace(STORED, model=replace(STORED.model, tensors=tensors))
    with suppress(ModelFileError):  # any other error is a fault
        check_predicts(MODEL, bundle)
        with np.load(PREDICTION) as inputs:
            found = predict_expression(bundle.model, inputs["features"], inputs["xy_um"])
        assert np.isfinite(found.composition).all()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (replace(STORED, genes=STORED.genes[:-1], training_totals=STORED.training_totals[:-1]),
         "values of 6 genes beside 5 names"),
        (_with(STORED, {"readout.log_pooled": np.full(6, np.nan, np.float32)}), "found"),
        (_with(STORED, {"readout.offset": np.full(6, np.nan, np.float32)}), "found"),
        (_with(STORED, {"kernel.weight": np.ones(3, np.float32)}), "found: ValueError"),
    ],
    ids=["names", "shares", "offsets", "weights"],
)  # fmt: skip
def test_a_model_that_cannot_predict_is_one_line_and_never_gets_a_name(
    broken: Bundle, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "foreign.hespotex"
    write_model(path, broken)  # with the checksum of what it holds
    line = refusal(command("models", "add", path))
    assert f"expected a model that predicts in {path}" in line
    assert said in line
    assert list((tmp_path / "cache" / "models").glob("*")) == []
