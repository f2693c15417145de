"""The sandbox's first program: `python3 -I -S start.py FD [NAME=LIMIT,..]`, or `start.py zygote HELLO LINE FILTER`."""

import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec

FOLDER = __file__.rsplit("/", 1)[0]
PACK = FOLDER + "/pack"
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


class Pack:
    """Imports the guest's modules from one piece. A file each costs every start a descriptor and a dozen calls."""

    def __init__(self, packed):
        self._modules = marshal.loads(packed)

    def find_spec(self, name, path=None, target=None):
        if name not in self._modules:
            return None
        file = "/__init__" if name == "guest" else name[5:].replace(".", "/")
        spec = ModuleSpec(name, self, origin=f"{FOLDER}{file}.py", is_package=name == "guest")
        spec.has_location = True
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(marshal.loads(self._modules[module.__name__]), module.__dict__)  # noqa: S102 - as the host packed it


def read(path):
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    data = posix.read(fd, posix.fstat(fd).st_size)
    posix.close(fd)
    return data


def main_of_tunnel(packed, limits, most, program):
    """Where the guest came over the stream that it is to serve: see `tunnel.py`."""
    sys.meta_path.insert(0, Pack(packed))
    sys.path.insert(0, "")
    from guest.tunnel import main as run

    find_packages()
    run(limits, most, program)


def main(arguments):
    if posix.access(PACK, posix.F_OK):
        sys.meta_path.insert(0, Pack(read(PACK)))
        sys.path.insert(0, "")
    else:
        sys.path.insert(0, FOLDER.rsplit("/", 1)[0])
    if arguments[0] == "zygote":
        from guest.zygote import main as run

        arguments = map(int, arguments[1:])
    else:
        from guest.supervisor import main as run

        arguments = int(arguments[0]), "".join(arguments[1:])
    find_packages()
    run(*arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
