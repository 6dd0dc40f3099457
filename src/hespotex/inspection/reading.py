"""How a run reads its sections: all of them, checked as `hespotex inspect` does, red stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hespotex.config import InputChoices, RunConfig
from hespotex.errors import ConfigError, GenePanelError, SpotTableError, shorten
from hespotex.genes.absent_genes import similar_names
from hespotex.genes.panel import all_genes, check_listed
from hespotex.inspection.checks import check_sections, left_out_text, refuse_errors
from hespotex.inspection.findings import Finding, accept_findings
from hespotex.inspection.naming import NO_PANEL, GivenPanel, join_sections, name_sections
from hespotex.models.bundle import Bundle
from hespotex.progress import Reporter
from hespotex.sections.duplicates import check_distinct
from hespotex.sections.section import ManifestRow, Section, read_section
from hespotex.storage.spill import Spill


def read_checked(
    rows: Sequence[ManifestRow],
    choices: InputChoices,
    reporter: Reporter,
    panel: GivenPanel = NO_PANEL,
    *,
    needs_image: bool = True,
    to_train: bool = False,
    spill: Spill | None = None,
) -> tuple[Section, ...]:
    """Read sections and check them, each by itself, against the others and against a model's genes.

    Genes have one name in all of them, the panel's where it has one. What was accepted is warned of and stands in
    `Section.accepted`, from where every output has it.

    Args:
        reporter: hears what was left out, joined and accepted.
        panel: that the sections are given to.
        needs_image: False where positions and counts alone are asked for.
        to_train: a section without counts is refused, before any work.
        spill: keeps the counts of all sections; None: memory does.

    Raises:
        HESpotExError: a section cannot be read, or a red finding was not accepted.
    """
    check_named(choices, [row.section_id for row in rows])
    for row in rows:
        if to_train and row.expression is None:
            raise _no_counts(row.section_id)
    read = []
    with reporter.task("reading sections", len(rows)) as advance:
        for row in rows:
            section = read_section(row, choices)
            if to_train and section.counts is None:
                raise _no_counts(row.section_id)
            if spill is not None and section.counts is not None:
                section = replace(section, counts=spill.counts(section.counts))
            read.append(section)
            for reason, count in section.dropped.items():
                reporter.say(f"section {section.section_id}: {left_out_text(reason, count)}")
            for sentence in section.accepted:
                reporter.warn(f"section {section.section_id}: accepted: {sentence}")
            advance(1)
    named, renamed = name_sections(read, choices, panel)
    sections, joined = join_sections(named, panel)
    for finding in (*renamed, *joined):
        (reporter.warn if finding.colour == "yellow" else reporter.say)(str(finding))
    check_distinct(sections)
    if panel.listed:
        _check_listed(panel.genes, sections, reporter)
    _check_added(panel.added, sections, reporter)
    findings, accepted = accept_findings(
        check_sections(sections, panel, needs_image=needs_image), choices
    )
    for finding in findings:
        if finding.colour == "yellow":
            reporter.warn(str(finding))
    refuse_errors(findings)
    return tuple(
        replace(s, accepted=(*s.accepted, *accepted.get(s.section_id, ()))) for s in sections
    )


def _no_counts(section_id: str) -> SpotTableError:
    return SpotTableError(
        expected="counts to train on",
        found="positions alone",
        remedy=(
            "give `expression` in the manifest, or leave the section out with --sections (predict "
            "takes it)"
        ),
        section=section_id,
    )


def given_panel(of: RunConfig | Bundle | None) -> GivenPanel:
    """The genes of a model, or those that a configuration lists; none where it chooses by rules."""
    if isinstance(of, Bundle):
        return GivenPanel(of.genes)
    if of is None:
        return NO_PANEL
    listed = (of.panel.genes or ()) if of.panel.kind == "list" else ()
    return GivenPanel(listed, listed=bool(listed), added=of.panel.add)


def _check_listed(genes: tuple[str, ...], sections: Sequence[Section], reporter: Reporter) -> None:
    """Say before any work which listed genes no table has, and refuse a list of other names."""
    unknown = check_listed(genes, [s for s in sections if s.genes is not None])
    if unknown:
        reporter.warn(
            f"{len(unknown):,} of {len(genes):,} listed genes are in no section's table, and count as 0 where tables "
            f"leave out what was never seen: {shorten(unknown)}"
        )


def _check_added(genes: tuple[str, ...], sections: Sequence[Section], reporter: Reporter) -> None:
    """Say before any work which genes cannot be added since no table has them.

    Raises:
        GenePanelError: none can.
    """
    measured = (
        set(all_genes([s for s in sections if s.genes is not None]).tolist()) if genes else set()
    )
    absent = [gene for gene in genes if gene not in measured]
    if not absent:
        return
    near = similar_names(absent[0], sorted(measured))
    names = f"{shorten(absent)}; check the names" + (
        f" (similar: {', '.join(near)})" if near else ""
    )
    if len(absent) == len(genes):
        raise GenePanelError(
            expected="genes of the sections' tables to add", found=f"in none: {names}"
        )
    reporter.warn(
        f"{len(absent):,} of {len(genes):,} genes cannot be added, since no section's table has them: {names}"
    )


def check_named(choices: InputChoices, section_ids: Sequence[str]) -> None:
    """Refuse `--accept CODE:SECTION` with a section that is not there: it would do nothing, silently.

    Raises:
        ConfigError: names the section.
    """
    unknown = [name for name in choices.named_sections if name not in section_ids]
    if unknown:
        raise ConfigError(
            expected=f"sections of {', '.join(section_ids)} with --accept", found=", ".join(unknown)
        )


def idle_mpp(choices: InputChoices, rows: Sequence[ManifestRow]) -> list[Finding]:
    """Say of `--accept mpp` where it does nothing: it lets the manifest's mpp win, and there is none."""
    silent = [row.section_id for row in rows if row.mpp is None]
    named = [section_id for section_id in silent if f"mpp:{section_id}" in choices.accept]
    if "mpp" in choices.accept and len(silent) == len(rows):
        named = silent
    return [
        Finding(
            section_id,
            "scale",
            "warning",
            "--accept mpp does nothing: it lets the mpp of a manifest count, and none is stated",
            "state the true mpp in a manifest, or leave --accept mpp out",
        )
        for section_id in named
    ]
