"""What takes long to load, for the guest's own use, when it is first needed.

`json` and `re` take 15 ms, a third of a sandbox's start, and a cell that only prints needs neither. Whatever files and
modules of the same names code in the sandbox has made before, what is loaded here, and all that it loads in turn, is
the library's own.
"""

import sys

_PATH = [folder for folder in sys.path if folder.startswith("/")]  # before any code of the sandbox runs
_OURS = (sys.base_prefix.rstrip("/") + "/lib", __file__.rsplit("/", 1)[0])
_loaded = {"sys": sys}


def load(name):
    """A module of the standard library."""
    module = _loaded.get(name)
    if module is None:
        module = _loaded[name] = _imported(name)
    return module


def part(name):
    """A module of the guest that rests on such."""
    return load(f"{__package__}.{name}")


def _imported(name):
    others = {key: module for key, module in list(sys.modules.items()) if not _is_ours(module)}
    path, sys.path = sys.path, _PATH
    for key in others:
        del sys.modules[key]
    try:
        __import__(name)
        return sys.modules[name]
    finally:
        sys.path = path
        sys.modules.update(others)


def _is_ours(module):
    file = getattr(module, "__file__", None)
    return not isinstance(file, str) or file.startswith(_OURS)
