"""INPUT of `predict`, a manifest, a slide or a folder of slides, as picklable tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hespotex.config import InputChoices
from hespotex.errors import ConfigError, ManifestError, SlideError
from hespotex.inspection import check_named
from hespotex.predicting.executor import Cluster
from hespotex.predicting.options import SlideOptions, SlideTask
from hespotex.progress import Reporter
from hespotex.sections.manifest import ManifestRow, read_manifest
from hespotex.slide import (
    DOUBT_REMEDY,
    SLIDE_SUFFIXES,
    SlideFolder,
    check_folder,
    is_zarr,
    slide_names,
    slides_in,
)
from hespotex.storage.text_files import TABLE_SUFFIXES


@dataclass(frozen=True)
class Plan:
    """The contents of an input: sections that all have spots of their own, or slides.

    Attributes:
        rows: of a manifest whose every row has spots; else empty.
        tasks: slides, and rows with spots among them; else empty.
        whole: no row was left out by name.
        folder: what lies beside the slides of a folder; None where the input is no folder.
    """

    source: Path
    rows: tuple[ManifestRow, ...] = ()
    tasks: tuple[SlideTask, ...] = ()
    whole: bool = True
    folder: SlideFolder | None = None

    @property
    def doubt(self) -> str | None:
        """What was passed over in a folder, though it may hold slides; None where there is nothing."""
        return None if self.folder is None else self.folder.doubt


def plan_input(
    source: Path,
    options: SlideOptions,
    sections: Sequence[str] | None = None,
    cluster: Cluster | None = None,
) -> Plan:
    """Read an input once, as sections or slides to predict.

    Args:
        source: manifest (.csv, .tsv), slide, or folder of slides.
        options: for all of them; what a row of a manifest states goes before.
        sections: only these ids of a manifest.

    Raises:
        SlideError: there is no slide.
        ManifestError: the manifest is wrong.
        ConfigError: an option does not suit the input.
    """
    if is_zarr(source):
        _refuse_choices(sections, options.choices, "a slide")
        return Plan(source, tasks=(SlideTask(source.name.split(".zarr")[0], source, options),))
    if source.is_dir():
        _refuse_choices(sections, options.choices, "a folder")
        return _of_folder(source, options)
    if source.suffix.lower() in TABLE_SUFFIXES:
        return _of_manifest(source, options, sections, cluster)
    _refuse_choices(sections, options.choices, "a slide")
    return Plan(source, tasks=(SlideTask(source.stem, source, options),))


def say_passed_over(plan: Plan, reporter: Reporter) -> None:
    """Report what lies in a folder beside its slides, and warn of the part that may hold slides, too."""
    if plan.folder is None:
        return
    if plan.folder.remark:
        reporter.say(f"{plan.source.name}: {plan.folder.remark}")
    if plan.folder.doubt:
        reporter.warn(f"{plan.source.name}: {plan.folder.doubt}; {DOUBT_REMEDY}")


def _of_manifest(
    source: Path, options: SlideOptions, sections: Sequence[str] | None, cluster: Cluster | None
) -> Plan:
    rows = read_manifest(source, sections).rows
    check_named(options.choices, [row.section_id for row in rows])
    if options.patient is not None:
        raise ConfigError(
            expected="a slide or a folder of slides with --patient",
            found=f"a manifest ({source}), which names the patient of every row",
            remedy="leave --patient out",
        )
    whole = sections is None
    if all(row.has_spots for row in rows):
        _refuse_options_of_slides(options, cluster)
        return Plan(source, rows=rows, whole=whole)
    return Plan(source, tasks=tuple(_of_row(row, options) for row in rows), whole=whole)


def _refuse_options_of_slides(options: SlideOptions, cluster: Cluster | None) -> None:
    """Raise ConfigError where an option has no effect on sections that are predicted at their own spots."""
    usual = SlideOptions()
    given = {
        "--mpp": options.mpp != usual.mpp,
        "--bits": options.bits != usual.bits,
        "--tissue": options.tissue != usual.tissue,
        "--spots": options.spots != usual.spots,
        "--grid": options.grid != usual.grid,
        "--layers": options.layers != usual.layers,
        "--most-genes": options.most_genes != usual.most_genes,
        "--spot-pitch-um": options.pitch_um != usual.pitch_um,
        "--spot-diameter-um": options.diameter_um != usual.diameter_um,
        "--max-bad-tiles": options.max_bad_tiles != usual.max_bad_tiles,
        "--workers": cluster is not None and cluster.scheduler is None,
        "--scheduler": cluster is not None and cluster.scheduler is not None,
    }
    for name in (name for name, is_given in given.items() if is_given):
        raise ConfigError(
            expected=f"slides without spots with {name}",
            found="a manifest whose every row has spots",
            remedy=f"leave {name} out: spots, scale and diameter are those of the manifest",
        )


def _refuse_choices(sections: Sequence[str] | None, choices: InputChoices, what: str) -> None:
    for name, given in (
        ("--sections", sections is not None),
        ("--accept", bool(choices.accept)),
        ("--allow-hires", choices.allow_hires),
    ):
        if given:
            raise ConfigError(
                expected=f"a manifest with {name}", found=what, remedy=f"leave {name} out"
            )


def _of_row(row: ManifestRow, options: SlideOptions) -> SlideTask:
    if row.slide is None:
        raise ManifestError(
            "as given",
            [
                f"section {row.section_id}, column slide: expected an image file beside slides without spots"
            ],
        )
    return SlideTask(
        row.section_id,
        row.slide,
        replace(
            options,
            mpp=row.mpp or options.mpp,
            bits=row.bits or options.bits,
            pitch_um=row.spot_pitch_um or options.pitch_um,
            diameter_um=row.spot_diameter_um or options.diameter_um,
        ),
        row.patient_id,
        row if row.has_spots else None,
        row.nuclei,
    )


def _of_folder(source: Path, options: SlideOptions) -> Plan:
    check_folder(source)
    if any(source.glob("*filtered_feature_bc_matrix*")) or (source / "outs").is_dir():
        raise SlideError(
            expected="a folder of slides",
            found=f"Space Ranger's outs: {source}",
            remedy="give a manifest with format space_ranger and the full-resolution image as slide",
        )
    folder = slides_in(source)
    if not folder.slides:
        found = ", ".join(sorted(p.name for p in source.iterdir())[:5]) or "nothing"
        raise SlideError(
            expected=f"slides ({', '.join(SLIDE_SUFFIXES[:6])}, ...) in {source}", found=found
        )
    tasks = tuple(
        SlideTask(name, path, options)
        for name, path in zip(slide_names(folder.slides), folder.slides, strict=True)
    )
    return Plan(source, tasks=tasks, folder=folder)
