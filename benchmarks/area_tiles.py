"""How often tiles of a fine map are computed: the order of spots and the rule of what is kept, without a network.

python -m benchmarks.area_tiles [SIDE_PX] [--mpp 0.5] [--pitch-um 16]
"""

from __future__ import annotations

import argparse
from collections import Counter, OrderedDict

import numpy as np

from hespotex.encoders import offline
from hespotex.features import area
from hespotex.features.appearance import n_cell_moments
from hespotex.features.area import FIRST, THEN, Place, tiles_under
from hespotex.features.patches import PatchPlan, reading_order
from hespotex.features.prices import FIRST_S, THEN_S
from hespotex.predicting.store import CHUNK_SPOTS
from hespotex.spots.grid import spot_grid

_SIDES_UM = (77.2, 154.5, 309.0, 617.9)
_CELLS = 7


def main() -> int:
    """Print, for each side of the patches, computed tiles and different ones, and what that costs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("side_px", type=int, nargs="?", default=13_000)
    parser.add_argument("--mpp", type=float, default=0.5)
    parser.add_argument("--pitch-um", type=float, default=16.0)
    given = parser.parse_args()
    xy, _ = spot_grid(given.side_px, given.side_px, given.mpp, given.pitch_um, "square")
    xy = xy[reading_order(xy)]
    plan = PatchPlan(_SIDES_UM, offline.SIZE_PX)
    print(f"{given.side_px:,} px, {len(xy):,} spots")
    spent = least = 0.0
    for number, side_px0 in enumerate(plan.sides_px0(given.mpp)):
        described = number in (0, len(_SIDES_UM) - 1)
        early, late = _computed(xy, side_px0 / _CELLS, described)
        spent += early.total() * FIRST_S + late.total() * THEN_S
        least += len(early) * FIRST_S + len(late) * THEN_S
        print(
            f"{_SIDES_UM[number]:g} um: early layers {early.total():,} of {len(early):,} "
            f"({early.total() / len(early):.2f}x), late layers {late.total():,} of {len(late):,} "
            f"({late.total() / len(late):.2f}x)"
        )
    print(f"{spent:.0f} core-s, {least:.0f} if every tile were computed once: {spent / least:.2f}x")
    return 0


def _computed(
    xy_px0: np.ndarray, cell_px0: float, described: bool
) -> tuple[Counter[Place], Counter[Place]]:
    """How often each tile of early and of late layers is computed."""
    channels = [c for c, _ in offline.STAGES]
    seen = n_cell_moments(offline.SIZE_PX) if described else 0
    early_k = 2 * sum(channels[: offline.N_EARLY]) + offline.N_MAP + seen
    late_k = 2 * sum(channels) + seen
    room_early, room_late = (
        area._KEPT_BYTES // (len(_SIDES_UM) * tile.cells**2 * k * 4) // 2
        for tile, k in ((FIRST, early_k), (THEN, late_k))
    )
    early, late = Counter[Place](), Counter[Place]()
    kept_early, kept_late = OrderedDict[Place, None](), OrderedDict[Place, None]()
    for at in range(0, len(xy_px0), CHUNK_SPOTS):
        part = xy_px0[at : at + CHUNK_SPOTS]
        first = np.floor(part[:, ::-1] / cell_px0 - _CELLS / 2).astype(np.intp)
        for under in sorted(set(area._corners(first, _CELLS, THEN.cells))):
            for place in under:
                if place not in kept_late:
                    late[place] += 1
                    places = area._early_places(place)
                    early.update(p for p in places if p not in kept_early)
                    _keep(kept_early, places, room_early)
                    kept_late[place] = None
            _keep(kept_late, under, room_late)
    read, lying = tiles_under(xy_px0, cell_px0, _CELLS, in_two=True)
    assert read == set(early)
    assert lying == set(late)
    return early, late


def _keep(store: OrderedDict[Place, None], places: tuple[Place, ...], room: int) -> None:
    for place in places:
        store[place] = None
        store.move_to_end(place)
    while len(store) > max(len(places), room):
        store.popitem(last=False)


if __name__ == "__main__":
    raise SystemExit(main())
