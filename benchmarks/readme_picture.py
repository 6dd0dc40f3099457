"""The picture of the README: known genes of a held-out olfactory bulb, measured beside predicted.

hespotex cross-validate mob/sections.csv --out RUN
python -m benchmarks.readme_picture RUN/predictions/MOB4.h5ad docs/images/bulb_genes.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import anndata
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

# A gene of each of three layers, and one that was not shown to be predicted; the tables name them by Ensembl.
GENES = {
    "ENSMUSG00000019874": "Fabp7 (nerve layer)",
    "ENSMUSG00000024871": "Doc2g (mitral cells)",
    "ENSMUSG00000090223": "Pcp4 (granule cells)",
    "ENSMUSG00000029580": "Actb (everywhere)",
}


def main(prediction: Path, picture: Path) -> None:
    section = anndata.read_h5ad(prediction)
    xy_um = section.obsm["spatial"] * section.uns["hespotex"]["mpp"]
    counts = np.asarray(section.layers["measured_counts"].todense())
    section.var_names = [name.split(".")[0] for name in section.var_names]
    part = np.log((counts + 1) / counts.sum(axis=1, keepdims=True))
    fig, axes = plt.subplots(2, len(GENES), figsize=(9.6, 4.9), layout="constrained")
    for column, (gene, title) in zip(axes.T, GENES.items(), strict=True):
        place = section.var_names.get_loc(gene)
        told = section.var.loc[gene]
        grade = f"grade {told['grade']}" + (" (not shown)" if told["grade"] == "D" else "")
        for ax, values in zip(
            column, (part[:, place], section.layers["composition"][:, place]), strict=True
        ):
            low, high = np.percentile(values, [2, 98])
            ax.scatter(*xy_um.T, c=values, s=34, vmin=low, vmax=high, linewidths=0)
            ax.set(aspect="equal", xticks=[], yticks=[])
            ax.invert_yaxis()
            for side in ax.spines.values():
                side.set_visible(False)
        column[0].set_title(title, fontsize=11)
        column[1].set_title(f"{grade}, PCC {told['score']:.2f}", fontsize=11)
    axes[0, 0].set_ylabel("measured", fontsize=11)
    axes[1, 0].set_ylabel("predicted from H&E", fontsize=11)
    left, low_end = xy_um[:, 0].min(), xy_um[:, 1].max() + 180
    axes[1, 0].plot([left, left + 1000], [low_end, low_end], color="black", linewidth=2)
    axes[1, 0].text(left + 500, low_end + 60, "1 mm", ha="center", va="top", fontsize=8)
    fig.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
