"""A cohort is what its files say: shares, layers, rows of patients, files that cannot be used."""

from __future__ import annotations

import shutil
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from benchmarks.made_predictions import write_made_prediction

from helpers.commands import command, refusal
from hespotex.analysis import cohort as module
from hespotex.analysis import slide_summary
from hespotex.analysis.cohort import cohort
from hespotex.analysis.slide_summary import summarise_slide
from hespotex.errors import ConfigError, RunError
from hespotex.export.h5ad import read_prediction

GENES = tuple(f"G{j}" for j in range(8))
LEVELS = np.random.default_rng(1).normal(scale=0.5, size=(3, 8))


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients P0 and P1 with two slides each, P2 with one that is unlike the training's."""
    folder = tmp_path_factory.mktemp("cohort") / "run" / "predictions"
    for patient, slide in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0)):
        write_made_prediction(
            folder / f"P{patient}S{slide}.h5ad",
            level=LEVELS[patient],
            section_id=f"P{patient}S{slide}",
            patient_id=f"P{patient}",
            genes=GENES,
            side=8 + 2 * slide,
            seed=10 * patient + slide,
            depth=1000.0 * (1 + slide),
            verdict="unlike" if patient == 2 else "like the training slides",
            flagged=6,
        )
    return folder.parent


