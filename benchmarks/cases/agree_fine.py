"""`agree` of two sections of 200,000 spots and 2,000 genes each, measured and predicted, the map between them given."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.data import machine
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import peak_memory_gb, timed

NAME = "agree-fine"
PITCH_UM = 16.0
MOST_S = 300.0
MOST_GB = 4.0


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    return {"fine": {"spots": 200_000 if context.full else 20_000, "genes": 2_000, "seed": 0}}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from hespotex.analysis.agree import agree, summary
    from hespotex.geometry import CommonFrame, SectionFrame, write_frames

    machine(context)
    folder = context.work / "agree-fine"
    shutil.rmtree(folder, ignore_errors=True)
    for number in (0, 1):
        write_fine_section(folder / "predictions" / f"S{number + 1}.h5ad", number, parameters)
    write_frames(folder / "frames.json", CommonFrame({f"S{n}": SectionFrame(0.5) for n in (1, 2)}))
    made = peak_memory_gb()
    with timed() as spent:
        found = agree(folder, folder / "out", pairs=["S1:S2"], transform=folder / "frames.json")
    table = summary(found)
    consistent = table[table["what"] == "predicted A / predicted B"]["pcc"].tolist()
    shutil.rmtree(folder)
    return {
        "made_gb": made,
        "peak_gb": peak_memory_gb(),
        "n_places": int(table["n_places"].iloc[0]),
        "consistent": consistent,
        **spent.as_dict(),
    }


def write_fine_section(path: Path, number: int, parameters: Mapping[str, Any]) -> None:
    """Smooth maps of genes that both sections share, noise of their own, counts drawn from them; chunk by chunk."""
    import h5py
    from anndata.io import write_elem

    from hespotex import keys
    from hespotex.evaluation.ridge_maps import RidgeMaps
    from hespotex.evaluation.trust import Extras
    from hespotex.export.h5ad_chunks import write_prediction_by_chunks
    from hespotex.geometry import Geometry
    from hespotex.sections.section import Section

    side = round(np.sqrt(int(parameters["spots"])))
    n, n_genes = side * side, int(parameters["genes"])
    row, column = np.divmod(np.arange(n), side)
    xy_um = np.stack([column, row], axis=1) * PITCH_UM
    section = Section(
        section_id=f"S{number + 1}", patient_id="P", slide=None,
        geometry=Geometry(mpp=0.5, spot_pitch_um=PITCH_UM, spot_diameter_um=PITCH_UM),
        barcodes=np.array([f"{r}x{c}" for r, c in zip(row, column, strict=True)]),
        xy_px0=xy_um / 0.5, counts=None, genes=None,
    )  # fmt: skip
    shared = np.random.default_rng([int(parameters["seed"]), 1])
    own = np.random.default_rng([int(parameters["seed"]), 2, number])
    waves = shared.uniform(1, 6, size=(2, 16)) / (side * PITCH_UM) * 2 * np.pi
    spots = np.sin(xy_um @ waves + shared.uniform(0, 6, 16)).astype(np.float32)
    of_genes = shared.normal(scale=0.15, size=(n_genes, 16)).astype(np.float32)
    log_share = shared.normal(scale=0.7, size=n_genes).astype(np.float32) - np.log(n_genes)
    drawn: list[sparse.csr_matrix] = []

    def chunks(step: int = 4096) -> Any:
        for start in range(0, n, step):
            part = slice(start, min(start + step, n))
            clean = spots[part] @ of_genes.T
            noisy = clean + 0.3 * own.standard_normal(clean.shape, dtype=np.float32)
            drawn.append(
                sparse.csr_matrix(own.poisson(100 * np.exp(log_share + clean)), dtype=np.float32)
            )
            yield (
                part,
                {keys.COMPOSITION: noisy, "log1p": np.log1p(1e6 * np.exp(log_share + noisy))},
            )

    path.parent.mkdir(parents=True, exist_ok=True)
    ridge = RidgeMaps(spots, of_genes, of_genes)
    write_prediction_by_chunks(
        path, section=section, genes=[f"G{j}" for j in range(n_genes)],
        depth=own.gamma(20, 5, n).astype(np.float32), extras=Extras(), chunks=chunks(), thumbnail=None, provenance={},
    )  # fmt: skip
    with h5py.File(path, "a") as file:
        write_elem(file, f"layers/{keys.MEASURED_COUNTS}", sparse.vstack(drawn, format="csr"))
        write_elem(file, f"var/{keys.MEASURED}", np.ones(n_genes, bool))
        write_elem(file, f"obsm/{keys.RIDGE}", ridge.spots)
        for name in (keys.RIDGE_LOG1P, keys.RIDGE_COMPOSITION):
            write_elem(file, f"varm/{name}", of_genes)


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    if "fine" not in found:
        return []
    f = found["fine"]
    rows = (
        Row("wall time", f"{f['wall_s']:.0f} s", f"{f['core_s']:.0f} core s; {f['n_places']:,} places", f"{MOST_S:.0f} s", f["wall_s"] < MOST_S),
        Row("largest memory", f"{f['peak_gb']:.2f} GB", f"{f['made_gb']:.2f} GB after making the files", f"{MOST_GB:.0f} GB", f["peak_gb"] < MOST_GB),
    )  # fmt: skip
    return [Table("Agreement of fine sections", ("what", "found", "beside", "bar"), rows)]
