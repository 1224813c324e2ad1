"""Reports: one page, tables, pictures and other tools' formats, made from the records of a results directory alone."""

from detox.bench.report.data import report_data
from detox.bench.report.page import write_page
from detox.bench.report.reading import Results, read_results
from detox.bench.report.writing import FORMATS, write_report

__all__ = ["FORMATS", "Results", "read_results", "report_data", "write_page", "write_report"]