@pytest.fixture
def files(three: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(three, tmp_path / "run")


def _by_hand(path: Path, *, all_spots: bool = False) -> dict[str, np.ndarray]:
    """Pseudobulk, mean, spread and Moran's I from the whole tables, the plain way."""
    stored = read_prediction(path)
    used = np.ones(len(stored.depth), bool) if all_spots else ~np.asarray(stored.extras.ood)
    composition = stored.composition[used].astype(float)
    weight = stored.depth[used].astype(float)
    pooled = np.asarray(stored.extras.pooled_share, float)
    share = (weight[:, None] * np.exp(composition) * pooled).sum(0) / weight.sum()
    xy = stored.xy_px0[used] * stored.mpp
    near = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    near = ((near > 0) & (near < 145)).astype(float)
    z = composition - composition.mean(0)
    moran = len(z) / near.sum() * np.einsum("ig,ij,jg->g", z, near, z) / (z**2).sum(0)
    above = (composition > np.asarray(stored.extras.upper_quartile)).mean(0)
    return {
        "share": share, "composition": composition.mean(0), "spread": composition.std(0), "moran": moran,
        "above": above, "total": weight.sum(),
    }  # fmt: skip


@pytest.mark.parametrize("block", [40, 300, 2**21])
def test_a_summary_is_what_the_whole_tables_say_whatever_the_block(
    three: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(slide_summary, "_BLOCK_VALUES", block)
    path = three / "predictions" / "P1S1.h5ad"
    found, expected = summarise_slide(path), _by_hand(path)
    assert (found.n_spots, found.n_used) == (100, 94)
    for name in ("share", "composition", "spread", "moran", "above"):
        np.testing.assert_allclose(
            getattr(found, name), expected[name], rtol=2e-4, atol=1e-5, err_msg=name
        )
    assert (found.moran[1::2] > 0.5).all()
    assert (np.abs(found.moran[::2]) < 0.3).all()


def test_slides_of_a_patient_are_joined_by_predicted_counts(three: Path, tmp_path: Path) -> None:
    cohort(three, tmp_path / "c")
    table = anndata.read_h5ad(tmp_path / "c" / "cohort.h5ad")
    assert table.obs_names.tolist() == ["P0", "P1", "P2"]
    first, second = (_by_hand(three / "predictions" / f"P0S{k}.h5ad") for k in (0, 1))
    both = first["total"] + second["total"]
    share = (first["total"] * first["share"] + second["total"] * second["share"]) / both
    np.testing.assert_allclose(table.X[0], np.log1p(1e6 * share), rtol=1e-5)
    np.testing.assert_allclose(np.expm1(table.X).sum(axis=1), 1e6, rtol=1e-3)
    assert table.obs["n_spots"].tolist() == [164, 164, 64]
    assert table.obs["unlike"].tolist() == [False, False, True]
    assert table.obs["tissue_mm2"].tolist() == pytest.approx([1.64, 1.64, 0.64])
    assert set(table.var["level_grade"]) == {"ungraded"}
    assert table.uns["hespotex"]["use"] == "research use only"


def test_what_ridge_says_of_slides_is_a_layer_and_absent_where_predictions_carry_none(
    files: Path, tmp_path: Path
) -> None:
    said = {"P0S0": np.linspace(-1, 1, 8), "P0S1": np.zeros(8)}
    for name, values in said.items():
        path = files / "predictions" / f"{name}.h5ad"
        stored = anndata.read_h5ad(path)
        stored.var["ridge_level"] = values.astype(np.float32)
        stored.write_h5ad(path)
    cohort(files, tmp_path / "c")
    table = anndata.read_h5ad(tmp_path / "c" / "cohort.h5ad")
    pooled = table.var["pooled_share"].to_numpy()
    mean = said["P0S0"] * 58 / (58 + 94)  # spots that are not flagged
    np.testing.assert_allclose(
        table.layers["ridge"][0], np.log1p(1e6 * pooled * np.exp(mean)), rtol=1e-5
    )
    assert np.isnan(table.layers["ridge"][1:]).all()


def test_an_unlike_slide_is_kept_with_all_its_spots_and_marked(three: Path, tmp_path: Path) -> None:
    cohort(three, tmp_path / "c", by="slide")
    table = anndata.read_h5ad(tmp_path / "c" / "cohort.h5ad")
    last = table.obs.loc["P2S0"]
    assert (last["unlike"], last["verdict"], last["n_used"]) == (True, "unlike", 64)
    share = _by_hand(three / "predictions" / "P2S0.h5ad", all_spots=True)["share"]
    np.testing.assert_allclose(table["P2S0"].X[0], np.log1p(1e6 * share), rtol=1e-5)
    assert last["flagged"] == pytest.approx(6 / 64)


def test_parquet_and_csv_hold_the_same_values(three: Path, tmp_path: Path) -> None:
    found = cohort(three, tmp_path / "c")
    table = anndata.read_h5ad(found.paths.h5ad)
    parquet, text = pd.read_parquet(found.paths.parquet), pd.read_csv(found.paths.csv)
    np.testing.assert_array_equal(parquet[list(GENES)].to_numpy(), table.X)
    np.testing.assert_allclose(text[list(GENES)].to_numpy(), table.X, rtol=1e-4)
    assert parquet["row"].tolist() == text["patient"].tolist() == ["P0", "P1", "P2"]


def test_bad_files_are_rows_and_do_not_stop_the_others(files: Path, tmp_path: Path) -> None:
    folder = files / "predictions"
    cut = folder / "P0S0.h5ad"
    cut.write_bytes(cut.read_bytes()[:5000])
    (folder / "text.h5ad").write_text("no table")
    write_made_prediction(
        folder / "other.h5ad", level=LEVELS[0], section_id="other", patient_id="P7", genes=GENES, model_id="x",
    )  # fmt: skip
    shutil.copy(folder / "P1S0.h5ad", folder / "again.h5ad")
    said = command("cohort", files, "--out", tmp_path / "c")
    assert said.exit_code == 0, said.output
    assert "4 files could not be used" in said.stdout
    rows = pd.read_csv(tmp_path / "c" / "slides.csv").set_index("file")
    why = rows["why"].to_dict()
    assert "cut short" in why["P0S0.h5ad"]
    assert "expected a prediction of hespotex in" in why["text.h5ad"]
    assert "expected a prediction of model made, as 5 of 6 are, found one of x" in why["other.h5ad"]
    assert "expected every section once, found P1S0" in why["again.h5ad"]
    table = anndata.read_h5ad(tmp_path / "c" / "cohort.h5ad")
    assert table.obs["n_slides"].tolist() == [1, 2, 1]


def test_an_interrupted_call_goes_on_and_ends_as_the_uninterrupted_one(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    usual = module.summarise_slide

    def counting(path: Path) -> object:
        if len(read) == 3:
            read.append("stop")
            raise KeyboardInterrupt
        read.append(path.name)
        return usual(path)

    monkeypatch.setattr(module, "summarise_slide", counting)
    with pytest.raises(KeyboardInterrupt):
        cohort(three, tmp_path / "cut")
    assert not (tmp_path / "cut" / "cohort.h5ad").exists()
    cohort(three, tmp_path / "cut")
    assert sorted(read) == sorted([*(p.name for p in (three / "predictions").iterdir()), "stop"])
    cohort(three, tmp_path / "whole")
    for name in ("expression.csv", "slides.csv", "genes.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_an_old_file_without_the_shares_of_the_training_says_what_to_do(
    files: Path, tmp_path: Path
) -> None:
    import h5py

    for path in (files / "predictions").glob("*.h5ad"):
        with h5py.File(path, "a") as file:
            order = [c for c in file["var"].attrs["column-order"] if c != "pooled_share"]
            file["var"].attrs["column-order"] = order
            del file["var/pooled_share"]
    with pytest.raises(RunError, match=r"none: an earlier version wrote it; predict again"):
        cohort(files, tmp_path / "c")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("missing", "expected predictions at .*missing, found nothing"),
        ("empty", "a folder without h5ad files"),
        (
            "made",
            "found none; the first says: .*found a cohort, which is made of them; give the folders of",
        ),
    ],
)
def test_what_is_no_prediction_is_refused_in_one_line(
    three: Path, tmp_path: Path, given: str, said: str
) -> None:
    (tmp_path / "empty").mkdir()
    cohort(three, tmp_path / "made")
    with pytest.raises(RunError, match=said):
        cohort(tmp_path / given, tmp_path / "c")


def _clinical(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_columns_of_a_clinical_table_come_along_and_who_lacks_is_said(
    three: Path, tmp_path: Path
) -> None:
    table = _clinical(tmp_path / "t.tsv", "Patient_ID\tage\tstage\nP1\t61\tII\nP0\t\tI\nP9\t3\tI\n")
    found = cohort(three, tmp_path / "c", clinical=table)
    obs = anndata.read_h5ad(found.paths.h5ad).obs
    assert obs["stage"].astype(object).where(obs["stage"].notna(), "").tolist() == ["I", "II", ""]
    assert obs.loc["P1", "age"] == 61
    assert np.isnan(obs.loc["P0", "age"])
    assert "1 patients of the cohort are not in t.tsv: P2" in " ".join(found.notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patient_id,age\nX1,3\nX2,4\n", r"found X1, X2, where the cohort has P0, P1, P2"),
        ("patient_id,age\nP0,3\nP0,4\nP1,1\n", r"one row a patient in .*several that differ: P0 \(in age\)"),
        ("name,age\nP0,3\n", r"expected a column patient_id or section_id in .*found name, age"),
        ("no table at all\n", r"neither commas, tabs nor semicolons"),
        ("patient_id,age\n", r"no row below the column names"),
        ("patient_id,age\nP0,3,4,5\n", r"give every line as many cells as the first"),
    ],
)  # fmt: skip
def test_a_clinical_table_that_does_not_fit_is_one_line(
    three: Path, tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        cohort(three, tmp_path / "c", clinical=_clinical(tmp_path / "t.csv", text))


def test_decimal_commas_between_semicolons_are_numbers(three: Path, tmp_path: Path) -> None:
    rows = "patient_id;age;dose;note\nP0;61,5;1;a,b\nP1;NA;2,25;3,5\nP2;7;;x\n"
    found = cohort(three, tmp_path / "c", clinical=_clinical(tmp_path / "t.csv", rows))
    obs = anndata.read_h5ad(found.paths.h5ad).obs
    np.testing.assert_array_equal(obs["age"], [61.5, np.nan, 7])
    np.testing.assert_array_equal(obs["dose"], [1, 2.25, np.nan])
    assert obs["note"].tolist() == ["a,b", "3,5", "x"]
    # Between commas and tabs a comma inside a cell is nobody's decimal.
    text = _clinical(tmp_path / "t.tsv", "patient_id\tcode\nP0\t1,5\nP1\t2,5\n")
    obs = anndata.read_h5ad(cohort(three, tmp_path / "d", clinical=text).paths.h5ad).obs
    assert obs["code"].astype(object).tolist()[:2] == ["1,5", "2,5"]


def test_equal_rows_of_a_patient_are_one(three: Path, tmp_path: Path) -> None:
    table = _clinical(tmp_path / "t.csv", "patient_id,age\nP0,3\nP0,3\nP1,1\n")
    found = cohort(three, tmp_path / "c", clinical=table)
    assert anndata.read_h5ad(found.paths.h5ad).obs["age"].tolist()[:2] == [3, 1]


def test_a_table_by_slide_names_the_patients_of_slides(three: Path, tmp_path: Path) -> None:
    rows = "section_id,patient_id,site\nP0S0,A,x\nP0S1,B,y\nP1S0,A,x\nP1S1,B,z\nP2S0,C,x\n"
    found = cohort(three, tmp_path / "c", clinical=_clinical(tmp_path / "t.csv", rows))
    obs = anndata.read_h5ad(found.paths.h5ad).obs
    assert obs["slides"].tolist() == ["P0S0 P1S0", "P0S1 P1S1", "P2S0"]
    assert obs["site"].astype(object).where(obs["site"].notna(), "").tolist() == ["x", "", "x"]


def test_the_command_refuses_another_by(three: Path, tmp_path: Path) -> None:
    line = refusal(command("cohort", three, "--out", tmp_path / "c", "--by", "tissue"))
    assert "expected --by slide or patient, found 'tissue'" in line


def test_a_slide_whose_patient_the_table_names_is_not_said_to_be_without_one(
    tmp_path: Path,
) -> None:
    for name in "ABC":
        write_made_prediction(
            tmp_path / "p" / f"{name}.h5ad",
            level=LEVELS[0],
            section_id=name,
            patient_id="",
            genes=GENES,
        )
    table = _clinical(tmp_path / "t.csv", "section_id,patient_id\nA,X\nB,X\nC,\n")
    found = cohort(tmp_path / "p", tmp_path / "c", clinical=table)
    obs = anndata.read_h5ad(found.paths.h5ad).obs
    assert obs["n_slides"].to_dict() == {"X": 2, "C": 1}
    (said,) = [n for n in found.notes if "patient's name" in n]
    assert said == "1 slide without a patient's name: each counts as a patient of its own (C)"
