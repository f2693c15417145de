"""The sandbox's first program: `python3 -I -S start.py FD [NAME=LIMIT,..]`."""

import sys

if __name__ == "__main__":
    sys.path.insert(0, __file__.rsplit("/", 2)[0])

    from guest.supervisor import main

    # Code in cells imports from its own folder, and what the interpreter's own installation has.
    sys.path[0] = ""
    sys.path += [
        f"{sys.prefix}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages",
        "/usr/lib/python3/dist-packages",
    ]

    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
