"""What newcomers bring to `localize`: tables written by hand, slides without spots, damaged pixels, folders of other slides."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import write_elem

from helpers.commands import command, refusal
from helpers.made_diagnoses import SIDE, write_diagnoses
from hespotex.analysis.localize.bags import patients_by_class
from hespotex.analysis.localize.cohort import Slides, read_slides, write_inputs, write_sets
from hespotex.errors import ConfigError
from hespotex.progress import Silent

N = 6
N_SPOTS = SIDE * SIDE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_diagnoses(tmp_path_factory.mktemp("odd"), effect=3.0, n=N)


def _read(folder: Path, table: pd.DataFrame, path: Path, **more: str) -> Slides:
    table.to_csv(path / "clinical.csv", index=False)
    return read_slides([folder / "predictions"], path / "clinical.csv", "diagnosis", **more)


def _table(diagnosis: list[object], **more: list[object]) -> pd.DataFrame:
    return pd.DataFrame({"patient_id": [f"P{k}" for k in range(N)], "diagnosis": diagnosis, **more})


@pytest.mark.parametrize(
    ("diagnosis", "counts"),
    [
        (["well ", " ill"] * 3, {"ill": 3, "well": 3}),
        ([0, 1] * 3, {"0": 3, "1": 3}),
        ([0.5, 1] * 3, {"0.5": 3, "1": 3}),
        ([True, False] * 3, {"False": 3, "True": 3}),
        (["a", "b", "c"] * 2, {"a": 2, "b": 2, "c": 2}),
    ],
)
def test_blanks_numbers_and_three_diagnoses_are_names(
    folder: Path, tmp_path: Path, diagnosis: list[object], counts: dict[str, int]
) -> None:
    read = _read(folder, _table(diagnosis), tmp_path)
    assert patients_by_class(read.bags) == counts
    assert read.notes == ()


@pytest.mark.parametrize("nothing", [np.nan, "NA", " "])
def test_a_slide_without_a_diagnosis_is_left_out_and_named(
    folder: Path, tmp_path: Path, nothing: object
) -> None:
    read = _read(folder, _table([nothing, "1", "0", "1", "0", "1"]), tmp_path)
    assert patients_by_class(read.bags) == {"0": 2, "1": 3}
    assert read.notes == ("1 slide without a diagnosis left out: S0.",)


@pytest.mark.parametrize(
    ("diagnosis", "more", "options", "match"),
    [
        (["Well", "ill", "well", "ill", "well", "ill"], {}, {}, r"in more than capitals and blanks, found 'Well' and 'well'; write each in one way"),
        (["well", "ill"] * 3, {}, {"site": "diagnosis"}, r"expected another column than --label diagnosis with --site, found --site diagnosis"),
        (["well", "ill"] * 3, {}, {"split": "diagnosis"}, r"expected another column than --label diagnosis with --split"),
        (["well", "ill"] * 3, {"lab": ["x", None] * 3}, {"site": "lab"}, r"expected a site of every slide in column lab of .*, found none for S1, S3, S5; fill the cells"),
        (["well", "ill"] * 3, {}, {"site": "lab"}, r"expected a column lab in .*clinical.csv, found diagnosis"),
    ],
)  # fmt: skip
def test_tables_that_mean_two_things_are_refused(
    folder: Path, tmp_path: Path, diagnosis: list[object], more: dict[str, list[object]],
    options: dict[str, str], match: str,
) -> None:  # fmt: skip
    with pytest.raises(ConfigError, match=match):
        _read(folder, _table(diagnosis, **more), tmp_path, **options)


def test_two_diagnoses_of_one_patient_are_refused(folder: Path, tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"section_id": [f"S{k}" for k in range(N)], "patient_id": ["P0", "P0", "P2", "P3", "P4", "P5"], "diagnosis": ["a", "b"] * 3}
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"expected one diagnosis a patient, found 1 patient with several: P0"):  # fmt: skip
        _read(folder, table, tmp_path)


def _changed(folder: Path, to: Path, change: Callable[[h5py.File], None]) -> Path:
    """A copy of the cohort whose slide S1 was changed."""
    shutil.copytree(folder / "predictions", to / "predictions")
    with h5py.File(to / "predictions" / "S1.h5ad", "r+") as file:
        change(file)
    return to


def _bad(spots: slice) -> Callable[[h5py.File], None]:
    """Marks spots as unreadable, as `predict` does, and takes their values away."""

    def change(file: h5py.File) -> None:
        bad = np.zeros(N_SPOTS, bool)
        bad[spots] = True
        write_elem(file["obs"], "bad_tile", bad)
        names = [*file["obs"].attrs["column-order"], "bad_tile"]
        file["obs"].attrs["column-order"] = np.array(names, dtype=object)
        for name in ("layers/composition", "obs/predicted_depth", "obsm/gene_sets"):
            values = file[name][()]
            values[bad] = np.nan
            file[name][...] = values

    return change


def test_a_spot_that_could_not_be_read_says_nothing_and_is_never_drawn(
    folder: Path, tmp_path: Path
) -> None:
    changed = _changed(folder, tmp_path, _bad(slice(5, 6)))
    read = _read(changed, _table(["well", "ill"] * 3), tmp_path)
    whole = _read(folder, _table(["well", "ill"] * 3), tmp_path)
    assert np.flatnonzero(~read.usable).tolist() == [N_SPOTS + 5]
    rest = np.delete(np.arange(N_SPOTS), 5)
    for name, write in (
        ("composition", lambda r, to: write_inputs(r, to, Silent())["composition"]),
        ("sets", write_sets),
    ):
        own, true = (write(r, tmp_path / name / k).read(1) for r, k in ((read, "a"), (whole, "b")))
        np.testing.assert_array_equal(own[rest], true[rest])
        np.testing.assert_allclose(own[5], true[rest].mean(axis=0), rtol=1e-5, atol=1e-6)
    assert np.isfinite(read.log_depth).all()


def test_a_slide_without_a_spot_that_could_be_read_is_left_out_and_named(
    folder: Path, tmp_path: Path
) -> None:
    changed = _changed(folder, tmp_path, _bad(slice(0, N_SPOTS)))
    read = _read(changed, _table(["well", "ill"] * 3), tmp_path)
    assert [b.section_id for b in read.bags] == ["S0", "S2", "S3", "S4", "S5"]
    assert "1 slide without a spot that could be read left out: S1." in read.notes
    for path in (changed / "predictions").glob("S[02345].h5ad"):
        path.unlink()
    with pytest.raises(ConfigError, match=r"expected slides with spots that could be read, found none in S1"):  # fmt: skip
        _read(changed, _table(["well", "ill"] * 3), tmp_path)


def test_predictions_of_two_models_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "predictions", tmp_path / "predictions")
    write_diagnoses(tmp_path, effect=3.0, first=4, n=2, model_id="another")
    with pytest.raises(ConfigError, match=r"expected predictions of one model, found 2: another, made"):  # fmt: skip
        _read(tmp_path, _table(["well", "ill"] * 3), tmp_path)


@pytest.mark.parametrize(
    ("option", "name", "match"),
    [
        ("--regions", "T1.geojson", "expected outlines such as .*S0.geojson, found none for any slide"),
        ("--slides", "T1.png", "expected slides named as their predictions (S0, S1, S2 and 3 more) in .*, found T1.png"),
    ],
)  # fmt: skip
def test_a_folder_of_other_slides_is_refused(
    folder: Path, tmp_path: Path, option: str, name: str, match: str
) -> None:
    (tmp_path / "other").mkdir()
    ring = [[0, 0], [1, 0], [1, 1], [0, 0]]
    outline = {"type": "Polygon", "coordinates": [ring]}
    (tmp_path / "other" / name).write_text(json.dumps(outline))
    said = refusal(command(
        "localize", folder, "--label", "diagnosis", "--clinical", folder / "clinical.csv", "--out", tmp_path / "out",
        option, tmp_path / "other",
    ))  # fmt: skip
    for part in match.split(".*"):
        assert part in said, said
    assert not (tmp_path / "out").exists()
