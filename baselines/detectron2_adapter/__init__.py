"""detectron2's video models as a model of the harness, and the harness's scoring and datasets inside detectron2.

- `plugin`: any config and weights of a video model, ``harness run --model detectron2``
- `evaluators`: `LVVISEvaluator`, `YTVISEvaluator`, `OVISEvaluator`, `BURSTEvaluator` for training scripts
- `catalog`: the harness's datasets in its catalogs

detectron2 is never required; code that needs it raises `missing_package_error`.
"""

from harness.errors import UserError


def missing_package_error(error: ImportError) -> UserError:
    """The error where detectron2 cannot be imported; it has no wheel on the package index."""
    if error.name is not None and error.name.partition(".")[0] == "detectron2":
        hint = "it is not on the package index; with torch installed: pip install --no-build-isolation"
        return UserError("detectron2", "is not installed", f"{hint} git+https://github.com/facebookresearch/detectron2")
    return UserError("detectron2", f"does not load: {error}", "install the missing parts, or build detectron2 again")
