"""A minimal stand-in for the interfaces of detectron2 that the adapter uses; for tests only."""

__version__ = "0.6"
