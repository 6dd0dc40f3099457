"""`localize --apply`: the model of a run on slides without a diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hespotex.analysis.association.result import RESEARCH_SENTENCE
from hespotex.analysis.localize import outputs
from hespotex.analysis.localize.bags import Bags
from hespotex.analysis.localize.cohort import (
    COMPOSITION,
    Slides,
    model_of,
    read_undiagnosed,
    write_inputs,
)
from hespotex.analysis.localize.model import Applied, DiagnosisModel
from hespotex.errors import ConfigError, ModelFileError, counted, shorten
from hespotex.progress import Progress, Reporter, heard
from hespotex.report.localize_page import check_torchmil
from hespotex.report.localize_result import LocalizeResult, clear, work_folder, write_page

_SAME_ENCODER = "give features of the encoder that the run had"


def apply_model(
    model: str | Path,
    predicted: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    features: str | Path | None = None,
    slides: str | Path | None = None,
    progress: Progress = None,
) -> LocalizeResult:
    """Say which diagnosis new slides look like, and draw the spots that speak for it; for research use only.

    Example:
        >>> apply_model("where/localize.safetensors", "new", "where-new")  # doctest: +SKIP

    Args:
        model: localize.safetensors of a run of `localize`.
        predicted: run folders of `predict`, folders of h5ad, or h5ad files, by the model that predicted the run's slides.
        out: folder for slides.csv, report.html, and where spots are drawn spots.parquet, spots.h5ad and maps.
        features: as of `localize`, where the run's best input had features.
        slides: folder of the slides, for the gallery.
        progress: True draws bars, False says nothing, a `hespotex.Reporter` hears it; None draws bars where somebody looks.

    Raises:
        HESpotExError: the model does not fit the slides; nothing is written then.
    """
    model, out, reporter = Path(model), Path(out), heard(progress)
    check_torchmil()
    fitted = DiagnosisModel.read(model)
    if out.resolve() == model.resolve().parent:
        raise ConfigError(
            expected=f"another folder than that of {model}", found=f"--out {out}",
            remedy="choose another --out: what lies in it is replaced",
        )  # fmt: skip
    given = [predicted] if isinstance(predicted, (str, Path)) else list(predicted)
    read = _read(fitted, model, [Path(p) for p in given], features)
    of_slides = {} if slides is None else outputs.slides_of(read, Path(slides))
    with work_folder(out) as work:
        bags = write_inputs(read, work, reporter)[fitted.about.kind]
        _check_width(fitted, model, bags)
        said = fitted.apply(bags)
        clear(out)
        return _written(fitted, read, said, out, of_slides, reporter)


def _read(
    fitted: DiagnosisModel, model: Path, predicted: list[Path], features: str | Path | None
) -> Slides:
    about = fitted.about
    if about.kind == COMPOSITION and features is not None:
        raise ConfigError(
            expected=f"no --features, since {model} reads composition alone", found=f"{features}"
        )
    read = read_undiagnosed(
        predicted, about.genes, None if features is None else Path(features),
        with_features=about.kind != COMPOSITION,
    )  # fmt: skip
    if about.kind != COMPOSITION and read.features is None:
        raise ConfigError(
            expected=f"features, which {model} reads, in --features or kept beside the predictions",
            found=read.notes[0] if read.notes else "none",
            remedy=f"{_SAME_ENCODER}, or predict with --keep-features",
        )  # fmt: skip
    by = sorted({model_of(file) for file in read.files})
    if by != [about.predicted_by]:
        raise ModelFileError(
            expected=f"predictions of model {about.predicted_by}, as {model} had",
            found=f"those of {shorten(by, 3)}", remedy="predict the slides with that model",
        )  # fmt: skip
    if about.encoder and read.encoder and read.encoder != about.encoder:
        raise ModelFileError(
            expected=f"features of {about.encoder}, as {model} had", found=f"those of {read.encoder}",
            remedy=_SAME_ENCODER,
        )  # fmt: skip
    return read


def _check_width(fitted: DiagnosisModel, model: Path, bags: Bags) -> None:
    width, known = bags.read(0).shape[1], len(fitted.components.mean)
    if width != known:
        raise ModelFileError(
            expected=f"{known:,} values a spot, as {model} had",
            found=f"{width:,}: features of another encoder", remedy=_SAME_ENCODER,
        )  # fmt: skip


def _written(
    fitted: DiagnosisModel,
    read: Slides,
    said: Applied,
    out: Path,
    slides: dict[str, Path],
    reporter: Reporter,
) -> LocalizeResult:
    """Files as of a run; the column `label` of a run is `likeliest` here."""
    classes = fitted.about.classes
    named = [
        replace(bag, label=classes[k]) for bag, k in zip(read.bags, said.likeliest, strict=True)
    ]
    read = replace(read, bags=tuple(named))
    unlike = [file.claims.suspended for file in read.files]
    lengths = [bag.n_spots for bag in read.bags]
    shown = said.shown & read.usable & ~np.repeat(unlike, lengths)
    mark = f"model applied; evidence of its run: {fitted.about.evidence}"
    table = outputs.slides_table(read, said.margin, classes, mark)
    likeliest = {"label": "likeliest"}
    result = LocalizeResult(
        mark, _sentences(fitted, read, unlike, int(shown.sum())), n_shown=int(shown.sum())
    )
    if not result.n_shown:
        result.paths = outputs.write_tables(out, table.rename(columns=likeliest), None)
        return write_page(result, out, {}, reporter)
    drawn = outputs.Drawn(said.loss, said.alone, said.z, said.stability, shown)
    spots = outputs.spots_table(read, drawn, mark)
    result.paths = outputs.write_tables(
        out, table.rename(columns=likeliest), spots.rename(columns=likeliest)
    )
    words = f"{mark.capitalize()}. {RESEARCH_SENTENCE}"
    pictures = outputs.write_maps(out, read, spots, words, True)
    result.paths["maps"] = out / "figures"
    result.paths["GeoJSON"] = out / "geojson"
    result.paths["sections"] = out / "sections"
    if slides and (patches := outputs.gallery_patches(read, spots, slides)):
        result.paths["gallery"] = out / "gallery.png"
        outputs.write_contact_sheet(result.paths["gallery"], patches, words)
        pictures = {"Gallery": result.paths["gallery"], **pictures}
    return write_page(result, out, pictures, reporter)


def _sentences(fitted: DiagnosisModel, read: Slides, unlike: list[bool], n_shown: int) -> list[str]:
    about = fitted.about
    lines = [
        f"A model of {' and '.join(about.classes)} was applied to {counted(len(read.bags), 'slide')}. Nothing was tested on them, "
        f"and probabilities are not calibrated. Evidence of the model's own run: {about.evidence}."
    ]
    if about.threshold is None:
        lines.append("The model's own run drew no spot, so that no map is drawn.")
    else:
        lines.append(
            f"{n_shown:,} spots are drawn: they speak for the diagnosis that their slide looks like most, further than models "
            f"of permuted diagnoses say (z at least {about.threshold:.2f}, the threshold of the run)."
        )
    if any(unlike):
        names = [bag.section_id for bag, of in zip(read.bags, unlike, strict=True) if of]
        lines.append(
            f"{counted(len(names), 'slide')} unlike the training's: no map is drawn there, and the probability means nothing: "
            f"{shorten(names, 3)}."
        )
    return [*lines, *read.notes]
