"""Run a grid: `python benchmarks/run.py benchmarks/grids/real-small.yaml [--output_dir DIR]`.

The same code as `detox bench run`.
"""

import sys

from detox.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "run", *sys.argv[1:]]))
