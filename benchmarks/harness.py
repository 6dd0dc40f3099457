"""How cases are run: every part in a process of its own, its result kept under a key of code and inputs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hespotex.storage.atomic import write_json
from hespotex.storage.clock import versions
from hespotex.storage.content_keys import content_key, file_key

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# Benchmarks take what the tests have: readers with their files, pages in a browser.
TESTS = str(ROOT / "tests")
RESULTS = HERE / "results"
_MACHINE_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Context:
    """What a run of the benchmarks was asked for.

    Attributes:
        full: the stated sizes rather than ones that fit into a quarter of an hour.
        data: folder with `her2st` and `mob`; its neighbours `golden` and `tools` are used where there.
        threads: cores.
    """

    full: bool
    data: Path
    threads: int

    @property
    def mode(self) -> str:
        """`full` or `quick`."""
        return "full" if self.full else "quick"

    @property
    def work(self) -> Path:
        """Folder for run folders and features; may be deleted at any time."""
        return RESULTS / "work" / self.mode

    def has(self, name: str) -> bool:
        """Whether a data set is there."""
        return (self.data / name / "sections.csv").is_file()

    @property
    def golden(self) -> Path:
        """Folder of the reference's numbers and panels."""
        return self.data.parent / "golden"

    @property
    def scorer(self) -> Path:
        """The independent scoring script."""
        return self.data.parent / "tools" / "score_predictions.py"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        what: what was measured, on what.
        found: our figure, as text.
        beside: what it stands beside (the reference, ridge, plain torch).
        bar: what was asked for.
        met: whether it is; None where there is no bar or the figure does not decide it.
        note: what is measured and what extrapolated.
    """

    what: str
    found: str
    beside: str = ""
    bar: str = ""
    met: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A titled table of the report."""

    title: str
    columns: tuple[str, str, str, str]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())


class Case(Protocol):
    """A module in `benchmarks.cases`."""

    NAME: str
    __doc__: str

    def parts(self, context: Context) -> Mapping[str, Mapping[str, Any]]:
        """Parameters of every part, by name; empty where the data are not there."""

    def run(self, parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Measure one part; JSON values."""

    def tables(self, found: Mapping[str, dict[str, Any]], context: Context) -> Sequence[Table]:
        """What follows from the parts that are done."""


def code_key() -> str:
    """Key of every source file of package and benchmarks."""
    printing = {HERE / "run.py", HERE / "markdown.py"}
    files = sorted((ROOT / "src" / "hespotex").rglob("*.py"))
    files += [
        f
        for f in sorted([*HERE.glob("*.py"), *HERE.glob("cases/*.py"), *HERE.glob("ablation/*.py")])
        if f not in printing
    ]
    return content_key(
        *(part for f in files for part in (f.relative_to(ROOT).as_posix(), file_key(f)))
    )


def input_key(context: Context) -> str:
    """Key of names and sizes of the data files, and of the panels' and reference's content."""
    sized = [
        (p.relative_to(context.data).as_posix(), p.stat().st_size)
        for name in ("her2st", "mob")
        if context.has(name)
        for p in sorted((context.data / name).rglob("*"))
        if p.is_file()
    ]
    golden = sorted(context.golden.glob("*_genes.txt")) + sorted(context.golden.glob("*.json"))
    return content_key(sized, [file_key(p) for p in golden])


def machine(threads: int) -> dict[str, Any]:
    """The processor, its cores and memory, and how many cores were used; no name of the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "threads_used": threads,
        "versions": versions(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    wide = next((f for f in ("avx512f", "avx2") if f" {f} " in f"{flags} "), "")
    return " ".join(x for x in (names[0] if names else platform.machine(), wide) if x)


def load() -> float:
    """Processes that wanted a core over the last minute: above the cores, wall times are not ours alone."""
    return round(os.getloadavg()[0], 2)


def stored(context: Context, case: str, part: str, key: str) -> dict[str, Any] | None:
    """The result of a part that is done under this key."""
    try:
        record = json.loads(_path(context, case, part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if record.get("key") == key else None


def run_part(
    context: Context, case: str, part: str, parameters: Mapping[str, Any], key: str
) -> dict[str, Any] | None:
    """Run a part in a fresh process and keep its result; None where it failed."""
    path = _path(context, case, part)
    command = [sys.executable, "-m", "benchmarks.run", "--part", f"{case}/{part}", "--data", str(context.data),
               "--threads", str(context.threads)]  # fmt: skip
    if context.full:
        command.append("--full")
    answer = path.with_suffix(".answer.json")
    answer.parent.mkdir(parents=True, exist_ok=True)
    answer.unlink(missing_ok=True)
    environment = {
        **os.environ,
        **dict.fromkeys(_MACHINE_VARIABLES, str(context.threads)),
        "PYTHONPATH": os.pathsep.join(
            p for p in (str(ROOT / "src"), os.environ.get("PYTHONPATH", "")) if p
        ),
        "HF_HUB_OFFLINE": "1",
        "BENCHMARK_ANSWER": str(answer),
    }
    before, started = load(), time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    if done.returncode or not answer.is_file():
        print(f"  {case}/{part} FAILED (exit {done.returncode}); the others go on", flush=True)
        return None
    result = json.loads(answer.read_text(encoding="utf-8"))
    answer.unlink()
    record = {
        "key": key,
        "case": case,
        "part": part,
        "parameters": dict(parameters),
        "threads": context.threads,
        "command": f"python -m benchmarks.run --only {case}" + (" --full" if context.full else ""),
        "seconds": round(time.monotonic() - started, 1),
        "load_before": before,
        "load_after": load(),
        "result": result,
    }
    write_json(path, record)
    return record


def _path(context: Context, case: str, part: str) -> Path:
    return RESULTS / "parts" / context.mode / f"{case}.{part}.json"
