"""The whole system, stage by stage: read this file first.

    manifest -> sections -> features (encoded once) -> folds -> panel + GATE + image stream -> prediction
                                                                        -> scores, files, pictures

Every stage is `(inputs, configuration) -> values`; each verb below strings the stages together and
nothing else. What a stage does stands in the module that it is imported from.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hespotex.config import Machine, RunConfig, differing_keys
from hespotex.cross_validation import run_fold
from hespotex.encoders import get_encoder
from hespotex.errors import ModelFileError
from hespotex.export.run_outputs import (
    finished_fold,
    read_metrics,
    write_figures,
    write_fold,
    write_metrics,
    write_section_prediction,
)
from hespotex.features import encode_section, patch_plan
from hespotex.manifest import read_manifest
from hespotex.predict import predict_section
from hespotex.progress import Reporter, Silent
from hespotex.runs import RunDir, StageClock, content_key, file_key, versions
from hespotex.section import Section, check_distinct, read_section
from hespotex.splits import make_folds
from hespotex.training.bundle import Bundle, read_model, write_model
from hespotex.training.fit import device_name, fit_bundle, use_threads
from hespotex.training.types import Cohort, EncodedSection, EncoderRecord


@dataclass(frozen=True)
class CrossValidationResult:
    """What a cross-validation found.

    Attributes:
        metrics: the content of metrics.json.
        paths: what was written, by label.
    """

    metrics: Mapping[str, Any]
    paths: Mapping[str, Path]


@dataclass(frozen=True)
class PredictionResult:
    """Where predictions were written, by label."""

    paths: Mapping[str, Path]


# ---------------------------------------------------------------------------------------- stages


def read_sections(
    manifest: Path, ids: Sequence[str] | None, reporter: Reporter
) -> tuple[Section, ...]:
    """Stage 1: a manifest becomes sections; what the readers left out is said."""
    rows = read_manifest(manifest, ids).rows
    sections = []
    with reporter.task("reading sections", len(rows)) as advance:
        for row in rows:
            section = read_section(row)
            sections.append(section)
            for reason, count in section.dropped.items():
                reporter.say(f"section {section.section_id}: {count} left out: {reason}")
            advance(1)
    check_distinct(sections)
    return tuple(sections)


def encode(
    sections: Sequence[Section], config: RunConfig, machine: Machine, reporter: Reporter
) -> Cohort:
    """Stage 2: patches of every section become features, once; the cache remembers them."""
    use_threads(machine)
    encoder = get_encoder(config.encoder.name, device=device_name(machine), threads=machine.threads)
    plan = patch_plan(encoder, config.patches)
    items = []
    with reporter.task("encoding patches", sum(s.n_spots for s in sections)) as advance:
        for section in sections:
            encoded = encode_section(
                section,
                encoder,
                plan,
                projection=config.encoder.projection,
                cache_dir=machine.cache,
                advance=advance,
            )
            items.append(EncodedSection(section, encoded.values, colours=encoded.colours))
    record = EncoderRecord(
        name=encoder.name,
        key=encoder.key(),
        dim=items[0].features.shape[2],
        size_px=encoder.size_px,
        mean=encoder.mean,
        std=encoder.std,
    )
    return Cohort(tuple(items), record, plan.sides_um)


# ----------------------------------------------------------------------------------------- verbs


def cross_validate(
    manifest: Path,
    out: Path,
    *,
    config: RunConfig | None = None,
    sections: Sequence[str] | None = None,
    score_nan_as_zero: bool = False,
    machine: Machine | None = None,
    reporter: Reporter | None = None,
) -> CrossValidationResult:
    """Leave out each patient (or section) in turn, fit on the rest, score what is predicted for it.

    Example:
        >>> result = cross_validate(Path("sections.csv"), Path("results"))  # doctest: +SKIP
        >>> result.metrics["mean"]["model"]["pcc_composition_mean"]  # doctest: +SKIP

    Args:
        manifest: table of sections with expression.
        out: folder for metrics.json, genes.csv, predictions/, figures/, run.json.
        config: what the result depends on; None is the default profile.
        sections: only these section ids.
        score_nan_as_zero: a PCC that does not exist counts as 0 in means.
        machine: device, threads, cache folder.
        reporter: hears of progress.

    Raises:
        HESpotExError: an input is wrong; nothing was written under a final name.
    """
    config, machine, reporter = config or RunConfig(), machine or Machine(), reporter or Silent()
    clock, run = StageClock(), RunDir(out)
    with clock.stage("read"):
        read = read_sections(manifest, sections, reporter)
    folds = make_folds([s.section_id for s in read], [s.patient_id for s in read], config.folds.by)
    if folds.note:
        reporter.warn(folds.note)
    identity = _identity("cross-validate", config, read, score_nan_as_zero=score_nan_as_zero)
    if run.begin(identity):
        reporter.say(f"{out} holds this very run, finished: nothing to do")
        return _cross_validation_result(run)

    with clock.stage("encode"):
        cohort = encode(read, config, machine, reporter)
    with reporter.task("folds", len(folds)) as advance:
        for number, fold in enumerate(folds):
            if finished_fold(run, number) is None:
                outcome = run_fold(
                    cohort,
                    fold,
                    config,
                    nan_as_zero=score_nan_as_zero,
                    machine=machine,
                    clock=clock,
                )
                write_fold(run, number, outcome)
            advance(1)
    with clock.stage("write"):
        write_metrics(run, folds, score_nan_as_zero=score_nan_as_zero)
        write_figures(run)
    run.finish(identity, {"config": config.model_dump(mode="json"), **clock.summary()})
    shutil.rmtree(run.work, ignore_errors=True)
    return _cross_validation_result(run)


def train(
    manifest: Path,
    out: Path,
    *,
    config: RunConfig | None = None,
    sections: Sequence[str] | None = None,
    machine: Machine | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Fit a model on all given sections and write it to one file.

    Example:
        >>> train(Path("sections.csv"), Path("lab.hespotex"))  # doctest: +SKIP

    Args:
        manifest: table of sections with expression.
        out: the model file.
        config: what the result depends on; None is the default profile.
        sections: only these section ids.
        machine: device, threads, cache folder.
        reporter: hears of progress.

    Raises:
        HESpotExError: an input is wrong, or `out` is a model of other sections or settings.
    """
    config, machine, reporter = config or RunConfig(), machine or Machine(), reporter or Silent()
    read = read_sections(manifest, sections, reporter)
    if out.exists():
        _check_same_model(out, read_model(out), config, read)
        reporter.say(f"{out} is this very model, finished: nothing to do")
        return out
    cohort = encode(read, config, machine, reporter)
    with reporter.task("fitting", 1) as advance:
        bundle = fit_bundle(cohort, config, machine=machine)
        advance(1)
    write_model(out, bundle)
    return out


