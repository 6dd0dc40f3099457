"""What is claimed stands in every file and picture: the sentence first, words and numbers of each gene; on a slide that is
unlike the training no letter anywhere."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest
import tifffile
from pyarrow import parquet

from helpers.drawn import words
from helpers.made_claims import claims_of
from helpers.toy_prediction import (
    GENES,
    GRADES,
    toy_extras,
    toy_prediction,
    toy_section,
    toy_thumbnail,
)
from helpers.toy_report import data_of, page_of
from hespotex import keys
from hespotex.evaluation.claims import WITHIN, Claims
from hespotex.export.claim_words import best_first, flagged_text, long, mark, short
from hespotex.export.geojson import write_geojson
from hespotex.export.h5ad import StoredPrediction, read_prediction, write_prediction
from hespotex.export.pyramid import write_ome_tiff
from hespotex.export.spatialdata import write_spatialdata
from hespotex.export.tables import write_parquet
from hespotex.plots.gene_pictures import plot_gene, write_gene_pictures
from hespotex.plots.overview import plot_overview
from hespotex.progress import Silent
from hespotex.results.announce import say_verdict
from hespotex.storage.run_folder import RunDir

OLD = Path(__file__).parents[1] / "stored" / "tiny-0.1.0.h5ad"
UNLIKE = "unlike: tissue"
_LETTER = re.compile(
    r"grade[sd]? [ABCD]\b|\b\d+ [ABCD]\b(?! held)|\(([ABCD])\)|[\">] ?[ABCD] ?[\"<]"
)


def _write(folder: Path, claims: Claims, name: str = "S1") -> StoredPrediction:
    section = replace(toy_section(), section_id=name)
    verdict = claims.verdict or "like the training slides"
    write_prediction(
        folder / f"{name}.h5ad",
        section=section,
        genes=GENES,
        prediction=toy_prediction(section),
        thumbnail=toy_thumbnail(section),
        provenance={keys.OOD_VERDICT: verdict, "model_id": "abc123"},
        extras=replace(toy_extras(section), claims=claims, verdict=verdict),
    )
    return read_prediction(folder / f"{name}.h5ad")


def _files(folder: Path, stored: StoredPrediction) -> dict[str, str]:
    """Everything that a tool or a reader may see of each file, as text."""
    write_geojson(folder / "a.geojson", stored)
    write_parquet(folder / "a.parquet", stored)
    write_ome_tiff(folder / "a.ome.tif", stored)
    write_spatialdata(folder / "a.zarr", stored)
    write_gene_pictures(folder / "a.pictures", stored)
    with tifffile.TiffFile(folder / "a.ome.tif") as file:
        maps = file.ome_metadata or ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import spatialdata

        table = spatialdata.read_zarr(folder / "a.zarr").tables["hespotex_spots"]
    h5ad = anndata.read_h5ad(folder / f"{stored.section_id}.h5ad")
    run = RunDir(folder / "run")
    run.predictions.mkdir(parents=True)
    (folder / f"{stored.section_id}.h5ad").rename(run.predictions / f"{stored.section_id}.h5ad")
    run.finish({"verb": "predict"}, {})
    return {
        "geojson": (folder / "a.geojson").read_text(),
        "parquet": parquet.read_table(folder / "a.parquet").schema.metadata[b"hespotex"].decode(),
        "ome-tiff": maps,
        "spatialdata": f"{table.var.to_string()} {table.uns['hespotex']}",
        "h5ad": f"{h5ad.var.to_string()} {h5ad.uns['hespotex']}",
        "file names": " ".join(p.name for p in (folder / "a.pictures").iterdir()),
        "overview": words(plot_overview(stored, list(stored.genes[:3]))),
        **{f"picture of {g}": words(plot_gene(stored, j)) for j, g in enumerate(stored.genes)},
        "report": page_of(run),
    }


# SpatialData and its dependencies announce changes on every write.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_slide_that_is_unlike_has_no_letter_in_any_file_or_picture(tmp_path: Path) -> None:
    stored = _write(tmp_path, claims_of(GRADES, verdict=UNLIKE))
    files = _files(tmp_path, stored)
    said = "the model's grades do not hold on it, and nothing is claimed of its 6 genes"
    for name, text in files.items():
        body = text.split("<script>")[0]  # of the page: its program names no gene
        assert _LETTER.search(body) is None, (name, _LETTER.search(body))
        assert said in text.replace("&#39;", "'") or name == "file names", name
    assert "untested" in files["file names"]
    assert "ACTB: predicted composition, untested" in files["picture of ACTB"]
    grades = {c["label"] for c in data_of(files["report"])["genes"]["columns"]}
    assert "grade" not in grades


@pytest.fixture(scope="module")
def like_training(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[StoredPrediction, dict[str, str]]:
    """A slide on which the grades hold, and all files of it."""
    folder = tmp_path_factory.mktemp("like")
    stored = _write(folder, claims_of(GRADES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return stored, _files(folder, stored)


@pytest.mark.slow
def test_the_same_slide_like_the_training_has_its_letters_everywhere(
    like_training: tuple[StoredPrediction, dict[str, str]],
) -> None:
    """So that the test above can fail."""
    for name, text in like_training[1].items():
        hit = _LETTER.search(text.split("<script>")[0]) or '"A"' in text or " A " in text
        assert hit or name in {"file names"} or "not shown" in text, name


@pytest.mark.slow
def test_files_carry_words_and_numbers_of_each_gene(
    like_training: tuple[StoredPrediction, dict[str, str]],
) -> None:
    stored, files = like_training
    expected = {
        "grade": "B", "evidence": "predicted", "scope": "between_patients", "n_patients": 2, "n_sections": 3,
        "score": pytest.approx(0.49), "q_value": pytest.approx(0.002), "ceiling_share": pytest.approx(0.79),
    }  # fmt: skip
    about = [json.loads(files["geojson"])["hespotex"], json.loads(files["parquet"])]
    about.append(json.loads(re.findall(r"\{.*\}", files["ome-tiff"].replace("&quot;", '"'))[-1]))
    for record in about:
        claims = record["claims"]
        found = claims["genes"][GENES[1]]
        assert {name: found[name] for name in expected} == expected
        assert claims["sentence"] == stored.extras.claims.sentence()  # type: ignore[union-attr]
        assert claims["evidence_counts"] == {
            "predicted": 4, "not shown": 2, "plainly not predicted": 0, "untested": 0,
        }  # fmt: skip
    picture = files[f"picture of {GENES[1]}"]
    assert (
        "Predicted (grade B) for a patient outside the training: PCC given depth 0.49 [0.29, 0.69] over 2 held-out "
        "patients, 3 sections; q 0.002; 0.79 of its ceiling." in picture
    )


@pytest.mark.parametrize(
    ("claims", "said", "named"),
    [
        (claims_of(["B"]), "grade B", ""),
        (claims_of(["B"], scope=WITHIN), "grade B, training patients alone", ""),
        (claims_of(["D"]), "not shown", ", not shown"),
        (claims_of(["ungraded"]), "untested", ", untested"),
        (claims_of(["A"], verdict=UNLIKE), "untested", ", untested"),
    ],
)
def test_a_title_says_the_grade_or_why_there_is_none(claims: Claims, said: str, named: str) -> None:
    assert (short(claims, 0), mark(claims, 0)) == (said, named)
    assert long(claims, 0).startswith(str(claims.evidence[0]).capitalize())


def test_best_genes_come_first_and_among_equals_those_with_the_higher_score_then_the_larger() -> (
    None
):
    claims = claims_of(
        ["C", "A", "ungraded", "B", "A", "ungraded"]
    )  # scores fall from left to right
    order = best_first(claims, np.array([0, 0, 1, 0, 9, 2.0]))
    assert order.tolist() == [1, 4, 3, 0, 5, 2]


def test_a_file_of_the_first_version_opens_in_every_picture_and_claims_nothing(
    tmp_path: Path,
) -> None:
    stored = read_prediction(OLD)
    assert "B" in anndata.read_h5ad(OLD).var["grade"].astype(str).tolist()
    run = RunDir(tmp_path / "run")
    run.predictions.mkdir(parents=True)
    (run.predictions / f"{stored.section_id}.h5ad").write_bytes(OLD.read_bytes())
    run.finish({"verb": "predict"}, {})
    page = page_of(run)
    for text in (page.split("<script>")[0], words(plot_overview(stored, list(stored.genes[:3])))):
        assert "graded by hespotex 0.1.0, which did not note what a grade rests on" in text
        assert "grade B" not in text
    columns = {c["label"]: c["values"] for c in data_of(page)["genes"]["columns"]}
    assert "grade" not in columns
    assert set(columns["evidence"]) == {"untested"}
    assert set(columns["scope"]) == {"none"}


def _report(folder: Path, claims: dict[str, Claims]) -> str:
    run = RunDir(folder)
    for name, of_slide in claims.items():
        _write(run.predictions, of_slide, name)
    run.finish({"verb": "predict"}, {})
    return page_of(run)


def test_sections_that_differ_have_a_line_each_and_a_gene_that_differs_says_so(
    tmp_path: Path,
) -> None:
    page = _report(tmp_path, {"S1": claims_of(GRADES), "S2": claims_of(GRADES, verdict=UNLIKE)})
    lines = re.findall(r'<p class="headline (\w+)">(.*?)</p>', page)
    assert [kind for kind, _ in lines] == ["found", "alarm"]
    assert lines[0][1].startswith("S1: 4 of 6 genes are predicted for a patient outside")
    assert lines[1][1].startswith("S2: This slide is unlike the training slides (tissue)")
    assert 'class="tile"' not in page  # no count holds for both; the table of slides has them
    assert "<td>4</td><td>2</td><td>0</td><td>0</td>" in page
    assert "<td>0</td><td>0</td><td>0</td><td>6</td>" in page
    columns = {c["label"]: c["values"] for c in data_of(page)["genes"]["columns"]}
    assert columns["grade"][0] == columns["evidence"][0] == "by section"
    first, second = data_of(page)["sections"]
    assert first["claims"][0] == "grade A"
    assert set(second["claims"]) == {"untested"}


@pytest.mark.slow
def test_first_lines_of_a_report_count_all_four_words_of_evidence(tmp_path: Path) -> None:
    page = _report(tmp_path, {"S1": claims_of(GRADES), "S2": claims_of(GRADES)})
    tiles = re.findall(r'class="tile"><b>(.*?)</b><span>(.*?)</span><small>(.*?)</small>', page)
    assert tiles == [
        ("4", "genes predicted", "2 A · 1 B · 1 C"), ("2", "genes not shown", ""),
        ("0", "genes plainly not predicted", ""), ("0", "genes untested", ""),
    ]  # fmt: skip
    assert page.count('<p class="headline') == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([True] * 6 + [False] * 2000, "6 of 2,006 spots are flagged"),
        ([True] + [False] * 9, "1 of 10 spots is flagged"),
        ([False] * 4, "None of 4 spots is flagged"),
        ([True], "1 of 1 spot is flagged"),
    ],
)
def test_flagged_spots_are_counted_never_rounded(
    flags: list[bool], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert flagged_text(np.array(flags)) == said
    reporter, heard = Silent(), []
    monkeypatch.setattr(reporter, "say", heard.append)
    extras = replace(
        toy_extras(toy_section()), ood=np.array(flags), verdict="like the training slides"
    )
    say_verdict(toy_section(), extras, reporter)
    assert heard == [f"section S1: like the training slides; {said.lower()}"]
