"""Damaged files for every reader, read in a child process with limits: an error of one line or a result, nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import select
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 10.0
MEMORY_BYTES = 2 * 2**30
_STARTED = "started"
_STACKS = "stacks.txt"
_START_S = 120.0


def cut(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def zero(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    n = min(rng.choice((1, 2, 8, 64, 512)), len(content) - start)
    content[start : start + n] = bytes(n)


def swap(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 8))):
        a, b = rng.randrange(len(content)), rng.randrange(len(content))
        content[a], content[b] = content[b], content[a]


def flip(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 4, 16))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def fill(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    n = min(rng.choice((1, 2, 4, 8)), len(content) - start)
    content[start : start + n] = b"\xff" * n


def repeat(content: bytearray, rng: random.Random) -> None:
    a = rng.randrange(len(content))
    part = bytes(content[a : a + rng.choice((1, 16, 256))])
    b = rng.randrange(len(content))
    content[b:b] = part


def drop(content: bytearray, rng: random.Random) -> None:
    a = rng.randrange(len(content))
    del content[a : a + rng.choice((1, 4, 64))]


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    cut,
    zero,
    swap,
    flip,
    fill,
    repeat,
    drop,
)


def damage(folder: Path, pattern: str, seed: int) -> str:
    """Damage one file of a folder; the name of what was done."""
    rng = random.Random(seed)
    files = sorted(p for p in folder.glob(pattern) if p.is_file() and p.stat().st_size)
    path = files[rng.randrange(len(files))]
    content = bytearray(path.read_bytes())
    mutation = MUTATIONS[seed % len(MUTATIONS)]
    mutation(content, rng)
    path.write_bytes(content)
    return f"{mutation.__name__} {path.relative_to(folder)}"


# ------------------------------------------------------------------------------------- child


def _serve() -> None:
    """Answer the parent's questions, one line each, until there are no more."""
    import faulthandler
    import resource

    from helpers.fuzzed_readers import READERS

    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    sys.stdout = sys.stderr
    stacks = Path(_STACKS).open("w")  # noqa: SIM115  open as long as the process is
    faulthandler.enable(stacks)
    limited = False
    print(json.dumps(_STARTED), file=answers, flush=True)
    for line in sys.stdin:
        name, folder = json.loads(line)
        if not limited and not name:  # everything is imported: from here on memory counts
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES,) * 2)
            limited = True
            answer: list[str] = ["limited", ""]
        else:
            if limited:
                faulthandler.dump_traceback_later(SECONDS, exit=True, file=stacks)
            answer = _outcome(READERS[name].read, Path(folder))
            faulthandler.cancel_dump_traceback_later()
        print(json.dumps(answer), file=answers, flush=True)


def _outcome(read: Callable[[Path], str], folder: Path) -> list[str]:
    from hespotex.errors import HESpotExError

    try:
        return ["read", read(folder)]
    except HESpotExError as error:
        text = str(error)
        return ["refused" if len(text.splitlines()) == 1 else "several lines", text]
    except BaseException as error:  # noqa: BLE001  whatever escapes is what is looked for
        import traceback

        place = traceback.extract_tb(error.__traceback__)
        own = [f for f in place if "hespotex" in f.filename] or list(place)
        at = f"{Path(own[-1].filename).name}:{own[-1].lineno}"
        return ["escaped", f"{type(error).__name__} at {at}: {' '.join(str(error).split())[:200]}"]


# ------------------------------------------------------------------------------------ parent


@dataclass(frozen=True)
class Finding:
    """What came of one damaged file.

    Attributes:
        outcome: read, refused, several lines, escaped, hang or crash.
        text: the value of what was read, or what was said.
        done: what was done to which file.
        seed: that does it again.
    """

    outcome: str
    text: str
    done: str
    seed: int


def _where(stack: str) -> str:
    """The innermost place of a stack, with the library that it is in."""
    places = re.findall(
        r'File "([^"]+)", line (\d+)', re.split(r"(?m)^(?:Current t|T)hread ", stack)[-1]
    )
    if not places:
        return "nowhere: the process was ended from outside"
    path, line = places[0]  # the innermost of the thread that read, which is told last
    library = path.partition("site-packages/")[2].partition("/")[0]
    return f"{'in ' + library if library else 'in our own code'}, {Path(path).name}:{line}"


