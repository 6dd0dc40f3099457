"""Owns how a run reads its sections: all of them, checked as `hespotex inspect` does, red stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hespotex.config import InputChoices
from hespotex.copies import check_distinct
from hespotex.errors import ConfigError
from hespotex.inspection.checks import check_sections, left_out_text, refuse_errors
from hespotex.inspection.findings import Finding, accept_findings
from hespotex.progress import Reporter
from hespotex.section import ManifestRow, Section, read_section


def read_checked(
    rows: Sequence[ManifestRow], choices: InputChoices, reporter: Reporter
) -> tuple[Section, ...]:
    """Read sections and check them, each by itself and against the others.

    What was accepted is warned of and stands in `Section.accepted`, from where every output has it.

    Raises:
        HESpotExError: a section cannot be read, or a red finding was not accepted.
    """
    check_named(choices, [row.section_id for row in rows])
    sections = []
    with reporter.task("reading sections", len(rows)) as advance:
        for row in rows:
            section = read_section(row, choices)
            sections.append(section)
            for reason, count in section.dropped.items():
                reporter.say(f"section {section.section_id}: {left_out_text(reason, count)}")
            for sentence in section.accepted:
                reporter.warn(f"section {section.section_id}: accepted: {sentence}")
            advance(1)
    check_distinct(sections)
    findings, accepted = accept_findings(check_sections(sections), choices)
    for finding in findings:
        if finding.colour == "yellow":
            reporter.warn(str(finding))
    refuse_errors(findings)
    return tuple(
        replace(s, accepted=(*s.accepted, *accepted.get(s.section_id, ()))) for s in sections
    )


def check_named(choices: InputChoices, section_ids: Sequence[str]) -> None:
    """Refuse `--accept CODE:SECTION` with a section that is not there: it would do nothing, silently.

    Raises:
        ConfigError: names the section.
    """
    unknown = [name for name in choices.named_sections if name not in section_ids]
    if unknown:
        raise ConfigError(
            f"expected sections of {', '.join(section_ids)} with --accept, found {', '.join(unknown)}"
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