def predict(
    model: Path,
    source: Path,
    out: Path,
    *,
    sections: Sequence[str] | None = None,
    machine: Machine | None = None,
    reporter: Reporter | None = None,
) -> PredictionResult:
    """Predict every section of a manifest; measured values, where given, are written beside.

    Example:
        >>> predict(Path("lab.hespotex"), Path("new.csv"), Path("predicted"))  # doctest: +SKIP

    Args:
        model: a model file.
        source: table of sections, with or without expression.
        out: folder for predictions/ and run.json.
        sections: only these section ids.
        machine: device, threads, cache folder.
        reporter: hears of progress.

    Raises:
        HESpotExError: an input is wrong, or the encoder is not the one of the model.
    """
    machine, reporter = machine or Machine(), reporter or Silent()
    clock, run = StageClock(), RunDir(out)
    bundle = read_model(model)
    with clock.stage("read"):
        read = read_sections(source, sections, reporter)
    identity = _identity("predict", bundle.config, read, model_id=bundle.model_id)
    paths = {"predictions": run.predictions}
    if run.begin(identity):
        reporter.say(f"{out} holds this very run, finished: nothing to do")
        return PredictionResult(paths)
    with clock.stage("encode"):
        cohort = encode(read, _encode_config(bundle), machine, reporter)
    _check_same_encoder(model, bundle, cohort)
    with clock.stage("predict"), reporter.task("predicting", len(read)) as advance:
        for item in cohort.items:
            prediction = predict_section(bundle, item.without_expression(), machine=machine)
            write_section_prediction(run, item.section, bundle, prediction)
            advance(1)
    run.finish(identity, {"config": bundle.config.model_dump(mode="json"), **clock.summary()})
    return PredictionResult(paths)


