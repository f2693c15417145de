"""The keeper's script: `python -I -S start.py FD`, FD being its end of the owner's SEQPACKET pair."""

import sys

if __name__ == "__main__":
    sys.path.insert(0, __file__.rsplit("/", 2)[0])

    from keeper.process import main  # type: ignore[import-not-found]

    main(int(sys.argv[1]))
