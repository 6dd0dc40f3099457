"""The identity of a run, which is all that its result depends on, and whether that result is there already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hespotex.config import RunConfig
from hespotex.progress import Reporter
from hespotex.results.places import note_place
from hespotex.sections.inputs import section_inputs
from hespotex.sections.section import Section
from hespotex.storage.clock import versions
from hespotex.storage.run_folder import RunDir
from hespotex.storage.run_record import Identity


def run_identity(
    verb: str, config: RunConfig, sections: Sequence[Section], **more: Any
) -> Identity:
    """What a result depends on; a folder that holds another identity is refused.

    Where the slides lie is noted beside, in the user's cache: `view` finds them there.
    """
    return Identity(
        verb=verb,
        hespotex=versions()["hespotex"],
        config=config.model_dump(mode="json"),
        inputs={s.section_id: _input(s) for s in sections},
        **more,
    )


def finished_before(run: RunDir, identity: Identity, reporter: Reporter) -> bool:
    """Claim the folder for a run; True, and said, where the very same one is finished there."""
    if not run.begin(identity):
        return False
    reporter.say(f"{run.path} holds this very run, finished: nothing to do")
    return True


def _input(section: Section) -> dict[str, Any]:
    seen = section_inputs(section)
    if section.slide is not None:
        note_place(seen["slide"], section.slide)
    accepted = {"accepted": list(section.accepted)} if section.accepted else {}
    return {**seen, "carried": section.carried_key(), **accepted}
