"""What the result of a run depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hespotex.config import RunConfig
from hespotex.sections.inputs import section_inputs
from hespotex.sections.section import Section
from hespotex.storage.clock import versions


def run_identity(
    verb: str, config: RunConfig, sections: Sequence[Section], **more: Any
) -> dict[str, Any]:
    """What a result depends on; a folder that holds another identity is refused."""
    return {
        "verb": verb,
        "hespotex": versions()["hespotex"],
        "config": config.model_dump(mode="json"),
        "inputs": {s.section_id: _input(s) for s in sections},
        **more,
    }


def _input(section: Section) -> dict[str, Any]:
    accepted = {"accepted": list(section.accepted)} if section.accepted else {}
    return {**section_inputs(section), "carried": section.carried_key(), **accepted}
