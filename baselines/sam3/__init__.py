"""SAM 3 of the `transformers` library: text prompts, its own tracker, any vocabulary."""
