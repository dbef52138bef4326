"""Category lists of the datasets, as data."""
