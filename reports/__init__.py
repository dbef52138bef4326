"""Tables, and published results as data."""
