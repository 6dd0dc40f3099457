"""Stages of runs on sections: reading them, encoding their patches, predicting them at their own spots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hespotex.config import FoldConfig, InputChoices, Machine, RunConfig
from hespotex.encoders.cache import spill_of
from hespotex.evaluation.set_scores import with_gene_sets
from hespotex.features.encode import encode_section, patch_plan
from hespotex.genes.gene_sets import sets_key
from hespotex.inspection import given_panel, read_checked
from hespotex.models.bundle import Bundle, read_model
from hespotex.models.encoder_match import (
    check_same_encoder,
    encode_config,
    encoder_name,
    encoder_record,
    load_encoder,
    patch_config,
)
from hespotex.models.reading import chosen_reading, reading_of, say_of_reading
from hespotex.models.types import Cohort, EncodedSection
from hespotex.nuclei import NucleiOrigin
from hespotex.nuclei.stage import (
    configured,
    find_nuclei,
    for_prediction,
    say_of_nuclei,
    with_masks,
)
from hespotex.predicting import Plan, SlideOptions
from hespotex.predicting.at_spots import predict_at_spots
from hespotex.predicting.beside import write_beside
from hespotex.predicting.executor import ToLoad
from hespotex.predicting.gene_choice import refuse_unwritten, say_absent
from hespotex.predicting.kept import keep_sections, lacking
from hespotex.progress import Reporter
from hespotex.results.absent_table import write_absent_of_model
from hespotex.results.announce import say_what_lacks
from hespotex.results.identity import finished_before, run_identity
from hespotex.results.outcome import RunResult
from hespotex.sections.fine import in_squares
from hespotex.sections.manifest import ManifestRow, read_manifest
from hespotex.sections.section import Section
from hespotex.sections.splits import folds_for
from hespotex.storage.clock import StageClock
from hespotex.storage.run_folder import RunDir
from hespotex.storage.spill import release_pages


def read_sections(
    manifest: Path | Sequence[ManifestRow],
    ids: Sequence[str] | None,
    reporter: Reporter,
    choices: InputChoices | None = None,
    of: RunConfig | Bundle | None = None,
    scored: bool = True,
    machine: Machine | None = None,
) -> tuple[Section, ...]:
    """Stage 1: a manifest (or its rows) becomes sections, checked as `hespotex inspect` does; red stops here.

    `of` says for what: the configuration of a fit, a model, or None. Fine bins that are `scored` become squares. Counts beyond
    what memory is given stand on the disk, in the machine's cache folder.
    """
    config = of.config if isinstance(of, Bundle) else of or RunConfig()
    choices = replace(choices or InputChoices(), grid=config.pooling.grid)
    rows = read_manifest(manifest, ids).rows if isinstance(manifest, Path) else manifest
    to_train = isinstance(of, RunConfig)
    spill = spill_of(machine)
    read = read_checked(rows, choices, reporter, given_panel(of), to_train=to_train, spill=spill)
    release_pages()
    return in_squares(read, config.pooling, reporter) if scored else read


def encode(
    sections: Sequence[Section], config: RunConfig, machine: Machine, reporter: Reporter
) -> Cohort:
    """Stage 2: patches become features, nuclei are counted where the model has them; both once, in the cache."""
    encoder = load_encoder(encoder_name(config, sections), machine)
    patches = patch_config(config, sections)
    plan = patch_plan(encoder, patches, config.encoder.read_as)
    items, sides_um, spill = [], plan.sides_um, spill_of(machine)
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
            values = spill.array(encoded.values)
            items.append(EncodedSection(section, values, appearance=encoded.appearance))
            sides_um = encoded.sides_um
    cohort = Cohort(tuple(items), encoder_record(encoder, items[0].features.shape[2]), sides_um)
    return find_nuclei(cohort, config.nuclei, machine, reporter)


def read_to_fit(
    manifest: Path,
    ids: Sequence[str] | None,
    config: RunConfig | None,
    nuclei: str | None,
    choices: InputChoices | None,
    machine: Machine,
    reporter: Reporter,
    clock: StageClock,
) -> tuple[tuple[Section, ...], RunConfig, str]:
    """Stage 1 of a fit: sections, the configuration with all that they decide, and how they are read and why."""
    origin = NucleiOrigin.asked(nuclei)
    config = configured(config or RunConfig(), origin)
    config.candidates()  # a searched value that does not fit is said before any work
    with clock.stage("read"):
        read = with_masks(
            read_sections(manifest, ids, reporter, choices, config, machine=machine),
            config.nuclei,
            origin,
        )
        by = folds_for(config.folds.by, [s.patient_id for s in read])
        config = config.model_copy(update={"folds": FoldConfig(by=by)})
        chosen = chosen_reading(config, read, machine, reporter)
    return read, chosen.config, chosen.why


def predict_sections(
    to_load: ToLoad, plan: Plan, run: RunDir, options: SlideOptions, reporter: Reporter
) -> RunResult:
    """Sections at their own spots, by the stages of a cross-validation: read, encode, predict, write."""
    model, machine, clock = to_load.model, to_load.machine, StageClock()
    bundle = with_gene_sets(read_model(model), to_load.gene_sets)
    refuse_unwritten(bundle, options)
    say_absent(bundle, options, reporter)
    with clock.stage("read"):
        read = read_sections(
            plan.rows, None, reporter, options.choices, bundle, scored=False, machine=machine
        )
    asked = for_prediction(bundle, options.nuclei_origin, bounds_offset=options.bounds_offset)
    say_of_nuclei(bundle, options.nuclei_origin, reporter)
    read, config = (
        with_masks(read, asked, options.nuclei_origin),
        encode_config(bundle, asked, options.reading),
    )
    identity = run_identity("predict", config, read, model_id=bundle.model_id,
                            all_genes=options.all_genes, untested=options.untested,
                            same_patient=options.same_patient,
                            gene_sets=sets_key(bundle.gene_sets))  # fmt: skip
    done = finished_before(run, identity, reporter)
    if not done:
        say_of_reading(bundle, config, read, options.reading, machine, reporter)
    if not done or lacking(run, read, options):
        with run.withdrawn_on_error(), clock.stage("encode"):
            cohort = encode(read, config, machine, reporter)
            check_same_encoder(model, bundle, cohort.encoder)
        if options.keep_features:
            keep_sections(run, bundle, cohort, config.encoder.read_as, reporter)
    if not done:
        say_what_lacks(bundle, reporter)
        with clock.stage("predict"):
            predict_at_spots(run, bundle, cohort, options, machine, reporter)
        write_absent_of_model(run, bundle)
        run.finish(
            identity,
            {
                "config": config.model_dump(mode="json"),
                "reading": reading_of(bundle, options.reading),
                **clock.summary(),
            },
        )
    pictures = write_beside(run, plan.rows, bundle.genes, options, reporter)
    return RunResult({"predictions": run.predictions, "pictures": pictures})
