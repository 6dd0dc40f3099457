"""The preflight of an input: everything that can be known to be wrong before any work is done."""

from hespotex.inspection.checks import check_sections, refuse_errors
from hespotex.inspection.findings import Finding, accept_findings, exit_code, verdict
from hespotex.inspection.inspect import Inspected, Inspection, inspect_input
from hespotex.inspection.naming import GivenPanel
from hespotex.inspection.reading import check_named, given_panel, read_checked

__all__ = [
    "Finding",
    "GivenPanel",
    "Inspected",
    "Inspection",
    "accept_findings",
    "check_named",
    "check_sections",
    "exit_code",
    "given_panel",
    "inspect_input",
    "read_checked",
    "refuse_errors",
    "verdict",
]
