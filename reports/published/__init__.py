"""Published results, each with its source."""
