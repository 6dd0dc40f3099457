"""The documentation site: `make docs` runs the notebooks and writes it to build/docs/site/."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx

import hespotex

WORK = Path(__file__).resolve().parents[1] / "build" / "docs"
# Notebooks share what they make: the demo is painted and cross-validated once.
os.environ["HESPOTEX_DOCS"] = str(WORK)
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ.update(
    {
        "COLUMNS": "80",
        "NO_COLOR": "1",
        "TTY_COMPATIBLE": "0",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "HF_HUB_OFFLINE": "1",
    }
)
sys.path.insert(0, str(Path(__file__).resolve().parent / "_ext"))
os.environ["PYTHONPATH"] = os.pathsep.join([sys.path[0], os.environ.get("PYTHONPATH", "")]).rstrip(
    os.pathsep
)

project, author, version = "hespotex", "the developers of hespotex", hespotex.__version__
release = version
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_ext"]
html_theme = "sphinx_book_theme"
html_title = "hespotex"
html_theme_options = {"show_toc_level": 2, "use_download_button": False}
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_timeout = 1200
nb_execution_raise_on_error = True
nb_merge_streams = True
autodoc_typehints = "none"  # the signature has them
autodoc_member_order = "bysource"


def command_reference(_app: Sphinx, name: str, source: list[str]) -> None:
    """The page of the commands is what the commands say of themselves."""
    if name == "reference/cli":
        asked = [
            sys.executable,
            "-m",
            "typer",
            "hespotex.cli.main",
            "utils",
            "docs",
            "--name",
            "hespotex",
        ]
        told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
        source[0] += "\n" + told.split("\n", 1)[1]


def changelog(app: Sphinx, name: str, source: list[str]) -> None:
    """The changelog of the repository, whose links start at its root."""
    if name == "changelog":
        source[0] = (
            (Path(app.srcdir).parent / "CHANGELOG.md").read_text("utf-8").replace("](docs/", "](")
        )


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("source-read", command_reference)
    app.connect("source-read", changelog)
