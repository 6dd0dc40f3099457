"""report.html in a real browser: the whole table of genes, maps that come closer together, values under the pointer."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.in_browser import IN_BROWSER, SIZES, watched
from helpers.toy_prediction import GENES, toy_extras, toy_prediction, toy_section
from helpers.toy_report import genes_csv, write_scored_run
from hespotex.report.report import write_report

pytestmark = IN_BROWSER

N = 66


def _many_genes() -> pd.DataFrame:
    """Six genes with maps and 60 without, G01 the best of them; every third is graded A."""
    table = genes_csv()
    more = table.iloc[[0] * 60].assign(gene=[f"G{i:02d}" for i in range(60)])
    more["pcc_composition"] = np.linspace(0.9, 0.7, 60)
    table = pd.concat([table, more], ignore_index=True)
    return table.assign(grade=(["A", "B", "D"] * 22))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_scored_run(tmp_path_factory.mktemp("browsed") / "run")
    _many_genes().to_csv(run.path / "genes.csv", index=False)
    return write_report(run)


@pytest.fixture(params=sorted(SIZES))
def page(request: pytest.FixtureRequest, browser: Any, report: Path) -> Iterator[Any]:
    """The report from the disk; it asks for nothing but itself."""
    with watched(browser, request.param, report.as_uri(), offline=True) as opened:
        opened.goto(report.as_uri())
        yield opened


def _names(page: Any) -> list[str]:
    found = page.eval_on_selector_all("#genes tbody tr", "all => all.map(r => r.cells[0].textContent)")  # fmt: skip
    return list(found)


def test_the_whole_table_is_there_page_by_page(page: Any) -> None:
    seen = _names(page)
    assert page.inner_text("#found") == f"{N} genes, 1 to 25 shown"
    for shown in ("26 to 50", "51 to 66"):
        page.click("#after")
        assert page.inner_text("#found") == f"{N} genes, {shown} shown"
        seen += _names(page)
    assert page.is_disabled("#after")
    assert sorted(seen) == sorted(_many_genes()["gene"])
    assert seen[:2] == ["G00", "G01"]


def test_text_and_grade_choose_and_the_csv_has_what_is_found(page: Any) -> None:
    page.fill("#search", "g0")
    page.select_option("#least", "A")
    graded = _many_genes().query("grade == 'A' and gene.str.startswith('G0')")["gene"].tolist()
    assert sorted(_names(page)) == graded
    page.select_option("#least", "B")
    with page.expect_download() as saved:
        page.click("#csv")
    table = pd.read_csv(io.StringIO(Path(saved.value.path()).read_text()))
    assert table["gene"].tolist() == _names(page)
    assert set(table["grade"]) == {"A", "B"}
    assert table["composition PCC"].is_monotonic_decreasing


def test_headings_sort_both_ways_and_say_so(page: Any) -> None:
    page.click("#genes th button >> text=gene")
    assert _names(page)[:2] == ["ACTB", "CD3E"]
    page.click("#genes th button >> text=gene")
    assert _names(page)[0] == "TUM-01"
    assert page.get_attribute("#genes th", "aria-sort") == "descending"
    page.click("#genes th button >> text=composition PCC")
    assert _names(page)[0] == "G00"


def test_arrows_walk_through_rows_and_pages_and_enter_opens_a_map(page: Any) -> None:
    page.focus("#genes tbody tr")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.cells[0].textContent") == "G01"
    page.keyboard.press("PageDown")
    assert page.evaluate("document.activeElement.cells[0].textContent") == "G25"
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.cells[0].textContent") == "G24"
    page.fill("#search", "hla")
    page.focus("#genes tbody tr")
    page.keyboard.press("Enter")
    assert page.inner_text("#said b").startswith("HLA-A")


def _shown(page: Any) -> list[str]:
    """Pictures of all maps, as text."""
    return list(page.eval_on_selector_all("canvas", "all => all.map(c => c.toDataURL())"))


def test_maps_come_closer_together_and_the_page_scrolls_as_ever(page: Any) -> None:
    whole = _shown(page)
    box = page.locator("#panels .view").nth(1)
    box.scroll_into_view_if_needed()
    place = box.bounding_box()
    page.mouse.move(place["x"] + 40, place["y"] + 90)
    page.mouse.wheel(0, -60)
    page.wait_for_timeout(100)
    assert _shown(page) == whole
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    page.wait_for_timeout(100)
    closer = _shown(page)
    assert all(a != b for a, b in zip(whole, closer, strict=True))
    box.focus()
    page.keyboard.press("0")
    assert _shown(page) == whole
    page.click("#closer")
    page.click("#whole")
    assert _shown(page) == whole


def test_the_pointer_tells_values_of_a_spot_and_what_is_flagged(page: Any) -> None:
    section = toy_section()
    flagged = np.flatnonzero(toy_extras(section).ood)
    gene = page.eval_on_selector("#gene", "s => s.selectedOptions[0].textContent")
    predicted = toy_prediction(section).composition[:, GENES.index(gene)]
    box = page.locator("#panels .view").nth(1)
    box.scroll_into_view_if_needed()
    at = page.evaluate(
        """() => { const s = JSON.parse(document.getElementById('data').textContent).sections[0];
        return [...new Uint16Array(Uint8Array.from(atob(s.xy), c => c.charCodeAt(0)).buffer)].map(v => v / 65535) }"""
    )
    for spot in (0, int(flagged[0])):
        place = box.bounding_box()
        page.mouse.move(place["x"] + at[2 * spot] * place["width"], place["y"] + at[2 * spot + 1] * place["height"])  # fmt: skip
        said = page.inner_text(".tip").replace("−", "-")
        value = float(said.split("predicted: ")[1].split()[0])
        assert value == pytest.approx(predicted[spot], abs=0.03)
        assert "unlike the training: " in said
        assert ("flagged: unlike" in said) == (spot in flagged)


def test_genes_stand_beside_one_another_until_taken_away(page: Any) -> None:
    before = len(_shown(page))
    page.click("#keep")
    page.select_option("#gene", label="HLA-A")
    page.click("#keep")
    kept = page.eval_on_selector_all("#beside .example b:first-child", "all => all.map(b => b.textContent)")  # fmt: skip
    assert [text.split(" ")[0] for text in kept if "(" in text][-1] == "HLA-A"
    assert len(_shown(page)) == before + 4
    page.click("#beside button >> nth=0")
    assert len(_shown(page)) == before + 2


def test_nothing_is_wider_than_the_window(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