class Fuzzer:
    """A child process that reads damaged files; a new one follows one that crashed or hung.

    Args:
        names: readers whose libraries are imported before memory is limited.
        kept: folder for inputs that crashed or hung a child; None: they are thrown away.
    """

    def __init__(self, names: list[str], kept: Path | None = None) -> None:
        from helpers.fuzzed_readers import READERS

        self._readers, self._kept = READERS, kept
        self._work = Path(tempfile.mkdtemp(prefix="fuzz"))
        self._child: subprocess.Popen[str] | None = None
        self._names = names
        for name in names:
            (self._whole(name) / "in").mkdir(parents=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what writes the files
                READERS[name].build(self._whole(name) / "in")

    def close(self) -> None:
        if self._child is not None:
            self._stop(self._child)
        shutil.rmtree(self._work, ignore_errors=True)

    def read_whole(self, name: str) -> str:
        """The value of the files without damage."""
        outcome, text = self._ask(name, self._whole(name) / "in")
        if outcome != "read":
            raise AssertionError(f"{name}: the whole files are {outcome}: {text}")
        return text

    def run(self, name: str, seed: int) -> Finding:
        """Damage the files of a reader in the way of `seed`, and read them."""
        folder = self._work / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._whole(name), folder)
        done = damage(folder / "in", self._readers[name].pattern, seed)
        outcome, text = self._ask(name, folder / "in")
        if outcome in {"hang", "crash"} and self._kept is not None:
            place = self._kept / f"{self._names.index(name):02d}-{seed}"
            shutil.copytree(folder, place, dirs_exist_ok=True)
            text = f"{text}; kept in {place.name}"
        return Finding(outcome, text, done, seed)

    def _whole(self, name: str) -> Path:
        return self._work / f"whole-{self._names.index(name)}"

    def _ask(self, name: str, folder: Path) -> tuple[str, str]:
        if self._child is None:
            self._child = self._start()
        return self._exchange(self._child, name, folder, SECONDS + 5)

    def _exchange(
        self, child: subprocess.Popen[str], name: str, folder: Path, seconds: float
    ) -> tuple[str, str]:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            print(json.dumps([name, str(folder)]), file=child.stdin, flush=True)
            ready, _, _ = select.select([child.stdout], [], [], seconds)
            line = child.stdout.readline() if ready else None
        except BrokenPipeError:
            line = ""
        if line:
            outcome, text = json.loads(line)
            return outcome, text
        code = self._stop(child)
        stack = (self._work / _STACKS).read_text()
        outcome = "hang" if line is None or "Timeout" in stack else "crash"
        return outcome, f"{_where(stack)} (exit {code})"

    def _stop(self, child: subprocess.Popen[str]) -> int:
        self._child = None
        child.kill()
        with contextlib.suppress(BrokenPipeError), child:
            pass
        return child.returncode

    def _start(self) -> subprocess.Popen[str]:
        here = Path(__file__).parents[1]
        paths = [str(here), str(here.parent / "src"), os.environ.get("PYTHONPATH", "")]
        child = subprocess.Popen(
            [sys.executable, "-c", "from helpers import fuzzing; fuzzing._serve()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=self._work,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert child.stdout is not None
        ready, _, _ = select.select([child.stdout], [], [], _START_S)
        if not ready or not child.stdout.readline():
            raise AssertionError("the child that reads did not start")
        for name in self._names:  # imports what readers import
            self._exchange(child, name, self._whole(name) / "in", _START_S)
        self._exchange(child, "", self._work, _START_S)
        return child


def broken(findings: list[Finding], whole: str, *, every_cut: bool) -> list[Any]:
    """Those that break the contract; with `every_cut` also cuts that went unnoticed."""
    bad = [f for f in findings if f.outcome not in {"read", "refused"}]
    if every_cut:
        bad += [
            f
            for f in findings
            if f.outcome == "read" and f.done.startswith("cut") and f.text != whole
        ]
    return bad
