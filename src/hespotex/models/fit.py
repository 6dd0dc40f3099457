"""From encoded training sections to a Bundle: panel, arrays, fit.

Whatever it is given is training data: nothing of a held-out section ever comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from statistics import median

from hespotex.config import Machine, RunConfig, StageConfig
from hespotex.config.values import expect_kind
from hespotex.encoders.cache import spill_of
from hespotex.errors import ConfigError, SpotTableError
from hespotex.genes.panel import GenePanel
from hespotex.models.bundle import Bundle
from hespotex.models.types import Cohort, EncodedSection, FittedModel, TrainedOn, TrainingSection
from hespotex.storage.spill import release_pages

Fit = Callable[..., FittedModel]
FEWEST_SPOTS = 2  # a single spot can be scored, and be in training beside others
_WORTH_SHARING = 20_000_000  # spots x genes


def fit_bundle(
    cohort: Cohort,
    config: RunConfig,
    *,
    machine: Machine | None = None,
    genes: Sequence[str] | None = None,
) -> Bundle:
    """Fit the panel and the model on exactly these sections.

    Args:
        cohort: training sections, all with counts.
        genes: take this panel, of a larger training part, even where no section measured a gene; None
            chooses one by the configuration.

    Raises:
        SpotTableError: a section has no counts, or there is one spot in all.
        GenePanelError: no gene passes the panel's rules.
    """
    for item in cohort.items:
        if item.section.counts is None:
            raise SpotTableError(
                expected="counts to train on",
                found="none",
                remedy="give `expression` in the manifest",
                section=item.section.section_id,
            )
    sections = [item.section for item in cohort.items]
    if sum(section.n_spots for section in sections) < FEWEST_SPOTS:
        raise SpotTableError(
            expected="at least two training spots",
            found=f"1 in {sections[0].section_id}",
            remedy="add sections or spots",
        )
    panel = (
        GenePanel.fit(sections, config.panel) if genes is None else GenePanel.given(genes, sections)
    )
    training = training_sections(cohort, panel, machine)
    fit, stage = _fit_of(config, machine)
    with _threads_for(sum(s.counts.shape[0] for s in training) * len(panel.genes)):
        model = fit(training, stage, seed=config.seed, device=device_name(machine))
    reading = config.encoder.model_copy(update={"reading": config.encoder.read_as})
    return Bundle(
        config=config.model_copy(update={"encoder": reading}),
        genes=panel.genes,
        training_totals=panel.training_totals,
        encoder=cohort.encoder,
        sides_um=cohort.sides_um,
        spot_pitch_um=median(item.section.geometry.spot_pitch_um for item in cohort.items),
        spot_diameter_um=median(item.section.geometry.spot_diameter_um for item in cohort.items),
        sections=trained_on(cohort),
        model=model,
        others=panel.others,
    )


def trained_on(cohort: Cohort) -> tuple[TrainedOn, ...]:
    """What a model file keeps of sections that it was fitted on."""
    return tuple(
        TrainedOn(
            section_id=item.section.section_id,
            patient_id=item.section.patient_id,
            key=item.section.expression_key(),
            n_spots=item.section.n_spots,
            mpp=item.section.geometry.mpp,
            accepted=item.section.accepted,
        )
        for item in cohort.items
    )


def training_sections(
    cohort: Cohort, panel: GenePanel, machine: Machine | None = None
) -> list[TrainingSection]:
    """The arrays of all sections over the panel; counts beyond what memory is given stand on the disk."""
    spill, found = spill_of(machine), []
    for item in cohort.items:
        section = training_section(item, panel)
        found.append(replace(section, counts=spill.counts(section.counts)))
    release_pages()
    return found


def training_section(item: EncodedSection, panel: GenePanel) -> TrainingSection:
    """The arrays of one section over the panel."""
    over_panel = panel.counts(item.section)
    return TrainingSection(
        section_id=item.section.section_id,
        patient_id=item.section.patient_id,
        features=item.features,
        xy_um=item.section.xy_um,
        counts=over_panel.counts,
        measured=over_panel.measured,
        nuclei=item.nuclei,
    )


def device_name(machine: Machine | None) -> str:
    """The torch device of a machine; `auto` is a CUDA GPU where there is one, else the CPU.

    Raises:
        ConfigError: this machine, or this build of torch, has no such device.
    """
    import torch

    wanted = machine.device if machine is not None else "cpu"
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return "cuda" if n_gpus else "cpu"
    kind, _, number = wanted.partition(":")
    if kind == "cuda" and int(number or 0) >= n_gpus:
        raise ConfigError(
            expected=f"the device {wanted}",
            found=f"{n_gpus} CUDA GPUs that torch {torch.__version__} can use",
            remedy="choose another --device (hespotex doctor says what is missing)",
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(
            expected="the device mps",
            found=f"none that torch {torch.__version__} can use",
            remedy="choose another --device",
        )
    return wanted


def use_threads(machine: Machine) -> None:
    """Let torch and the BLAS behind numpy use at most the machine's threads; None changes nothing."""
    expect_kind("machine", machine, Machine)
    if machine.threads is None:
        return
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(machine.threads)
    threadpool_limits(machine.threads)


def _threads_for(n_values: int) -> AbstractContextManager[object]:
    """One thread where there is little to do: the steps are too short to share.

    Measured on 1,000 genes and 250 spots: 3.6 s with one thread, 4.8 s with two on a quiet machine,
    ten times more with two on a busy one, where threads wait for one another.
    """
    from hespotex.models.workers import one_thread

    return nullcontext() if n_values >= _WORTH_SHARING else one_thread()


def _fit_of(config: RunConfig, machine: Machine | None) -> tuple[Fit, StageConfig]:
    """The fit function of the profile, and its part of the configuration."""
    if config.profile == "published":
        from hespotex.models.published.published import fit_published

        return fit_published, config.published
    from hespotex.models.default.loop import fit_model

    return partial(fit_model, spill=spill_of(machine)), config.model
