"""Nuclei of the sections of a run: what is asked for, whose masks, counts, factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hespotex.config import Machine, NucleiConfig, RunConfig
from hespotex.config.values import expect_kind
from hespotex.errors import ConfigError, ModelFileError
from hespotex.models.bundle import Bundle
from hespotex.models.fit import device_name
from hespotex.models.types import Cohort
from hespotex.nuclei import NucleiOrigin, count_section, refuse_coarse, with_counts
from hespotex.nuclei.factor import nuclei_factor
from hespotex.progress import Reporter
from hespotex.sections.section import Section


def configured(config: RunConfig, origin: NucleiOrigin | None) -> RunConfig:
    """The configuration of a training with `--nuclei`: its source, and a mode where none was chosen.

    Raises:
        ConfigError: nuclei are switched off by name as well.
    """
    expect_kind("config", config, RunConfig)
    if origin is None:
        return config
    nuclei = config.nuclei
    if nuclei.mode == "off" and "mode" in nuclei.model_fields_set:
        raise ConfigError(
            expected="no --nuclei beside nuclei.mode = off",
            found=f"--nuclei {origin.text}",
            remedy="leave one of them out",
        )
    usual = "published" if config.profile == "published" else "density"
    mode = usual if nuclei.mode == "off" else nuclei.mode
    chosen = nuclei.model_copy(update={"mode": mode, "source": origin.source})
    return config.model_copy(update={"nuclei": chosen})


def for_prediction(
    bundle: Bundle, origin: NucleiOrigin | None, *, bounds_offset: bool = False
) -> NucleiConfig:
    """The model's nuclei, from the source that `--nuclei` names, else from the one of its training.

    With `bounds_offset` outlines start at the slide's bounds, as QuPath shows it.

    Raises:
        ModelFileError: the model was trained with nuclei, and nobody knows where they came from.
    """
    nuclei = bundle.config.nuclei
    if nuclei.mode == "off":
        return nuclei
    if origin is None and not bundle.sections:
        raise ModelFileError(
            "the model was trained with nuclei elsewhere, found no word of where they come from: give "
            "--nuclei classical | instanseg | cellpose | mask:PATH"
        )
    source = nuclei.source if origin is None else origin.source
    from_bounds = nuclei.bounds_offset or (bounds_offset and source == "mask")
    return nuclei.model_copy(update={"source": source, "bounds_offset": from_bounds})


def say_of_nuclei(bundle: Bundle, origin: NucleiOrigin | None, reporter: Reporter) -> None:
    """Warn where `--nuclei` has no effect on a model, or names another source than that of its training."""
    trained = bundle.config.nuclei
    if origin is None:
        return
    if trained.mode == "off":
        reporter.warn(f"the model was trained without nuclei: --nuclei {origin.text} has no effect")
    elif bundle.sections and origin.source != trained.source:
        reporter.warn(
            f"the model was trained with nuclei from {trained.source}; {origin.source} may count otherwise"
        )


def with_masks(
    sections: Sequence[Section], nuclei: NucleiConfig, origin: NucleiOrigin | None
) -> tuple[Section, ...]:
    """The sections with the mask of each, where nuclei come from masks.

    Raises:
        ConfigError: a section has no mask, or one file is meant for several.
        NucleiError: a slide is too coarse for a segmenter.
    """
    for section in sections:
        refuse_unseen(section, nuclei)
    if nuclei.mode == "off" or nuclei.source != "mask":
        return tuple(replace(s, nuclei_file=None) for s in sections)
    origin = origin or NucleiOrigin("mask")
    refuse_one_mask(origin, len(sections))
    return tuple(
        replace(s, nuclei_file=origin.mask_of(s.section_id, s.nuclei_file)) for s in sections
    )


def refuse_unseen(section: Section, nuclei: NucleiConfig) -> None:
    """Raise NucleiError where a segmenter is meant to find nuclei on a slide that is too coarse for it."""
    if nuclei.mode != "off" and nuclei.source != "mask":
        refuse_coarse(section.geometry.mpp, section.section_id)


def refuse_one_mask(origin: NucleiOrigin, n_sections: int) -> None:
    """Raise ConfigError where one mask is given for several slides."""
    if origin.path is not None and origin.path.is_file() and n_sections > 1:
        raise ConfigError(
            expected=f"a folder of masks, one a section, for {n_sections} sections",
            found=f"the file {origin.path}",
            remedy="give its folder, or the manifest's column `nuclei` and --nuclei mask",
        )


def find_nuclei(
    cohort: Cohort, nuclei: NucleiConfig, machine: Machine, reporter: Reporter
) -> Cohort:
    """The cohort with the factor of every section, and the counts in their `obs`; as it is with mode off.

    Raises:
        NucleiError: nuclei cannot be found on a section.
        SlideError: a slide cannot be read.
    """
    if nuclei.mode == "off":
        return cohort
    items = []
    total = sum(item.section.n_spots for item in cohort.items)
    with reporter.task(f"counting nuclei ({nuclei.source})", total) as advance:
        for item in cohort.items:
            section = item.section
            counts = count_section(
                section,
                nuclei,
                device=device_name(machine),
                cache_dir=machine.cache,
                advance=advance,
            )
            factor = nuclei_factor(counts, nuclei.mode, section=section.section_id)
            items.append(replace(item, section=with_counts(section, counts), nuclei=factor))
    return replace(cohort, items=tuple(items))
