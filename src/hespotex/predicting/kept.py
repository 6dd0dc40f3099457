"""`predict --keep-features`: the encoder's features of slides and of sections, beside their h5ad."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hespotex.encoders.given import FEATURES_FILE
from hespotex.features.kept import MadeBy, kept_beside, kept_bytes, said_key, write_kept
from hespotex.features.patches import PatchPlan
from hespotex.models.bundle import Bundle
from hespotex.models.types import Cohort
from hespotex.predicting.options import SlideOptions, SlideTask
from hespotex.predicting.store import FeatureStore
from hespotex.progress import Reporter
from hespotex.sections.section import Section
from hespotex.storage.disk_room import check_room, in_words
from hespotex.storage.run_folder import RunDir


def kept_of(run: RunDir, task: SlideTask, key: str) -> bool:
    """Whether nothing is to be kept, or the features of this very prediction are."""
    path = _path(run, task.section_id)
    return not task.options.keep_features or said_key(path) == key


def kept_sentence(n_spots: int, width: int) -> str:
    """What is going to be kept, before the work."""
    size = in_words(kept_bytes(n_spots, width))
    return f"features are kept: {n_spots:,} spots x {width:,} numbers, {size}"


def keep_slide(
    run: RunDir,
    bundle: Bundle,
    section: Section,
    plan: PatchPlan,
    features: FeatureStore,
    options: SlideOptions,
    key: str,
) -> dict[str, Path]:
    """Keep the features of a slide where that is asked for, chunk by chunk; the path by label.

    Raises:
        RunError: the disk is full.
    """
    if not options.keep_features:
        return {}
    path, side = _path(run, section.section_id), plan.sides_px0(section.geometry.mpp)[0]
    made_by = _made_by(bundle, plan.reading)
    write_kept(path, made_by, section.xy_px0, side, (c.features for c in features), key)
    return {"features": path}


def lacking(run: RunDir, sections: Sequence[Section], options: SlideOptions) -> bool:
    """Whether features of a section are to be kept that are not there yet."""
    own = [s for s in sections if s.features_file is None]
    return options.keep_features and any(said_key(_path(run, s.section_id)) is None for s in own)


def keep_sections(
    run: RunDir, bundle: Bundle, cohort: Cohort, reading: str, reporter: Reporter
) -> None:
    """Keep the features of sections; they are in the cache, too, which may be emptied.

    Raises:
        RunError: the disk is full, or has no room for them.
    """
    if cohort.encoder.name == FEATURES_FILE:
        reporter.say("features were given as files: they are not kept again")
        return
    sizes = [(i.section.n_spots, i.features[0].size) for i in cohort.items]
    whole = sum(kept_bytes(*size) for size in sizes)
    reporter.say(kept_sentence(sum(n for n, _ in sizes), sizes[0][1]))
    check_room(run.predictions, whole, of="features", remedy="leave --keep-features out")
    plan = PatchPlan(bundle.sides_um, bundle.encoder.size_px)
    for item in cohort.items:
        section = item.section
        side = plan.sides_px0(section.geometry.mpp)[0]
        path = _path(run, section.section_id)
        write_kept(path, _made_by(bundle, reading), section.xy_px0, side, [item.features])


def _path(run: RunDir, section_id: str) -> Path:
    return kept_beside(run.predictions / f"{section_id}.h5ad")


def _made_by(bundle: Bundle, reading: str) -> MadeBy:
    encoder, projection = bundle.encoder, bundle.config.encoder.projection
    return MadeBy(encoder.name, encoder.key, bundle.sides_um, reading, projection)
