"""What a caller is told of an `import` that failed for want of a package: what is there, and how to add it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from terraphim_rlm.sandbox.packages.requirements import name_of

_MOST = 280
"""Characters of one note; a model is shown 300."""
_PACKAGES: Mapping[str, str] = {
    "attr": "attrs", "bio": "biopython", "bs4": "beautifulsoup4", "crypto": "pycryptodome",
    "cv2": "opencv-python-headless", "dateutil": "python-dateutil", "docx": "python-docx", "dotenv": "python-dotenv",
    "fitz": "pymupdf", "git": "gitpython", "github": "pygithub", "google": "protobuf", "jose": "python-jose",
    "jwt": "pyjwt", "levenshtein": "levenshtein", "magic": "python-magic", "mpl_toolkits": "matplotlib",
    "mysqldb": "mysqlclient", "nacl": "pynacl", "openssl": "pyopenssl", "pil": "pillow", "pkg_resources": "setuptools",
    "pptx": "python-pptx", "psycopg2": "psycopg2-binary", "pylab": "matplotlib", "serial": "pyserial",
    "skimage": "scikit-image", "sklearn": "scikit-learn", "slugify": "python-slugify", "usb": "pyusb",
    "win32api": "pywin32", "yaml": "pyyaml", "zmq": "pyzmq",
}  # fmt: skip
"""Module, in small letters -> the package that has it, where their names differ."""

_WELL_KNOWN = (
    "aiohttp", "beautifulsoup4", "flask", "httpx", "jsonschema", "lxml", "matplotlib", "networkx", "nltk", "numpy",
    "openpyxl", "pandas", "plotly", "polars", "pyarrow", "pydantic", "pytest", "requests", "scipy", "seaborn", "sqlalchemy",
    "sympy", "tabulate", "torch", "tqdm", "transformers",
)  # fmt: skip
"""What a module's name was most likely meant to be: so that no sentence of ours recommends a look-alike's package."""


def notes(told: object) -> list[str]:
    """One sentence or two each; nothing when the guest's report is not what it should be.

    Args:
        told: `guest.missing.about`, from a sandbox, so hostile.
    """
    if not isinstance(told, Mapping) or not (module := _word(told, "module")):
        return []
    near = _words(told, "near", 3)
    if not near and module not in _WELL_KNOWN:
        from difflib import get_close_matches

        near = get_close_matches(module.lower(), _WELL_KNOWN, 1, 0.8)
    python = f"Python {_word(told, 'python')} ({_word(told, 'at')})"
    first = f"{python} has no module {module!r}."
    if near:
        first += f" Did you mean: {', '.join(near)}?"
    return [first[:_MOST], _installed(told), _advice(module, told.get("standard") is True, near)]


def _advice(module: str, standard: bool, near: list[str]) -> str:
    if standard:
        return (
            f"{module!r} is a part of the standard library that this Python was installed without; "
            "the system's packages may have it."
        )
    package = module if module in _WELL_KNOWN else _PACKAGES.get(module.lower())
    if package is None and near:
        return 'Whoever opens the sandbox can add packages: packages=["NAME"], or --packages NAME.'
    sure = "" if package else ", if that is the package's name"
    package = package or name_of(module)
    return f'Whoever opens the sandbox can add it: packages=["{package}"], or --packages {package}{sure}.'


def _installed(told: Mapping[str, Any]) -> str:
    """As many packages as fit. Those that the sandbox installed or was given come first, as on its path."""
    names = _words(told, "installed", 64)
    count = told.get("count")
    total = max(count, len(names)) if isinstance(count, int) and count < 1_000_000 else len(names)
    if not names:
        return "Beside the standard library, no packages are installed."
    shown, room = [], _MOST - 40
    for name in names:
        room -= len(name) + 2
        if room < 0:
            break
        shown.append(name)
    more = total - len(shown)
    return f"Installed: {', '.join(shown)}{f', and {more:,} more' if more else ''}."


def _word(told: Mapping[Any, Any], name: str) -> str:
    value = told.get(name)
    return _clean(value) if isinstance(value, str) else ""


def _words(told: Mapping[Any, Any], name: str, most: int) -> list[str]:
    value = told.get(name)
    return [_clean(each) for each in value[:most] if isinstance(each, str)] if isinstance(value, list) else []


def _clean(text: str) -> str:
    return "".join(each for each in text[:100] if each.isprintable())
