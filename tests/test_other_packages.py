"""Tables that other packages add to: what is listed, what is left out, and that nothing is imported early."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.installed import install
from hespotex.errors import ConfigError
from hespotex.export.exporters import EXPORTERS, Exporter, chosen_exporters
from hespotex.registry import PluginWarning, Registry

GROUP = "hespotex.things"
GOOD = "THING = 'theirs'\n"


def things() -> Registry[str]:
    return Registry("thing", str, {"ours": "string:digits"}, GROUP)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages; what is imported from it is forgotten after the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("lab_"):
            del sys.modules[name]


def test_what_another_package_adds_is_listed_behind_our_own(site: Path) -> None:
    install(site, "lab-z", {"lab_z.py": GOOD}, {GROUP: {"zeta": "lab_z:THING"}})
    install(site, "lab-a", {"lab_a.py": GOOD}, {GROUP: {"alpha": "lab_a:THING"}})
    found = things()
    assert list(found) == ["ours", "alpha", "zeta"]
    assert "alpha" in found
    assert "beta" not in found
    assert not {"lab_a", "lab_z"} & set(sys.modules)
    assert found.find("alpha") == "theirs"
    assert found.find("beta") is None
    assert "lab_z" not in sys.modules
    assert found.all() == {"ours": "0123456789", "alpha": "theirs", "zeta": "theirs"}


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import no_such_module_at_all\n", "ModuleNotFoundError: No module named 'no_such_module"),
        ("raise RuntimeError('one\\ntwo')\n", "RuntimeError: one two; update or uninstall lab-b"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("def f(:\n", "SyntaxError"),
        ("", "AttributeError"),
        ("THING = 3\n", "lab_b:THING is a int and no str"),
    ],
)
def test_a_broken_package_is_one_warning_and_no_error(site: Path, source: str, why: str) -> None:
    install(site, "lab-b", {"lab_b.py": source}, {GROUP: {"bad": "lab_b:THING"}})
    found = things()
    with pytest.warns(PluginWarning) as caught:
        usable = found.all()
    assert usable == {"ours": "0123456789"}
    assert found.find("bad") is None  # and is told once
    (said,) = [str(w.message) for w in caught]
    assert said.startswith("thing 'bad' of package lab-b is left out: ")
    assert why in said
    assert "\n" not in said


def test_a_name_is_taken_once(site: Path) -> None:
    install(site, "lab-a", {"lab_a.py": GOOD}, {GROUP: {"new": "lab_a:THING"}})
    install(
        site, "lab-b", {"lab_b.py": GOOD}, {GROUP: {"ours": "lab_b:THING", "new": "lab_b:THING"}}
    )
    found = things()
    with pytest.warns(PluginWarning) as caught:
        assert list(found) == ["ours", "new"]
    said = sorted(str(w.message) for w in caught)
    assert len(said) == 2
    assert "is left out: package lab-" in said[0]
    assert said[1].startswith("thing 'ours' of package lab-b is left out: hespotex has one of that")
    assert found.find("ours") == "0123456789"


def test_a_damaged_list_of_entry_points_hides_no_other_package(site: Path) -> None:
    folder = install(site, "lab-b", {}, {GROUP: {"bad": "lab_b:THING"}})
    (folder / "entry_points.txt").write_text(f"[{GROUP}]\nno equals sign\n")
    install(site, "lab-a", {"lab_a.py": GOOD}, {GROUP: {"alpha": "lab_a:THING"}})
    found = things()
    with pytest.warns(PluginWarning, match="what package lab-b adds is left out: bad entry_points"):
        assert found.all() == {"ours": "0123456789", "alpha": "theirs"}


def test_what_fails_at_work_names_the_package(site: Path) -> None:
    install(site, "lab-w", {"lab_w.py": GOOD}, {GROUP: {"weak": "lab_w:THING"}})
    found = things()
    assert found.find("weak") == "theirs"
    said = "expected thing 'weak' of package lab-w to work, found ZeroDivisionError: division by zero; update lab-w"
    with pytest.raises(ConfigError, match=said), found.blaming("weak", ConfigError):
        _ = 1 / 0
    with pytest.raises(RuntimeError), found.blaming("ours", ConfigError):
        raise RuntimeError
    with pytest.warns(PluginWarning, match="thing 'weak' of package lab-w is left out: ZeroDiv"):  # noqa: SIM117
        with found.leaving_out("weak"):
            _ = 1 / 0
    assert list(found) == ["ours"]


def test_without_a_group_nothing_is_added(site: Path) -> None:
    install(site, "lab-a", {}, {"": {"alpha": "lab_a:THING"}})
    assert list(Registry("thing", str, {"ours": "string:digits"})) == ["ours"]


def test_every_exporter_says_its_suffix_and_how_many_genes_it_gets() -> None:
    found = EXPORTERS.all()
    assert list(found) == list(EXPORTERS)
    assert len({exporter.suffix for exporter in found.values()}) == len(found)
    said = {name: (exporter.suffix, exporter.most_genes) for name, exporter in found.items()}
    assert (
        said
        | {
            "geojson": (".geojson", 50),
            "parquet": (".parquet", 50),
            "spatialdata": (".zarr", 50),
            "ome-tiff": (".ome.tif", 10),
            "png": (".pictures", 10),
        }
        == said
    )


@pytest.mark.parametrize("suffix", ["", "csv", ".h5ad", "./../x"])
def test_an_exporter_without_a_good_suffix_cannot_be_made(suffix: str) -> None:
    with pytest.raises(ValueError, match="expected a suffix such as"):
        Exporter(lambda *_: None, suffix=suffix, most_genes=5)
    with pytest.raises(TypeError, match="suffix"):
        Exporter(lambda *_: None, most_genes=5)  # type: ignore[call-arg]


def test_two_formats_of_one_suffix_are_not_written_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = Registry("exporter", Exporter, {**EXPORTERS.own, "zarr": EXPORTERS.own["spatialdata"]})
    monkeypatch.setattr("hespotex.export.exporters.EXPORTERS", other)
    with pytest.raises(ConfigError, match=r"found \.zarr of spatialdata and of zarr"):
        chosen_exporters(("spatialdata", "zarr"))


def test_listing_names_imports_nothing() -> None:
    code = (
        "import sys\nfrom hespotex.export.exporters import EXPORTERS\nlist(EXPORTERS)\n"
        "print({'numpy', 'pandas', 'matplotlib'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
def test_a_broken_package_is_one_line_of_the_command(tmp_path: Path) -> None:
    sources = {"lab_b.py": "raise RuntimeError('not for this machine')\n"}
    install(tmp_path, "lab-b", sources, {"hespotex.exporters": {"bad": "lab_b:EXPORTER"}})
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "sys.argv = ['hespotex', 'predict', 'm', 's.tif', '--out', 'o', '--export', 'bad']\n"
        "from hespotex.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "warning: exporter 'bad' of package lab-b is left out: RuntimeError: not for this machine; "
        "update or uninstall lab-b",
        f"hespotex: expected formats of {', '.join(EXPORTERS.own)}, found 'bad'",
    ]


def test_no_warning_where_nothing_is_added() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", PluginWarning)
        EXPORTERS.all()
