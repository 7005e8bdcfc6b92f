"""How Sphinx builds the documentation; `make docs` calls it."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

from morpheus_core import __version__

sys.path.insert(0, str(Path(__file__).parent))  # for gallery_settings

project = "morpheus_core"
author = "the morpheus_core developers"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx's word for it
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "myst_nb",
]
exclude_patterns = ["gallery/*.ipynb"]  # each is the download of a page
nitpicky = True  # every reference must lead somewhere

autodoc_typehints = "none"  # the sections of the docstrings say it in words
autodoc_preserve_defaults = True
autosummary_generate = False
python_maximum_signature_line_length = 80

numpydoc_show_class_members = False
numpydoc_validation_checks = {
    "all",
    "ES01",  # a summary that says it all needs no extension
    "EX01",  # guide and gallery show most names at work
    "GL01",  # summaries begin beside the quotes
    "PR03",  # parameters that are documented together stand together
    "PR04",  # "As for predict." includes the type
    "SA01",  # pages group what belongs together
}
numpydoc_validation_exclude = {
    r"\.plan$",  # takes what `predict` takes
    # What their constructors take is listed as attributes.
    r"\.AGGREGATION_METHODS$",
    r"\.Derived$",
    r"Evaluation$",
    r"\.Forecast$",
    r"\.Outcome$",
    r"\.PreparingStep$",
    r"\.RedshiftSummary$",
}

myst_enable_extensions = ["colon_fence"]
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",  # run all
    "within_subsection_order": "gallery_settings.place",
    "image_scrapers": ("gallery_settings.figures", "gallery_settings.drawn_by_itself"),
    "abort_on_example_error": True,
    "parallel": 2,
    "remove_config_comments": True,
    "show_signature": False,
    "thumbnail_size": (600, 420),
    "min_reported_time": 10_000,
    "write_computation_times": False,
}

# A page that shows a warning should not name a folder of the machine that built it.
warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"

html_theme = "pydata_sphinx_theme"
html_title = project
html_logo = html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_show_sourcelink = False
html_domain_indices = False
html_sidebars = {"index": [], "getting_started": [], "changelog": []}
html_theme_options = {
    "logo": {"text": project},
    "navbar_align": "left",
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
copybutton_exclude = ".linenos, .gp, .go"  # prompts and what was answered

# The drawings of concepts; a process of its own, for its modules have short names.
subprocess.run([sys.executable, "drawings", "_drawings"], cwd=Path(__file__).parent, check=True)

# What the commands say of themselves, for api/command_line.rst.
help_folder = Path(__file__).parent / "api" / "help"
help_folder.mkdir(exist_ok=True)
commands = (
    [], ["predict"], ["run-strip"], ["stitch"], ["catalog"], ["map"], ["objects"], ["evaluate"],
    ["view"], ["verify"],
    ["model"], ["model", "new"],
)  # fmt: skip
for command in commands:
    said = subprocess.run(
        [sys.executable, "-m", "morpheus_core", *command, "--help"],
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    (help_folder / f"{' '.join(command) or 'morpheus-core'}.txt").write_text(said.stdout)