def demo(
    out: Path,
    *,
    seed: int = 0,
    machine: Machine | None = None,
    reporter: Reporter | None = None,
) -> CrossValidationResult:
    """Paint a cohort whose expression is known, and cross-validate on it.

    Example:
        >>> demo(Path("demo")).metrics["folds_by"]  # doctest: +SKIP
        'patient'

    Args:
        out: folder for cohort/ (the painted slides and counts) and results/.
        seed: of the painting and of the fit.
        machine: device, threads, cache folder.
        reporter: hears of progress.
    """
    from hespotex.synthetic import make_cohort

    reporter = reporter or Silent()
    manifest = out / "cohort" / "sections.csv"
    if not manifest.exists():
        reporter.say(f"painting a synthetic cohort in {manifest.parent}")
        manifest = make_cohort(manifest.parent, seed=seed)
    return cross_validate(
        manifest,
        out / "results",
        config=RunConfig(seed=seed),
        machine=machine,
        reporter=reporter,
    )


# --------------------------------------------------------------------------------------- details


def _identity(
    verb: str, config: RunConfig, sections: Sequence[Section], **more: Any
) -> dict[str, Any]:
    """What a result depends on; a folder that holds another identity is refused."""
    return {
        "verb": verb,
        "hespotex": versions()["hespotex"],
        "config": config.model_dump(mode="json"),
        "inputs": {
            s.section_id: {"patient_id": s.patient_id, "key": _section_key(s)} for s in sections
        },
        **more,
    }


def _section_key(section: Section) -> str:
    image = section.slide or section.features_file
    return content_key(
        section.expression_key(), file_key(image) if image else "", section.geometry.mpp
    )


def _cross_validation_result(run: RunDir) -> CrossValidationResult:
    return CrossValidationResult(
        read_metrics(run),
        {
            "scores": run.path / "metrics.json",
            "genes": run.path / "genes.csv",
            "predictions": run.predictions,
            "pictures": run.figures,
        },
    )


def _encode_config(bundle: Bundle) -> RunConfig:
    """The model's configuration with its patch sides written out."""
    patches = bundle.config.patches.model_copy(update={"sides_um": bundle.sides_um})
    return bundle.config.model_copy(update={"patches": patches})


def _check_same_model(
    path: Path, there: Bundle, config: RunConfig, sections: Sequence[Section]
) -> None:
    old = {
        "config": there.config.model_dump(mode="json"),
        "sections": {s.section_id: s.key for s in there.sections},
    }
    new = {
        "config": config.model_dump(mode="json"),
        "sections": {s.section_id: s.expression_key() for s in sections},
    }
    rows = differing_keys(old, new)
    if rows:
        shown = "; ".join(f"{key}: {a!r} there, {b!r} now" for key, a, b in rows[:6])
        raise ModelFileError(
            f"{path} holds another model: {shown}; choose another --out, or delete it"
        )


def _check_same_encoder(model: Path, bundle: Bundle, cohort: Cohort) -> None:
    if cohort.encoder != bundle.encoder:
        raise ModelFileError(
            f"expected the encoder that {model} was trained with ({bundle.encoder.name}, key {bundle.encoder.key}), "
            f"found other weights or preprocessing (key {cohort.encoder.key}); install the same encoder version"
        )
