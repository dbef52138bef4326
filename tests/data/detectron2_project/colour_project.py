"""A project on top of detectron2, as research repositories are: a model that knows three colours by their names."""

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances

COLOURS = ("red", "green", "blue")


def add_colour_config(cfg):
    """The project's own keys."""
    cfg.MODEL.COLOUR = CfgNode()
    cfg.MODEL.COLOUR.MARGIN = 60.0
    cfg.MODEL.COLOUR.OUTPUT = "dictionary"
    cfg.MODEL.COLOUR.FIRST_LABEL = 0


@META_ARCH_REGISTRY.register()
class ColourModel(torch.nn.Module):
    """Finds pixels in which a colour stands out by a margin; its only weight scales the scores."""

    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.score = torch.nn.Parameter(torch.zeros(()))

    def forward(self, batched_inputs):
        (video,) = batched_inputs
        assert not self.training
        assert len(video["image"]) == len(video["file_names"]) == video["length"]
        assert all(frame.dtype == torch.uint8 for frame in video["image"])
        words = MetadataCatalog.get(video["dataset_name"]).thing_classes
        found = [(label, self.masks(video, word)) for label, word in enumerate(words) if word.split()[0] in COLOURS]
        labels = torch.tensor([self.cfg.MODEL.COLOUR.FIRST_LABEL + label for label, _ in found])
        masks = torch.stack([m for _, m in found]) if found else torch.zeros(0, video["length"], 1, 1, dtype=torch.bool)
        scores = self.score.expand(len(found))
        return getattr(self, self.cfg.MODEL.COLOUR.OUTPUT)(video, labels, scores, masks)

    def masks(self, video, word):
        """(frames, height, width), in the size of the video."""
        order = COLOURS if self.cfg.INPUT.FORMAT == "RGB" else COLOURS[::-1]
        channel = order.index(word.split()[0])
        frames = torch.stack(video["image"]).float()
        others = frames[:, [c for c in range(3) if c != channel]].amax(1)
        stands_out = (frames[:, channel] > others + self.cfg.MODEL.COLOUR.MARGIN).float()[:, None]
        size = (video["height"], video["width"])
        return torch.nn.functional.interpolate(stands_out, size)[:, 0] > 0.5

    def dictionary(self, video, labels, scores, masks):
        size = (video["height"], video["width"])
        return {
            "image_size": size,
            "pred_scores": scores.tolist(),
            "pred_labels": labels.tolist(),
            "pred_masks": list(masks),
        }

    def instances(self, video, labels, scores, masks):
        size = (video["height"], video["width"])
        return [{"instances": Instances(size, pred_classes=labels, scores=scores, pred_masks=masks)}]

    def frames(self, video, labels, scores, masks):
        size = (video["height"], video["width"])
        fields = {"pred_classes": labels, "scores": scores, "ID": list(range(len(labels)))}
        return [{"instances": Instances(size, pred_masks=masks[:, t], **fields)} for t in range(video["length"])]
