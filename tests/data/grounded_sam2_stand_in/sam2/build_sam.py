"""A tracker of colours with the interface of SAM 2's video predictor."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image


def build_sam2_video_predictor(config_file, ckpt_path, device):
    """A tracker without weights but one."""
    assert config_file.endswith(".yaml")
    assert Path(ckpt_path).is_file()
    assert device == "cpu"
    return Tracker()


class Tracker:
    """Tracks the colour in the middle of a box."""

    def state_dict(self):
        return {"a": torch.zeros(1)}

    def init_state(self, video_path):
        paths = sorted(Path(video_path).glob("*.jpg"), key=lambda path: int(path.stem))
        return {"frames": [np.asarray(Image.open(path).convert("RGB")) for path in paths], "colours": {}}

    def add_new_points_or_box(self, inference_state, frame_idx, obj_id, box):
        left, top, right, bottom = box
        image = inference_state["frames"][frame_idx]
        inference_state["colours"][obj_id] = image[int(top + bottom) // 2, int(left + right) // 2]

    def propagate_in_video(self, inference_state):
        colours = inference_state["colours"]
        for index, image in enumerate(inference_state["frames"]):
            masks = np.stack([(image == colour).all(2) for colour in colours.values()])
            yield index, list(colours), torch.from_numpy(masks)[:, None].float() - 0.5
