"""Reports: tables, comparisons, analyses, figures and pages of runs, and published results as data."""
