"""The sandbox's first program: `python3 -I -S start.py FD [NAME=LIMIT,..]`."""

import sys

sys.path.insert(0, __file__.rsplit("/", 2)[0])

from guest.supervisor import main

main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
