"""Asks the real addresses of public data whether they answer: `python -m benchmarks.addresses`; exit code 1 where one does not."""

from __future__ import annotations

import sys


def main() -> int:
    from hespotex.public.addresses import check_addresses

    wrong = 0
    for name, what, error in check_addresses():
        wrong += error is not None
        print(f"{name}: {what}: {'as expected' if error is None else error}", flush=True)
    print(f"{wrong} of the addresses are not as expected")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
