"""Encoding: milliseconds a patch and core, the default encoder's engine beside plain torch, and the largest difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.data import machine, patches
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import ratio, scaled, time_of

NAME = "encoding"
BAR_MS, BAR_DIFFERENCE = 12.0, 1e-4


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    return {"one-core": {"patches": 512 if context.full else 128, "batch": 48}}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    import torch

    from hespotex.config import RunConfig
    from hespotex.encoders import get_encoder, offline
    from hespotex.encoders.stages import StageStatistics

    torch.set_num_threads(1)
    machine(context)
    encoder = get_encoder(RunConfig().encoder.name, device="cpu", threads=1)
    pixels = patches(parameters["patches"], encoder.size_px)
    net = StageStatistics(offline.build_model()).eval()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) * 255 for v in (encoder.mean, encoder.std))

    def ours() -> np.ndarray:
        step = parameters["batch"]
        return np.concatenate(
            [encoder.encode(pixels[i : i + step]) for i in range(0, len(pixels), step)]
        )

    def plain() -> np.ndarray:
        rows = []
        with torch.inference_mode():
            for part in torch.from_numpy(pixels).split(32):
                x = ((part.permute(0, 3, 1, 2).float() - mean) / std).contiguous()
                rows.append(net(x).numpy())
        return np.concatenate(rows)

    encoder.encode(pixels[:8])  # the first batch allocates
    repeats = 3 if context.full else 2
    a, fast = time_of(ours, repeats)
    b, slow = time_of(plain, repeats)
    return {
        "encoder": encoder.name,
        "engine": encoder.engine,
        "features": int(a.shape[1]),
        "patches": len(pixels),
        "ours": fast,
        "plain_torch": slow,
        "ours_ms": scaled(fast, 1e3 / len(pixels)),
        "plain_torch_ms": scaled(slow, 1e3 / len(pixels)),
        "ratio": ratio(slow, fast),
        "largest_difference": float(np.abs(a - b).max()),
        "largest_value": float(np.abs(b).max()),
    }


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    r = found["one-core"]
    ms, plain = r["ours_ms"]["core_s"], r["plain_torch_ms"]["core_s"]
    rows = (
        Row(
            f"encode a patch, {r['encoder']} ({r['features']} features), {r['engine']}, 1 core",
            f"{ms:.1f} ms ({r['ours_ms']['wall_s']:.1f} wall)",
            f"plain torch {plain:.1f} ms ({r['plain_torch_ms']['wall_s']:.1f} wall): {r['ratio']['core']:.1f}x",
            f"<= {BAR_MS:g} ms",
            ms <= BAR_MS,
            f"core time of {r['patches']} patches, the shortest of several runs",
        ),
        Row(
            "largest difference from plain torch",
            f"{r['largest_difference']:.1e}",
            f"largest feature {r['largest_value']:.1f}",
            f"<= {BAR_DIFFERENCE:g}",
            r["largest_difference"] <= BAR_DIFFERENCE,
        ),
    )
    return [Table("Encoding", ("what", "ours", "beside", "bar"), rows)]
