"""Domains over all sections: the truth of painted slices, the same meaning on each, files, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import anndata
import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from benchmarks.made_predictions import write_made_prediction
from sklearn.metrics import adjusted_rand_score

from helpers.commands import command, refusal
from helpers.sliced_predictions import slices_plan, write_slices
from hespotex.analysis.domain_files import spot_table, write_domains
from hespotex.analysis.domain_fit import Stability, chosen
from hespotex.analysis.domain_models import matched
from hespotex.analysis.domains import DomainOptions, Domains, find_domains, summary
from hespotex.analysis.regions import read_regions
from hespotex.errors import ConfigError, GenePanelError, GeometryError, RunError
from hespotex.report.domains_page import write_pages

GENES = [f"G{j}" for j in range(30)]
Tissues = dict[str, npt.NDArray[np.object_]]


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tissues]:
    folder = tmp_path_factory.mktemp("slices")
    return folder, write_slices(folder, slices_plan())


@pytest.fixture(scope="module")
def four(slices: tuple[Path, Tissues]) -> Domains:
    folder = slices[0]
    return find_domains([folder], folder / "out", DomainOptions(n=4, agree=folder / "agreed"))


def made(folder: Path, name: str, side: int = 6, **more: object) -> Path:
    genes = more.pop("genes", GENES)
    return write_made_prediction(
        folder / f"{name}.h5ad",
        level=np.zeros(len(genes)),  # type: ignore[arg-type]
        section_id=name,
        patient_id=name,
        genes=genes,  # type: ignore[arg-type]
        side=side,
        **more,
    )


def test_tissues_of_painted_slices_are_found_and_mean_the_same_on_slides_with_levels_of_their_own(
    slices: tuple[Path, Tissues], four: Domains
) -> None:
    for source in ("composition", "measured"):
        of = four.labels[source]
        tissue = np.concatenate([slices[1][name] for name in of])
        domain = np.concatenate(list(of.values()))
        assert adjusted_rand_score(tissue, domain) > 0.55
        meant = [pd.crosstab(of[name], slices[1][name]).idxmax(axis=1).tolist() for name in of]
        assert meant[0] == meant[1] == meant[2]  # each number stands for one tissue


def test_scores_are_those_of_scikit_learn_over_labels_and_over_registered_sections(
    slices: tuple[Path, Tissues], four: Domains
) -> None:
    table = four.scores
    row = table[(table["compared"] == "labels: layer") & (table["section"] == "P1S2")].iloc[0]
    expected = adjusted_rand_score(slices[1]["P1S2"], four.labels["composition"]["P1S2"])
    assert row["ari"] == pytest.approx(expected)
    assert set(table["compared"]) == {
        "labels: layer",  # and not `slice`, which is one word on a whole section
        "domains of measured",
        "P1S1 and P1S2 laid on one another",
        "P1S2 and P1S3 laid on one another",
    }
    laid = table[table["compared"].str.endswith("one another")]
    assert (laid["ari"] > 0.4).all()
    assert (laid["n_spots"] > 100).all()


def test_levels_that_are_kept_divide_slides_and_not_tissues(
    slices: tuple[Path, Tissues], four: Domains
) -> None:
    kept = find_domains(
        [slices[0]],
        slices[0] / "out",
        DomainOptions(sources=("composition",), n=3, keep_levels=True),
    )
    majority = [np.bincount(v).argmax() for v in kept.labels["composition"].values()]
    assert len(set(majority)) == 3


def test_neither_another_call_nor_another_order_of_files_changes_a_domain(
    slices: tuple[Path, Tissues], four: Domains
) -> None:
    paths = sorted((slices[0] / "predictions").glob("*.h5ad"))
    options = DomainOptions(n=4, sources=("composition",))
    for given in (paths, paths[::-1]):
        again = find_domains(given, slices[0] / "out", options)
        for name, of in again.labels["composition"].items():
            np.testing.assert_array_equal(of, four.labels["composition"][name])


def test_files_carry_domains_labels_and_grades(four: Domains, tmp_path: Path) -> None:
    paths = write_domains(four, tmp_path)
    spots = pd.read_csv(paths["domains"])
    assert len(spots) == sum(f.n_spots for f in four.files.values())
    assert set(spots["domain_composition"]) == {"D1", "D2", "D3", "D4"}
    table = anndata.read_h5ad(paths["sections"] / "P1S2.h5ad")
    own = spots[spots["section_id"] == "P1S2"]
    assert table.obs["domain_measured"].tolist() == own["domain_measured"].tolist()
    assert table.obs["layer"].tolist() == own["label_layer"].tolist()
    assert len(table.uns["domain_composition_colors"]) == 4
    assert "by construction" in table.uns["hespotex"]["domains"]["note"]
    original = anndata.read_h5ad(four.files["P1S2"].path)
    np.testing.assert_array_equal(table.X, original.X)
    assert "domain_measured" not in original.obs


def test_the_page_and_outlines_show_the_domains_that_the_table_has(
    four: Domains, tmp_path: Path
) -> None:
    paths = write_pages(four, tmp_path)
    page = paths["report"].read_text(encoding="utf-8")
    assert "large by construction" in page
    assert page.count("data:image/png;base64,") == 1
    regions = read_regions(paths["QuPath"] / "P1S2_composition.geojson")
    spots = four.files["P1S2"].spots
    for region in regions:
        inside = region.contains(spots.xy_px0)
        expected = four.labels["composition"]["P1S2"] == int(region.name[1:]) - 1
        np.testing.assert_array_equal(inside, expected)


def test_markers_are_the_genes_that_a_domain_has_more_of_with_what_is_claimed_of_them(
    four: Domains,
) -> None:
    table = four.markers
    assert (table["effect"] > 0).all()
    assert set(table["grade"]) == {"ungraded"}
    assert set(table["evidence"]) == {"untested"}
    first = table[(table["source"] == "composition") & (table["domain"] == "D1")].iloc[0]
    inside, rest = [], []
    for name, file in four.files.items():
        values = file.read([first["gene"]]).composition[:, 0]
        mask = four.labels["composition"][name] == 0
        inside.append(values[mask].mean())
        rest.append(values[~mask].mean())
    assert first["difference"] == pytest.approx(np.mean(np.subtract(inside, rest)), abs=1e-4)
    assert first["n_sections"] == first["n_same_sign"] == 3
    top = table[table["source"] == "composition"].groupby("domain").head(5)
    assert (top["measured_difference"] > 0).mean() > 0.9  # counts follow the same truth


def test_the_number_is_the_largest_that_is_nearly_as_stable_as_the_best() -> None:
    tried = [Stability(k, (ari,)) for k, ari in ((2, 0.9), (3, 0.95), (4, 0.91), (5, 0.89))]
    assert chosen(tried) == 4


@pytest.mark.slow
def test_a_number_that_is_not_given_is_chosen_and_said(slices: tuple[Path, Tissues]) -> None:
    found = find_domains([slices[0]], slices[0] / "out", DomainOptions(sources=("measured",)))
    assert 3 <= found.n_domains("measured") <= 6
    assert "number by stability (ARI of two fits on parts 0." in summary(found)[0]


def test_domains_of_another_source_take_the_numbers_of_those_they_cover() -> None:
    first = {"A": np.array([0, 0, 0, 1, 1, 2], np.int32)}
    second = {"A": np.array([2, 2, 2, 0, 0, -1], np.int32), "B": np.array([1], np.int32)}
    found = matched(second, first)
    assert found["A"].tolist() == [0, 0, 0, 1, 1, -1]
    assert found["B"].tolist() == [2]


@pytest.mark.slow
def test_leiden_communities_find_the_tissues_too(slices: tuple[Path, Tissues]) -> None:
    options = DomainOptions(sources=("measured",), resolution=0.5)
    found = find_domains([slices[0]], slices[0] / "out", options)
    of = found.labels["measured"]
    tissue = np.concatenate([slices[1][name] for name in of])
    assert adjusted_rand_score(tissue, np.concatenate(list(of.values()))) > 0.4
    with pytest.raises(ConfigError, match=r"at most 24 domains, found .*; lower --resolution"):
        find_domains([slices[0]], slices[0] / "out", DomainOptions(resolution=80.0))


def test_unlike_slides_small_sections_and_missing_labels_are_kept_and_said(tmp_path: Path) -> None:
    files = [
        made(tmp_path, "like", seed=1, verdict="like the training slides"),
        made(tmp_path, "odd", seed=2, verdict="unlike: 90 % of the spots", flagged=36),
        made(tmp_path, "one", side=1, seed=3),
    ]
    found = find_domains(files, tmp_path / "out", DomainOptions(n=3))
    assert any(n.startswith("unlike the training slides: odd;") for n in found.notes)
    assert any("fewer than 10 spots, kept without a domain: one" in n for n in found.notes)
    assert any("no labels in the predictions" in n for n in found.notes)
    assert (found.labels["composition"]["odd"] >= 0).all()
    assert spot_table(found, "one")["domain_composition"].tolist() == [""]
    assert spot_table(found, "odd")["flagged"].all()
    alone = find_domains(files[:1], tmp_path / "out", DomainOptions(n=3))
    shaped = adjusted_rand_score(
        alone.labels["composition"]["like"], found.labels["composition"]["like"]
    )
    assert shaped == pytest.approx(1.0)  # the unlike slide shaped nothing


def test_values_of_a_slide_that_is_unlike_change_no_domain_of_another(tmp_path: Path) -> None:
    first = made(tmp_path, "a", seed=1)
    odd = made(tmp_path, "b", seed=2, verdict="unlike: all", flagged=36)
    before = find_domains([first, odd], tmp_path / "out", DomainOptions(n=3))
    with h5py.File(odd, "r+") as file:
        file["layers/composition"][...] = (
            np.random.default_rng(0)
            .permutation(file["layers/composition"][...].ravel())
            .reshape(file["layers/composition"].shape)
        )
    after = find_domains([first, odd], tmp_path / "out", DomainOptions(n=3))
    np.testing.assert_array_equal(
        before.labels["composition"]["a"], after.labels["composition"]["a"]
    )


def test_spots_without_values_have_no_domain(tmp_path: Path) -> None:
    path = made(tmp_path, "a", seed=1)
    with h5py.File(path, "r+") as file:
        file["layers/composition"][3] = np.nan
    found = find_domains([path], tmp_path / "out", DomainOptions(n=3))
    assert np.flatnonzero(found.labels["composition"]["a"] < 0).tolist() == [3]
    assert np.isfinite(found.markers["difference"]).all()


def test_genes_that_differ_between_files_are_those_in_common_or_too_few(tmp_path: Path) -> None:
    first = made(tmp_path, "a", seed=1)
    shared = made(tmp_path, "b", seed=2, genes=[f"G{j}" for j in range(15, 45)])
    found = find_domains([first, shared], tmp_path / "out", DomainOptions(n=2))
    assert set(found.markers["gene"]) <= {f"G{j}" for j in range(15, 30)}
    other = made(tmp_path, "c", seed=2, genes=[f"G{j}" for j in range(25, 55)])
    with pytest.raises(GenePanelError, match=r"10 genes that all 2 predictions hold, found 5"):
        find_domains([first, other], tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n": 1}, "--n of 2 to 24 domains, found 1"),
        ({"n": 30}, "--n of 2 to 24 domains, found 30"),
        ({"n": 3, "resolution": 1.0}, "--n or --resolution, found both"),
        ({"resolution": 0.0}, "--resolution above 0"),
        ({"length_um": -1.0}, "--smooth of 0, or of 1 um or more, found -1"),
        ({"sources": ("colour",)}, "--from with some of composition, features, measured, found colour"),
        ({"sources": ("features",)}, "--manifest with the slides"),
        ({"labels": ()}, "--labels with names of columns, found none"),
        ({"seed": 2**32 - 1}, r"--seed of 0 to 4294967275, found 4294967295"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_named(options: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        DomainOptions(**options)  # type: ignore[arg-type]


def test_inputs_that_hold_too_little_are_refused(tmp_path: Path) -> None:
    small, tiny = made(tmp_path, "a", side=4), made(tmp_path, "b", side=1)
    with pytest.raises(ConfigError, match=r"at least as many spots .* \(20\), found 16"):
        find_domains([small], tmp_path / "out", DomainOptions(n=20))
    with pytest.raises(ConfigError, match=r"a section of at least 10 spots, found at most 1"):
        find_domains([tiny], tmp_path / "out")
    with pytest.raises(ConfigError, match=r"measured counts beside them, found none"):
        find_domains([small], tmp_path / "out", DomainOptions(sources=("measured",)))
    with pytest.raises(RunError, match=r"every section once, found a in"):
        find_domains([small, made(tmp_path / "more", "a")], tmp_path / "out")
    with pytest.raises(ConfigError, match=r"a column of labels .*\(they have none\), found layer"):
        find_domains([small], tmp_path / "out", DomainOptions(labels=("layer",)))


def test_a_folder_of_agree_without_these_sections_is_refused(
    slices: tuple[Path, Tissues], tmp_path: Path
) -> None:
    path = made(tmp_path, "a")
    options = DomainOptions(n=2, agree=slices[0] / "agreed")
    with pytest.raises(GeometryError, match=r"pairs of these sections in .* found P1S1:P1S2"):
        find_domains([path], tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_was_found_and_refuses_in_one_line(
    slices: tuple[Path, Tissues], tmp_path: Path
) -> None:
    said = command("domains", slices[0], "--out", tmp_path / "o", "--n", 4, "--from", "composition")
    assert said.exit_code == 0, said.output
    assert re.search(r"composition: 4 domains on \d+ spots of 3 sections", said.stdout)
    assert "labels: layer" in said.stdout
    assert (tmp_path / "o" / "domains.csv").exists()
    line = refusal(command("domains", slices[0], "--out", tmp_path / "p", "--n", 1))
    assert line == "hespotex: expected --n of 2 to 24 domains, found 1"
    assert not (tmp_path / "p").exists()
