"""Genes and formats to show: refused before the work, changed on a finished folder without encoding again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from helpers.made_claims import validation_of
from helpers.toy_slide import (
    MPP,
    SIZE_PX,
    ToyEncoder,
    graded,
    toy_bundle,
    toy_predictor,
    write_slide,
)
from hespotex import pipeline, stages
from hespotex.config import Machine
from hespotex.errors import GenePanelError, RunError
from hespotex.export.exporters import EXPORTERS
from hespotex.genes.absent_genes import OtherGenes
from hespotex.models import encoder_match
from hespotex.models.bundle import Bundle, write_model
from hespotex.predicting import SlideOptions, many_slides, plan
from hespotex.progress import Silent
from hespotex.slide.decoded import DecodedImage

pytestmark = pytest.mark.usefixtures("blank_pictures")

OPTIONS = SlideOptions(mpp=MPP)


class CountingEncoder(ToyEncoder):
    """Counts the batches that it is given."""

    batches = 0

    def encode(self, patches):  # type: ignore[no-untyped-def]
        type(self).batches += 1
        return super().encode(patches)


def _machine(cache: Path) -> Machine:
    return Machine(device="cpu", threads=1, cache=cache)


class Listener(Silent):
    """Keeps what is said and warned of."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """Every second gene is graded D."""
    whole = toy_bundle()
    whole = graded(whole, {gene: "D" if j % 2 else "B" for j, gene in enumerate(whole.genes)})
    size = replace(whole.encoder, name="toy", key="toy-key", dim=12, size_px=SIZE_PX)
    return replace(whole, encoder=replace(size, mean=ToyEncoder.mean, std=ToyEncoder.std))


@pytest.fixture(autouse=True)
def _counted(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CountingEncoder, "batches", 0)
    predictor = replace(toy_predictor(bundle), encoder=CountingEncoder())
    monkeypatch.setattr(many_slides, "open_predictor", lambda *_args: predictor)
    monkeypatch.setattr(encoder_match, "get_encoder", lambda *_args, **_more: CountingEncoder())


def _model_of(bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model file, which is opened with the counting encoder."""
    predictor = replace(toy_predictor(bundle), encoder=CountingEncoder())
    monkeypatch.setattr(many_slides, "open_predictor", lambda *_args: predictor)
    write_model(folder / "m.hespotex", bundle)
    return folder / "m.hespotex"


@pytest.fixture
def model(bundle: Bundle, tmp_path: Path) -> Path:
    write_model(tmp_path / "toy.hespotex", bundle)
    return tmp_path / "toy.hespotex"


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_slide(tmp_path / "s.png")


