"""The reader's script: `python -I -S start.py FD PLACE..`, FD being its end of the judge's socket pair."""

import sys

if __name__ == "__main__":
    sys.path[:0] = sys.argv[2:]

    from terraphim_rlm.guard.safety.worker import main

    main(int(sys.argv[1]))
