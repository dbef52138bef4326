"""Files of the field: annotations, results and BURST's own format, validated as they are read."""
