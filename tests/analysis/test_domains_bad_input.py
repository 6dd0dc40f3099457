"""What people bring to `domains`: scales that are off, a fold, one spot, sections that do not meet, labels that are not there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import read_elem, write_elem
from benchmarks.made_predictions import write_made_prediction
from sklearn.metrics import adjusted_rand_score

from helpers.commands import command, refusal
from helpers.sliced_predictions import slices_plan, write_slices
from hespotex.analysis.domain_fit import Reduced, stability
from hespotex.analysis.domains import MOST_SEED, DomainOptions, Domains, find_domains
from hespotex.errors import ConfigError, GeometryError
from hespotex.geometry import Affine, CommonFrame, SectionFrame, read_frames, write_frames

OPTIONS = DomainOptions(n=4, sources=("composition",))


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slices")
    write_slices(folder, slices_plan(n=2))
    return folder


def labels_of(found: Domains, name: str) -> np.ndarray:
    return found.labels["composition"][name]


def test_values_of_a_flagged_fold_line_move_no_domain_elsewhere(tmp_path: Path) -> None:
    """A fold that is not flagged takes a domain for itself."""
    folder, options = tmp_path / "run", DomainOptions(n=3, sources=("composition",))
    write_slices(folder, slices_plan())
    path = folder / "predictions" / "P1S1.h5ad"
    with h5py.File(path, "r+") as file:
        x = np.asarray(file["obsm/spatial"][:, 0])
        fold = np.abs(x - np.median(x)) < 0.03 * np.ptp(x)
        write_elem(file, "obs", read_elem(file["obs"]).assign(ood=fold))
    flat = find_domains([folder], tmp_path / "out", options)
    with h5py.File(path, "r+") as file:
        table = file["layers/composition"]
        table[...] = np.asarray(table) + 3.0 * fold[:, None] * np.sin(np.arange(table.shape[1]))
    folded = find_domains([folder], tmp_path / "out", options)
    far = np.abs(x - np.median(x)) > 0.15 * np.ptp(x)
    assert 5 <= fold.sum() < 0.15 * len(x)
    assert adjusted_rand_score(labels_of(flat, "P1S1")[far], labels_of(folded, "P1S1")[far]) > 0.95
    assert adjusted_rand_score(labels_of(flat, "P1S2"), labels_of(folded, "P1S2")) > 0.95
    assert (labels_of(folded, "P1S1")[fold] >= 0).all()  # a domain, and the mark beside it


def test_registered_sections_that_do_not_meet_leave_the_other_scores_as_they_are(
    slices: Path, tmp_path: Path
) -> None:
    agreed = shutil.copytree(slices / "agreed", tmp_path / "agreed")
    frames = read_frames(agreed / "frames.json")
    far = Affine.of(np.eye(2), (1e6, 0.0)) @ frames["P1S2"].to_common
    moved = {**frames.sections, "P1S2": SectionFrame(frames["P1S2"].mpp, far)}
    write_frames(agreed / "frames.json", CommonFrame(moved))
    options = DomainOptions(n=4, sources=("composition",), agree=agreed)
    table = find_domains([slices], tmp_path / "out", options).scores.set_index("compared")
    row = table.loc["P1S1 and P1S2 laid on one another: they do not overlap"]
    assert row["n_spots"] == 0
    assert np.isnan(row["ari"])
    assert (table.loc["labels: layer", "ari"] > 0.4).all()
    said = command(
        "domains", slices, "--out", tmp_path / "o", "--n", 4, "--from", "composition", "--agree", agreed,
    )  # fmt: skip
    assert said.exit_code == 0
    assert "they do not overlap" in " ".join(said.stdout.split())
    page = (tmp_path / "o" / "domains.html").read_text(encoding="utf-8")
    assert "they do not overlap" in page


def test_a_section_of_one_spot_stays_without_a_domain_and_alone_it_is_refused(
    slices: Path, tmp_path: Path
) -> None:
    genes = [f"G{j:02d}" for j in range(60)]
    one = write_made_prediction(
        tmp_path / "one.h5ad", level=np.zeros(60), section_id="one", patient_id="P", genes=genes, side=1
    )  # fmt: skip
    said = command(
        "domains", slices, one, "--out", tmp_path / "o", "--n", 3, "--from", "composition"
    )
    assert said.exit_code == 0
    assert "fewer than 10 spots, kept without a domain: one" in " ".join(said.output.split())
    table = pd.read_csv(tmp_path / "o" / "domains.csv").set_index("section_id")
    assert pd.isna(table.loc["one", "domain_composition"])
    line = refusal(command("domains", one, "--out", tmp_path / "p"))
    assert line == (
        "hespotex: expected a section of at least 10 spots, found at most 1; domains need more"
    )
    assert not (tmp_path / "p").exists()


def test_labels_that_are_not_there_are_named_and_those_that_are_there_pass(
    slices: Path, tmp_path: Path
) -> None:
    arguments = ("domains", slices, "--n", 3, "--from", "composition", "--labels")
    line = refusal(command(*arguments, "stage", "--out", tmp_path / "o"))
    assert "expected a column of labels of the predictions (layer, slice), found stage" in line
    assert not (tmp_path / "o").exists()
    assert command(*arguments, "layer", "--out", tmp_path / "o").exit_code == 0


def test_a_section_of_another_scale_is_said_and_keeps_its_domains(
    slices: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(slices, tmp_path / "run")
    with h5py.File(folder / "predictions" / "P1S2.h5ad", "r+") as file:
        file["uns/hespotex/mpp"][()] = 2 * file["uns/hespotex/mpp"][()]
    found = find_domains([folder], tmp_path / "out", OPTIONS)
    assert [n for n in found.notes if n.startswith("P1S2: its spots lie ")]
    assert not [n for n in found.notes if n.startswith("P1S1: its spots")]
    assert (labels_of(found, "P1S2") >= 0).all()


def test_no_unflagged_spot_depends_on_what_is_predicted_at_flagged_ones(tmp_path: Path) -> None:
    folder, options = tmp_path / "run", DomainOptions(n=3, sources=("composition",))
    write_slices(folder, slices_plan(n=2))
    path = folder / "predictions" / "P1S1.h5ad"
    with h5py.File(path, "r+") as file:
        flagged = np.random.default_rng(0).random(len(file["obsm/spatial"])) < 0.3
        write_elem(file, "obs", read_elem(file["obs"]).assign(ood=flagged))
    before = find_domains([folder], tmp_path / "out", options)
    with h5py.File(path, "r+") as file:
        file["layers/composition"][flagged] = file["layers/composition"][flagged][::-1] + 2.0
    after = find_domains([folder], tmp_path / "out", options)
    np.testing.assert_array_equal(
        labels_of(before, "P1S1")[~flagged], labels_of(after, "P1S1")[~flagged]
    )
    np.testing.assert_array_equal(labels_of(before, "P1S2"), labels_of(after, "P1S2"))


def test_a_section_whose_every_spot_is_flagged_is_said_and_one_with_a_few_is_not(
    slices: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(slices, tmp_path / "run")
    for name, share in (("P1S1", 0.1), ("P1S2", 1.0)):
        with h5py.File(folder / "predictions" / f"{name}.h5ad", "r+") as file:
            obs = read_elem(file["obs"])
            write_elem(file, "obs", obs.assign(ood=np.arange(len(obs)) < share * len(obs)))
    found = find_domains([folder], tmp_path / "out", OPTIONS)
    said = [n for n in found.notes if n.startswith("every spot is flagged: ")]
    assert len(said) == 1
    assert said[0].startswith(
        "every spot is flagged: P1S2; their spots got domains and shaped none"
    )


def test_frames_of_another_scale_are_refused_and_those_of_a_rounded_one_pass(
    slices: Path, tmp_path: Path
) -> None:
    agreed = shutil.copytree(slices / "agreed", tmp_path / "agreed")
    frames = read_frames(agreed / "frames.json")
    options = DomainOptions(n=4, sources=("composition",), agree=agreed)
    mpp = frames["P1S2"].mpp
    for factor, passes in ((1.005, True), (0.5, False)):
        moved = SectionFrame(factor * mpp, frames["P1S2"].to_common)
        write_frames(agreed / "frames.json", CommonFrame({**frames.sections, "P1S2": moved}))
        if passes:
            assert find_domains([slices], tmp_path / "out", options).scores["ari"].notna().any()
            continue
        match = rf"{mpp:g} um per pixel of P1S2, .* in .*frames.json, found {mpp / 2:g}"
        with pytest.raises(GeometryError, match=match):
            find_domains([slices], tmp_path / "out", options)


def test_predictions_and_sections_of_agree_are_never_written_over(
    slices: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(slices / "predictions", out / "sections")
    shutil.copy(slices / "agreed" / "frames.json", out)
    shutil.copy(slices / "agreed" / "pairs.csv", out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    own = ("domains", out / "sections", "--n", 3, "--from", "composition")
    beside = ("domains", slices, "--n", 3, "--from", "composition", "--agree", out)
    for arguments in (own, beside):
        line = refusal(command(*arguments, "--out", out))
        assert f"another place than that of the input {out / 'sections'}" in line
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
        assert command(*arguments, "--out", tmp_path / "other").exit_code == 0


def test_a_section_whose_name_leads_elsewhere_is_written_inside_the_folder(
    slices: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(slices, tmp_path / "run")
    with h5py.File(folder / "predictions" / "P1S2.h5ad", "r+") as file:
        write_elem(file, "uns/hespotex/section_id", "../../P1S2")
        obs = read_elem(file["obs"])
        write_elem(file, "obs", obs.assign(section_id="../../P1S2"))
    assert (
        command("domains", folder, "--n", 3, "--from", "composition", "--out", tmp_path / "o" / "o").exit_code
        == 0
    )  # fmt: skip
    assert len(list((tmp_path / "o" / "o" / "sections").iterdir())) == 2
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["o"]


def test_pairs_without_frames_are_said_to_be_so(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_slices(folder, slices_plan(n=3))
    frames = read_frames(folder / "agreed" / "frames.json")
    options = DomainOptions(n=4, sources=("composition",), agree=folder / "agreed")
    for left in ("P1S1", "P1S2"):
        kept = {n: f for n, f in frames.sections.items() if n != left}
        write_frames(folder / "agreed" / "frames.json", CommonFrame(kept))
        if left == "P1S1":
            table = find_domains([folder], tmp_path / "out", options).scores.set_index("compared")
            assert table.loc["P1S1 and P1S2: no frame in frames.json", "n_spots"] == 0
            assert table.loc["P1S2 and P1S3 laid on one another", "ari"] > 0.4
            continue
        match = (
            r"frames of both sections of a pair \(P1S1:P1S2, P1S2:P1S3\) in .*, found P1S1, P1S3; "
        )
        with pytest.raises(GeometryError, match=match):
            find_domains([folder], tmp_path / "out", options)


def test_the_last_seed_reaches_the_last_fit_and_one_more_is_refused_in_a_line(
    slices: Path, tmp_path: Path
) -> None:
    points = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    reduced = Reduced({"a": points}, {"a": np.arange(40)})
    assert len(stability(reduced, [2], MOST_SEED)[0].ari) == 10  # to MOST_SEED + 19
    arguments = ("domains", slices, "--out", tmp_path / "o", "--n", 3, "--seed")
    line = refusal(command(*arguments, MOST_SEED + 1))
    assert line == f"hespotex: expected --seed of 0 to {MOST_SEED}, found {MOST_SEED + 1}"
    assert not (tmp_path / "o").exists()


def test_a_smoothing_that_leaves_one_value_a_section_is_refused_and_a_long_one_passes(
    slices: Path, tmp_path: Path
) -> None:
    arguments = ("domains", slices, "--n", 3, "--from", "composition", "--smooth")
    line = refusal(command(*arguments, 1e6, "--out", tmp_path / "o"))
    assert "expected --smooth shorter than the sections, found 1e+06 um; spots of a" in line
    assert not list(tmp_path.glob("o/*"))
    assert command(*arguments, 400, "--out", tmp_path / "o").exit_code == 0


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (lambda n: np.linspace(0.0, 1.0, n), "numbers with fractions"),
        (lambda n: np.arange(n) % 51, "51 numbers"),
        (lambda n: np.arange(n) % 5, None),
    ],
)
def test_a_column_of_measurements_holds_no_labels_and_one_of_clusters_does(
    slices: Path, tmp_path: Path, values: Callable[[int], np.ndarray], found: str | None
) -> None:
    folder = shutil.copytree(slices, tmp_path / "run")
    for path in (folder / "predictions").glob("*.h5ad"):
        with h5py.File(path, "r+") as file:
            obs = read_elem(file["obs"])
            write_elem(file, "obs", obs.assign(own=values(len(obs))))
    options = DomainOptions(n=3, sources=("composition",), labels=("own",))
    if found is None:
        table = find_domains([folder], tmp_path / "out", options).scores
        assert (table["n_classes"] == 5).all()
        return
    match = f"labels in column own: words, or at most 50 whole numbers, found {found}"
    with pytest.raises(ConfigError, match=match):
        find_domains([folder], tmp_path / "out", options)
