"""What an `import` that failed for want of a package needs to be told: what is here, and what has a like name."""

import os
import sys

_MOST_FOLDERS = 64
_MOST_NAMES = 5_000
_MOST_TOLD = 64


def about(error):
    """For a module that nothing here provides: its name, like names, what is installed. None when nothing can be told.

    Never raises: user code may have put anything anywhere.
    """
    try:
        name = error.name
        if not isinstance(name, str) or not name or "." in name or name in sys.modules:
            return None  # a missing part of a package that is here says enough by itself
        found = installed(sys.path)
        return {
            "module": name[:100],
            "python": "{}.{}.{}".format(*sys.version_info[:3]),
            "at": str(sys.executable)[:200],
            "standard": name in getattr(sys, "stdlib_module_names", ()),
            "near": _near(name, sys.path),
            "installed": found[:_MOST_TOLD],
            "count": len(found),
        }
    except Exception:
        return None


def installed(path):
    """`name version` of the packages in these folders; one that several folders have comes once, from the first."""
    seen, found = set(), []
    for folder in _folders(path):
        here = []
        for entry in _entries(folder):
            stem, dot, kind = entry.rpartition(".")
            name, _, version = stem.partition("-")
            if dot and kind in ("dist-info", "egg-info") and name and name.lower() not in seen:
                seen.add(name.lower())
                here.append("{} {}".format(name, version.partition("-")[0]).strip()[:60])
        found += sorted(here, key=str.lower)
    return found


def _folders(path):
    return [each or "." for each in list(path)[:_MOST_FOLDERS] if isinstance(each, str)]


def _entries(folder):
    try:
        return os.listdir(folder)[:_MOST_NAMES]
    except OSError:
        return []


def _near(name, path):
    """Up to three importable names like this one."""
    import difflib

    names = set(getattr(sys, "stdlib_module_names", ()))
    for folder in _folders(path):
        for entry in _entries(folder):
            stem, _, kind = entry.partition(".")
            if stem.isidentifier() and kind.rpartition(".")[2] in ("", "py", "so", "pyc"):
                names.add(stem)
    by_lower = {}
    for each in sorted(each for each in names if not each.startswith("_")):
        by_lower.setdefault(each.lower(), each)
    close = difflib.get_close_matches(name.lower(), by_lower, 3, 0.75)
    return [by_lower[each][:100] for each in close if by_lower[each] != name]
