"""The preflight of an input: everything that can be known to be wrong before any work is done."""

from hespotex.inspection.checks import check_sections, refuse_errors
from hespotex.inspection.findings import Finding, exit_code, verdict
from hespotex.inspection.inspect import Inspected, Inspection, inspect_input

__all__ = [
    "Finding",
    "Inspected",
    "Inspection",
    "check_sections",
    "exit_code",
    "inspect_input",
    "refuse_errors",
    "verdict",
]
