"""Numbers of domains: as many as have a spot, the same in the table, the files, the page and the legend."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
from benchmarks.made_predictions import write_made_prediction

from hespotex.analysis.domain_files import stability_table, write_domains
from hespotex.analysis.domain_fit import Stability, by_size
from hespotex.analysis.domain_models import matched
from hespotex.analysis.domains import DomainOptions, Domains, find_domains, summary
from hespotex.plots.domain_colours import colour_of
from hespotex.report.domains_page import _columns, write_pages


def made(folder: Path, name: str = "a", **more: object) -> Path:
    return write_made_prediction(
        folder / f"{name}.h5ad", level=np.zeros(30), section_id=name, patient_id=name,
        genes=[f"G{j}" for j in range(30)], side=6, seed=1, **more,
    )  # fmt: skip


@pytest.fixture
def gap(tmp_path: Path) -> Domains:
    """Two domains, D1 and D3, of a rule that took 2."""
    found = find_domains([made(tmp_path)], tmp_path / "out", DomainOptions(n=2))
    labels = {"composition": {"a": np.repeat(np.array([0, 2], np.int32), 18)}}
    tried = {"composition": [Stability(2, (0.9,)), Stability(3, (0.5,))]}
    return Domains(found.files, labels, found.scores, found.markers, tried, {}, (), found.options)


def test_a_number_without_a_spot_is_no_domain_anywhere(gap: Domains, tmp_path: Path) -> None:
    assert gap.n_domains("composition") == 2
    assert "composition: 2 domains on 36 spots" in summary(gap)[0]
    table = anndata.read_h5ad(write_domains(gap, tmp_path / "o")["sections"] / "a.h5ad")
    assert table.uns["hespotex"]["domains"]["n"]["composition"] == 2
    assert table.obs["domain_composition"].cat.categories.tolist() == ["D1", "D3"]
    assert list(table.uns["domain_composition_colors"]) == [colour_of(0), colour_of(2)]
    assert list(_columns(gap)[0].names.items()) == [(0, "D1"), (2, "D3")]


def test_the_number_that_is_marked_is_the_one_that_the_rule_took(gap: Domains) -> None:
    labels = {
        "composition": {"a": np.arange(36, dtype=np.int32) % 3}
    }  # a name more, as of two models
    more = Domains(gap.files, labels, gap.scores, gap.markers, gap.stability, {}, (), gap.options)
    for found in (gap, more):
        assert stability_table(found)["chosen"].tolist() == [True, False]


def test_domains_that_match_none_take_the_lowest_free_numbers() -> None:
    first = {"A": np.array([0, 0, 1, 1, 2, 3, 4, -1, -1], np.int32)}
    second = {"A": np.array([5, 5, 0, 0, 0, 0, 0, 3, 4], np.int32)}
    assert matched(second, first)["A"].tolist() == [0, 0, 1, 1, 1, 1, 1, 2, 3]


def test_sizes_leave_no_gap_where_a_domain_shaped_nothing() -> None:
    labels = {
        "A": np.array([0, 0, 3, 3, 3, 1], np.int32)
    }  # 2 has no spot, 1 has one that shaped none
    found, _ = by_size(labels, {"A": np.arange(5)})
    assert found["A"].tolist() == [1, 1, 0, 0, 0, 2]


def test_a_second_call_into_a_folder_leaves_nothing_of_the_first_and_all_of_others(
    tmp_path: Path,
) -> None:
    out, files = tmp_path / "o", [made(tmp_path, name) for name in "abcde"]
    options = DomainOptions(n=2)
    first = find_domains(files, out, options)
    first.stability["composition"].append(Stability(2, (0.9,)))  # type: ignore[attr-defined]
    write_domains(first, out)
    write_pages(first, out)
    others = [
        out / "notes.txt",
        out / "geojson" / "mine_measured.geojson",
        out / "sections" / "z.h5ad",
    ]
    for path in others:
        path.write_text("mine", encoding="utf-8")
    before = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert {"stability.csv", "figures/overview_2.png", "sections/e.h5ad"} <= before
    second = find_domains(files[:1], out, options)
    write_domains(second, out)
    write_pages(second, out)
    after = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert after == {
        *(str(p.relative_to(out)) for p in others),
        *("domains.csv", "scores.csv", "markers.csv", "domains.html", "figures/overview.png"),
        *("sections/a.h5ad", "geojson/a_composition.geojson"),
    }