@pytest.fixture
def sections(slide: Path, tmp_path: Path) -> Path:
    """A manifest whose only row has spots."""
    x, y = np.meshgrid(np.arange(150, 550, 50), np.arange(150, 450, 50))
    spots = pd.DataFrame({"x": x.ravel() // 50, "y": y.ravel() // 50})
    spots = spots.assign(new_x=spots.x, new_y=spots.y, pixel_x=x.ravel(), pixel_y=y.ravel())
    spots.assign(selected=1).to_csv(tmp_path / "s.tsv", sep="\t", index=False)
    header = "section_id,patient_id,slide,format,spots,mpp"
    (tmp_path / "m.csv").write_text(f"{header}\ns,P,{slide.name},legacy_st,s.tsv,2\n")
    return tmp_path / "m.csv"


@pytest.mark.slow
def test_a_finished_slide_gets_exports_and_genes_without_encoding_again(
    model: Path, slide: Path, tmp_path: Path
) -> None:
    shown = replace(OPTIONS, formats=("geojson", "parquet"), genes=("G02", "G00"))
    pipeline.predict(model, slide, tmp_path / "fresh", options=shown)
    pipeline.predict(model, slide, tmp_path / "out", options=OPTIONS)
    before = (tmp_path / "out/predictions/s.h5ad").read_bytes()
    CountingEncoder.batches = 0
    again = pipeline.predict(model, slide, tmp_path / "out", options=shown)
    assert (CountingEncoder.batches, again.slides[0].status) == (0, "skipped")
    assert (tmp_path / "out/predictions/s.h5ad").read_bytes() == before
    for part in ("predictions/s.geojson", "figures/s_overview.png"):
        one, other = (tmp_path / way / part for way in ("fresh", "out"))
        assert one.read_bytes() == other.read_bytes(), part
    one, other = (pd.read_parquet(tmp_path / w / "predictions/s.parquet") for w in ("fresh", "out"))
    pd.testing.assert_frame_equal(one, other)
    written = (tmp_path / "out/predictions/s.geojson").stat().st_mtime_ns
    pipeline.predict(model, slide, tmp_path / "out", options=shown)
    assert (tmp_path / "out/predictions/s.geojson").stat().st_mtime_ns == written


@pytest.mark.slow
def test_bounds_of_a_finished_slide_move_its_exports_alone(
    model: Path, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DecodedImage, "bounds_px0", (40.0, 10.0))
    shown = replace(OPTIONS, formats=("geojson",), genes=("G02",))
    pipeline.predict(model, slide, tmp_path / "out", options=shown)
    before = (tmp_path / "out/predictions/s.geojson").read_bytes()
    CountingEncoder.batches = 0
    moved = replace(shown, bounds_offset=True)
    pipeline.predict(model, slide, tmp_path / "out", options=moved)
    assert CountingEncoder.batches == 0
    assert (tmp_path / "out/predictions/s.geojson").read_bytes() != before
    outline = replace(OPTIONS, nuclei="classical")
    pipeline.predict(model, slide, tmp_path / "nuclei", options=outline)
    with pytest.raises(RunError, match=r"options\.bounds_offset: False there, True now"):
        pipeline.predict(
            model, slide, tmp_path / "nuclei", options=replace(outline, bounds_offset=True)
        )


@pytest.mark.slow
def test_finished_sections_get_exports_and_genes_without_encoding_again(
    model: Path, sections: Path, tmp_path: Path
) -> None:
    pipeline.predict(model, sections, tmp_path / "out", machine=_machine(tmp_path / "a"))
    assert CountingEncoder.batches > 0
    CountingEncoder.batches = 0
    shown = SlideOptions(formats=("parquet", "geojson"), genes=("G02", "G00"))
    other = _machine(tmp_path / "b")
    pipeline.predict(model, sections, tmp_path / "out", options=shown, machine=other)
    assert CountingEncoder.batches == 0
    stored = anndata.read_h5ad(tmp_path / "out/predictions/s.h5ad")
    frame = pd.read_parquet(tmp_path / "out/predictions/s.parquet")
    np.testing.assert_array_equal(frame["G02"], stored[:, "G02"].layers["composition"][:, 0])
    assert (tmp_path / "out/predictions/s.geojson").exists()


def test_a_manifest_is_read_once(
    model: Path, sections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, paths = plan.read_manifest, []

    def counted(path: Path, ids: object) -> object:
        paths.append(path)
        return read(path, ids)  # type: ignore[arg-type]

    for module in (plan, stages):
        monkeypatch.setattr(module, "read_manifest", counted)
    pipeline.predict(model, sections, tmp_path / "out", machine=_machine(tmp_path / "cache"))
    assert paths == [sections]


@pytest.mark.parametrize("kind", ["slide", "sections"])
def test_a_gene_that_its_grade_leaves_out_is_refused_before_the_work(
    model: Path, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = request.getfixturevalue(kind)
    options = OPTIONS if kind == "slide" else SlideOptions()
    wanted = replace(options, genes=("G03", "G01"))
    with pytest.raises(
        GenePanelError, match=r"found G03 \(not shown\), G01 \(.*; give .*--all-genes"
    ):
        pipeline.predict(model, source, tmp_path / "out", options=wanted)
    with pytest.raises(
        GenePanelError, match=r"found none: NOPE is not in this model's panel of \d+ genes"
    ):
        pipeline.predict(model, source, tmp_path / "out", options=replace(options, genes=("NOPE",)))
    assert CountingEncoder.batches == 0
    assert not (tmp_path / "out").exists()
    all_genes = replace(wanted, all_genes=True)
    machine = _machine(tmp_path / "cache")
    pipeline.predict(model, source, tmp_path / "out", options=all_genes, machine=machine)
    assert CountingEncoder.batches > 0
    assert "G01" in anndata.read_h5ad(tmp_path / "out/predictions/s.h5ad").var_names


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["slide", "sections"])
def test_one_absent_gene_among_several_is_named_once_and_the_others_are_written(
    bundle: Bundle,
    kind: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, heard = request.getfixturevalue(kind), Listener()
    knowing = replace(bundle, others=OtherGenes(("ERBB2",), (0.031,)))
    model = _model_of(knowing, tmp_path, monkeypatch)
    options = replace(
        OPTIONS if kind == "slide" else SlideOptions(),
        genes=("ERBB2", "G00", "G01", "g02"),
        formats=("parquet",),
    )
    machine = _machine(tmp_path / "cache")
    pipeline.predict(
        model, source, tmp_path / "out", options=options, machine=machine, progress=heard
    )
    said = [text for text in heard.said if "ERBB2" in text or "g02" in text]
    assert said == [
        "ERBB2 was seen in 3.1 % of the training spots, where 10 % are asked; train with --add-genes ERBB2",
        "g02 was never measured: no training section's table has it; check its name (similar: G02)",
    ]
    assert any("not shown: G01; --untested" in text for text in heard.said)
    frame = pd.read_parquet(tmp_path / "out/predictions/s.parquet")
    assert [name for name in frame if name.startswith("G")] == ["G00"]
    why = pd.read_csv(tmp_path / "out" / "absent_genes.csv").to_dict("records")
    assert why == [
        {"gene": "ERBB2", "seen": 0.031,
         "why": "was seen in 3.1 % of the training spots, where 10 % are asked"}
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["slide", "sections"])
def test_wanted_genes_without_evidence_for_the_patient_are_named_and_the_work_is_kept(
    bundle: Bundle,
    kind: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model of one patient may write G00 of that patient, so that the command cannot be refused beforehand."""
    grades = dict.fromkeys(bundle.genes, "B")
    within = replace(bundle, validation=validation_of(grades, scope="within_patient"))
    model = _model_of(within, tmp_path, monkeypatch)
    source, heard = request.getfixturevalue(kind), Listener()
    options = OPTIONS if kind == "slide" else SlideOptions()
    wanted = replace(options, genes=("G00",), formats=("parquet", "ome-tiff", "png"))
    machine = _machine(tmp_path / "cache")
    pipeline.predict(
        model, source, tmp_path / "out", options=wanted, machine=machine, progress=heard
    )
    assert sum("not predicted on this slide and so not shown: G00" in s for s in heard.said) == 1
    assert anndata.read_h5ad(tmp_path / "out/predictions/s.h5ad").n_vars == 0
    assert "G00" not in pd.read_parquet(tmp_path / "out/predictions/s.parquet")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["slide", "sections"])
def test_exports_say_how_many_genes_they_keep_and_all_keeps_all(
    model: Path,
    kind: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    png = EXPORTERS.find("png")
    assert png is not None
    monkeypatch.setitem(EXPORTERS._found, "png", replace(png, most_genes=2))
    source, out = request.getfixturevalue(kind), tmp_path / "out"
    options = OPTIONS if kind == "slide" else SlideOptions()
    few, heard = replace(options, formats=("parquet", "png")), Listener()
    machine = _machine(tmp_path / "cache")
    pipeline.predict(model, source, out, options=few, machine=machine, progress=heard)
    n = anndata.read_h5ad(out / "predictions/s.h5ad").n_vars
    pictures = out / "predictions/s.pictures"
    assert len(list(pictures.iterdir())) == 2 < n
    note = f"of {n} written genes the best graded are exported: png 2; --show-genes all exports all, --show-genes GENE,GENE those named"
    assert sum(note in said for said in heard.said) == 1  # parquet has all of so few
    whole, heard = replace(few, genes=("all",)), Listener()
    pipeline.predict(model, source, out, options=whole, machine=machine, progress=heard)
    assert len(list(pictures.iterdir())) == n
    assert not [s for s in heard.said if "exported" in s]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["slide", "sections"])
def test_the_unit_of_what_is_shown_may_be_changed_of_a_finished_folder(
    model: Path, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source, out = request.getfixturevalue(kind), tmp_path / "out"
    options = replace(OPTIONS if kind == "slide" else SlideOptions(), formats=("parquet",))
    machine = _machine(tmp_path / "cache")
    for show in ("composition", "log1p"):
        CountingEncoder.batches = 0
        shown = replace(options, show=show, genes=("G02",))  # type: ignore[arg-type]
        pipeline.predict(model, source, out, options=shown, machine=machine)
        stored = anndata.read_h5ad(out / "predictions/s.h5ad")[:, "G02"]
        values = stored.layers["composition"] if show == "composition" else stored.X
        frame = pd.read_parquet(out / "predictions/s.parquet")
        np.testing.assert_array_equal(frame["G02"], values[:, 0])
    assert CountingEncoder.batches == 0
