"""The masked decoder against golden values, with and without auxiliary predictions; attention masks by hand."""

from __future__ import annotations

import clipvis_golden
import pytest
import torch
import weight_recipe

from harness.models.mask2former.pixel_decoder import PixelFeatures
from harness.models.mask2former.transformer_decoder import Attention, MaskedTransformerDecoder, attention_mask

PREFIX = "sem_seg_head.predictor."


@pytest.mark.parametrize("auxiliary", [True, False])
@pytest.mark.parametrize("name", clipvis_golden.cases("c_decoder_"))
@torch.no_grad()
def test_golden(name: str, auxiliary: bool) -> None:
    golden = clipvis_golden.tensors(name)
    layers = sum(key.endswith("pred_ious") for key in golden) - 1
    decoder = weight_recipe.filled(MaskedTransformerDecoder(layers), PREFIX)
    features = PixelFeatures(golden["mask_features"], (golden["ms0"], golden["ms1"], golden["ms2"]))
    output = decoder(features, auxiliary=auxiliary)
    found = {
        "pred_object_logits": output.object_logits,
        "pred_ious": output.ious,
        "pred_masks": output.mask_logits,
        "pred_embds": output.embeddings,
    }
    for i, earlier in enumerate(output.auxiliary):
        found[f"aux{i}_pred_object_logits"] = earlier.object_logits
        found[f"aux{i}_pred_ious"] = earlier.ious
        found[f"aux{i}_pred_masks"] = earlier.mask_logits
    compared = [key for key in golden if key in found]
    assert len(compared) == sum("pred" in key for key in golden) if auxiliary else len(compared) == 4
    for key in compared:
        clipvis_golden.close(found[key], golden[key], atol=5e-4, rtol=1e-3)


def test_a_query_that_may_look_nowhere_may_look_everywhere() -> None:
    logits = torch.tensor([[[[1.0, -1.0, 0.0]], [[-1.0, -2.0, -3.0]]]])
    assert attention_mask(logits).tolist() == [[[True, False, True], [True, True, True]]]


def test_padding_stays_forbidden_even_then() -> None:
    logits = torch.tensor([[[[1.0, 1.0]], [[-1.0, -2.0]]]])
    assert attention_mask(logits, torch.tensor([False, True])).tolist() == [[[True, False], [True, False]]]


def test_attention_is_that_of_pytorch() -> None:
    """The same parameters in ``nn.MultiheadAttention`` give the same numbers; its mask says what is forbidden."""
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    ours = Attention(16, 4)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    query, key, value = torch.randn(2, 3, 16), torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    allowed = torch.rand(2, 3, 5) > 0.3
    allowed[..., 0] = True
    expected, _ = theirs(query, key, value, attn_mask=~allowed.repeat_interleave(4, 0))
    torch.testing.assert_close(ours(query, key, value, allowed), expected, atol=1e-6, rtol=1e-5)


def test_frames_are_independent() -> None:
    decoder = weight_recipe.filled(MaskedTransformerDecoder(2, queries=5, dim=32, heads=4, feedforward=64), PREFIX)
    torch.manual_seed(0)
    features = PixelFeatures(
        torch.randn(3, 32, 16, 24), (torch.randn(3, 32, 2, 3), torch.randn(3, 32, 4, 6), torch.randn(3, 32, 8, 12))
    )
    alone = PixelFeatures(features.mask_features[1:2], tuple(level[1:2] for level in features.multi_scale))  # type: ignore[arg-type]
    with torch.no_grad():
        together, single = decoder(features), decoder(alone)
    torch.testing.assert_close(together.mask_logits[1:2], single.mask_logits, atol=1e-5, rtol=1e-4)


def test_gradients_reach_every_parameter() -> None:
    decoder = MaskedTransformerDecoder(3, queries=4, dim=32, heads=4, feedforward=64)
    torch.manual_seed(0)
    features = PixelFeatures(
        torch.randn(1, 32, 16, 16), (torch.randn(1, 32, 2, 2), torch.randn(1, 32, 4, 4), torch.randn(1, 32, 8, 8))
    )
    output = decoder(features, auxiliary=True)
    total = output.embeddings.sum()
    for p in (*output.auxiliary, output):
        total = total + p.object_logits.sum() + p.ious.sum() + p.mask_logits.sum()
    total.backward()
    assert [name for name, p in decoder.named_parameters() if p.grad is None] == []
