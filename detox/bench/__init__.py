"""Many measurements: grids of bases, methods and strengths, and their comparison."""

from detox.bench.comparison import Comparison, compare
from detox.bench.grid import Grid, read_grid
from detox.bench.loading import load_protocol
from detox.bench.protocols import read_protocol
from detox.bench.runner import Outcome, run_grid

__all__ = ["Comparison", "Grid", "Outcome", "compare", "load_protocol", "read_grid", "read_protocol", "run_grid"]
