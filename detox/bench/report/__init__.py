"""Reports: one page, tables, pictures and other tools' formats, made from the records of a results directory alone."""

from detox.bench.report.data import report_data
from detox.bench.report.reading import Results, read_results

__all__ = ["Results", "read_results", "report_data"]
