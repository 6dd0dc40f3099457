"""A model adapted to one section of another patient: as it came, adapted and the section alone, on left-out parts of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.data import C, machine
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import timed

NAME = "adapt"
# name: (data, trained on, own, parts of it that are left out in turn)
SPLITS: Mapping[str, tuple[str, tuple[str, ...], str, int]] = {
    "C-to-B4-halves": ("her2st", C, "B4", 2),
    "C-to-B4": ("her2st", C, "B4", 4),
    "MOB4-to-MOB9-halves": ("mob", ("MOB4",), "MOB9", 2),
    "MOB4-to-MOB9": ("mob", ("MOB4",), "MOB9", 4),
}


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    return {
        name: {"data": data, "train": list(train), "own": own, "blocks": blocks}
        for name, (data, train, own, blocks) in SPLITS.items()
        if context.has(data)
    }


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from hespotex.config import EncoderConfig, RunConfig
    from hespotex.models.adapting import new_genes
    from hespotex.models.fit import fit_bundle
    from hespotex.progress import Silent
    from hespotex.stages import encode, read_sections
    from hespotex.validation.adaptation import (
        choose_strength,
        held_out_round,
        parts_of,
        summary,
    )

    where = machine(context)
    config = RunConfig(seed=0, encoder=EncoderConfig(reading="patches"))
    manifest = context.data / parameters["data"] / "sections.csv"
    known, own = (
        encode(read_sections(manifest, ids, Silent()), config, where, Silent())
        for ids in (parameters["train"], [parameters["own"]])
    )
    base = fit_bundle(known, config, machine=where)
    with timed() as spent:
        found = held_out_round(base, parts_of(own, n_blocks=parameters["blocks"]), where)
        chosen = choose_strength(base, own, machine=where)
    new = len(new_genes(base, [i.section for i in own.items]))
    record = summary(base, [found], chosen, held_out="blocks", note="", new=new)
    strengths = [f"{p} {lv}" for p, lv in found.strengths]
    return {
        "genes": len(base.genes),
        "record": record.plain(),
        "strengths": strengths,
        **spent.as_dict(),
    }


def tables(found: Mapping[str, dict[str, Any]], context: Context) -> Sequence[Table]:
    from hespotex.storage.adaptation_record import ADAPTED, CAME, OWN, ROWS, AdaptationRecord

    rows = []
    for name, result in found.items():
        record = AdaptationRecord.model_validate(result["record"])
        _, train, own, blocks = SPLITS[name]
        better = max((CAME, OWN), key=lambda n: record.rows[n].pcc_composition_mean)
        for row, words in ROWS.items():
            scores, against = record.rows[row], record.differences.get(row)
            beside = f"{scores.pcc_composition_abundant200:.4f}; {scores.rmse_log1p:.3f}"
            said = ""
            if against is not None:
                said = f"adapted less this {against.value:+.4f} [{against.lower:+.4f}, {against.upper:+.4f}]"
            bar, met = "", None
            if row == ADAPTED:
                bar = f"not worse than the better of the others ({ROWS[better]})"
                met = record.differences[better].upper >= 0
            what = f"{', '.join(train)} to {own}, {blocks} blocks: {words}"
            rows.append(
                Row(what, f"{scores.pcc_composition_mean:.4f}", beside, bar, met, note=said)
            )
    columns = ("what", "composition PCC, all genes", "200 abundant; RMSE log1p", "bar")
    notes = (
        "blocks of the own section, two pitches between them and what is fitted on; 95 % intervals over ten spatial blocks",
    )
    return [Table("Adapting a model to a section of another patient", columns, tuple(rows), notes)]
