"""A project that behaves as the published ones of open vocabularies do: CLIP-VIS, OV2Seg, FC-CLIP.

Its model reads the names of its classes from the catalog while it is built, counts them in its config, wants a compiled
extension, and returns logits at a quarter of the size, which its evaluator would resize and threshold.
"""

import MultiScaleDeformableAttention  # as Mask2Former's descendants do, whatever they run on
import torch
from colour_project import COLOURS, add_colour_config
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from torch.nn.functional import avg_pool2d, pad

STRIDE, DIVISOR = 4, 32

MetadataCatalog.get("colours_train").set(thing_classes=["red thing", "green thing"])
MetadataCatalog.get("colours_val").set(thing_classes=["green ball", "red ball", "dog"])


def add_open_colour_config(cfg):
    """The project's own keys."""
    add_colour_config(cfg)
    cfg.TEST = cfg.get("TEST", CfgNode())
    cfg.TEST.NUM_NAMES = 1196
    cfg.MODEL.COLOUR.LAYERS = 2


@META_ARCH_REGISTRY.register()
class OpenColourModel(torch.nn.Module):
    """Finds pixels in which a colour stands out by a margin; its last weight scales the scores."""

    def __init__(self, cfg):
        super().__init__()
        self.margin, self.count = cfg.MODEL.COLOUR.MARGIN, cfg.TEST.NUM_NAMES
        self.train_names = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes
        self.set_metadata(MetadataCatalog.get(cfg.DATASETS.TEST[0]))
        self.layers = torch.nn.Sequential(*(torch.nn.BatchNorm2d(3) for _ in range(cfg.MODEL.COLOUR.LAYERS)))
        self.score = torch.nn.Parameter(torch.zeros(()))
        self.attention = MultiScaleDeformableAttention.ms_deform_attn_forward

    def set_metadata(self, metadata):
        """As in FC-CLIP's demo."""
        self.names = list(metadata.thing_classes)

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        """As in Mask2Former: weights of no version, or an old one, are renamed."""
        if local_metadata.get("version") is None:
            for name in [name for name in state_dict if name.startswith(("layers.", "norms."))]:
                state_dict[name.replace("layers.", "layers.layers.").replace("norms.", "layers.")] = state_dict.pop(
                    name
                )
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def forward(self, batched_inputs):
        (video,) = batched_inputs
        frames = torch.stack(video["image"]).float()
        sizes = tuple(frames.shape[-2:])
        frames = pad(frames, (0, -sizes[1] % DIVISOR, 0, -sizes[0] % DIVISOR))
        known = [label for label, name in enumerate(self.names) if name.split()[0] in COLOURS]
        labels = torch.arange(self.count)[torch.tensor(known, dtype=torch.int64)]
        logits = [self.logits(frames, COLOURS.index(self.names[label].split()[0])) for label in known]
        masks = torch.stack(logits) if logits else torch.zeros(0, len(frames), 1, 1)
        found = Instances(sizes, pred_masks=masks, pred_classes=labels, scores=self.score.expand(len(labels)))
        meta = (sizes, video["height"], video["width"], tuple(frames.shape[-2:]))
        return [{"instances": found, "interpolate_meta": meta}]

    def logits(self, frames, channel):
        """``(frames, height / 4, width / 4)``."""
        others = frames[:, [c for c in range(3) if c != channel]].amax(1)
        stands_out = (frames[:, channel] > others + self.margin).float()
        return avg_pool2d(stands_out[:, None], STRIDE)[:, 0] - 0.5


def tell_words(network, metadata):
    """For the setting ``words``."""
    network.set_metadata(metadata)


def of_my_own(outputs, inputs):
    """For the setting ``outputs``: probabilities of a list of objects, a form that is nobody else's."""
    (video,) = inputs
    assert video["length"] == len(video["image"])
    (found,) = outputs
    objects = found["instances"]
    return [{"instances": objects, "interpolate_meta": found["my_sizes"]}]


@META_ARCH_REGISTRY.register()
class OwnFormModel(OpenColourModel):
    """The same with outputs of a form that nobody else has."""

    def forward(self, batched_inputs):
        (found,) = super().forward(batched_inputs)
        return [{"instances": found["instances"], "my_sizes": found["interpolate_meta"]}]


@META_ARCH_REGISTRY.register()
class ImageColourModel(OpenColourModel):
    """The same as a model of images, as FC-CLIP is: one image at a time, masks of its size as floats."""

    def forward(self, batched_inputs):
        (given,) = batched_inputs
        assert given["image"].shape[0] == 3
        (found,) = super().forward([given | {"image": [given["image"]], "length": 1}])
        logits, size = found["instances"].pred_masks, (given["height"], given["width"])
        padded = found["interpolate_meta"][3]
        whole = torch.nn.functional.interpolate(logits, padded, mode="bilinear")[:, 0, : size[0], : size[1]]
        kept = (whole > 0).flatten(1).any(1)
        fields = {name: getattr(found["instances"], name)[kept] for name in ("pred_classes", "scores")}
        return [{"instances": Instances(size, pred_masks=(whole[kept] > 0).float(), **fields)}]
