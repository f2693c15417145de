"""The sandbox's first program: `python3 -I -S start.py FD [NAME=LIMIT,..]`."""

import posix
import sys

LAYER = "/trlm/packages"


def own_packages():
    """Where `pip install --user` puts what code in the sandbox installs itself."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}" + ("t" if "t" in sys.abiflags else "")
    return f"/work/.local/lib/python{version}/site-packages"


def watch(path):
    """Lets imports find what comes to lie in a folder that is not there yet; they would not look again for it."""
    import _frozen_importlib_external as external

    finder = external.FileFinder(path, *external._get_supported_file_loaders())
    sys.path_importer_cache[path] = finder


def share_layer(own):
    """Lets every Python of this version in the sandbox see the layer, after what is installed here.

    By a path file, not by PYTHONPATH: that would put both before the standard library, and give them to Pythons of
    other versions as well.
    """
    place = "/work"
    for part in own.split("/")[2:]:
        place += "/" + part
        if not posix.access(place, posix.F_OK):
            posix.mkdir(place, 0o755)
    fd = posix.open(own + "/packages.pth", posix.O_WRONLY | posix.O_CREAT | posix.O_CLOEXEC, 0o644)
    posix.write(fd, LAYER.encode() + b"\n")
    posix.close(fd)


def find_packages():
    """Cells import from their folder, then what was installed here, what the sandbox was given, what Python itself has.

    So what was asked for goes before what happens to be here.
    """
    own = own_packages()
    watch(own)
    sys.path[0] = ""
    sys.path.append(own)
    if posix.access(LAYER, posix.F_OK):
        sys.path.append(LAYER)
        share_layer(own)
    sys.path += [
        f"{sys.prefix}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages",
        "/usr/lib/python3/dist-packages",
    ]


if __name__ == "__main__":
    sys.path.insert(0, __file__.rsplit("/", 2)[0])

    from guest.supervisor import main

    find_packages()
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
