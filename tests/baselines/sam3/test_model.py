"""SAM 3 with random weights: as the library tracks a word, whatever the other words; flat memory; the contract.

Tests of `baselines/sam3/network.py` and `baselines/sam3/sessions.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco
from small_runs import make_video

from harness import plugins
from harness.errors import UserError
from harness.frames import Image
from harness.masks import Rle
from harness.runner import Run, execute
from harness.testing import check_model
from harness.testing.trials import Excerpt
from harness.types import Category, Dataset, LoadContext, Track, Video, Vocabulary

pytest.importorskip("transformers")
import tiny_sam3

PLUGIN: Any = plugins.model("sam3")


def part_of_shapes(videos: int, frames: int, words: int) -> Dataset:
    whole = plugins.dataset("shapes").open(Path(), "val")
    begun = (replace(v, frames=Excerpt(v.frames, frames, lambda image: image)) for v in whole.videos[:videos])
    return replace(whole, categories=whole.categories[:words], videos=tuple(begun))


@pytest.fixture(scope="module")
def shapes() -> Dataset:
    """The beginning of a video, four words."""
    return part_of_shapes(1, 6, 4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finds some objects, begins others late, removes some."""
    return tiny_sam3.save(tmp_path_factory.mktemp("sam3"), seed=6)


def load(checkpoint: Path, dataset: Dataset, precision: str = "fp32", **settings: Any) -> Any:
    return PLUGIN.load(PLUGIN.Config(**settings), LoadContext(dataset, precision=precision, checkpoint=checkpoint))


def iou(one: Rle, other: Rle) -> float:
    a, b = ({"size": list(mask.size), "counts": mask.counts} for mask in (one, other))
    return float(coco.iou([a], [b], [False])[0, 0])


def assert_same(found: Sequence[Track], expected: Sequence[Track], least_iou: float = 0.97) -> None:
    """The same tracks, but for what rounding does at the borders of masks."""
    assert [t.category_id for t in found] == [t.category_id for t in expected]
    assert [t.score for t in found] == pytest.approx([t.score for t in expected], abs=1e-4)
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one.masks, other.masks, strict=True):
            assert (a is None) == (b is None)
            assert a is None or b is None or iou(a, b) >= least_iou


def test_contract(checkpoint: Path) -> None:
    assert (
        check_model("sam3", {"words_at_once": 1}, dataset=part_of_shapes(2, 3, 2), checkpoint=checkpoint).broken == ()
    )


def test_several_chunks_find_the_same_as_one(checkpoint: Path, shapes: Dataset) -> None:
    video, words = shapes.videos[0], shapes.vocabulary
    expected = load(checkpoint, shapes, words_at_once=4).predict(video, words)
    assert {track.masks[0] is None for track in expected} == {True, False}  # some begin late
    for at_once in (1, 3):
        assert_same(load(checkpoint, shapes, words_at_once=at_once).predict(video, words), expected)


def test_a_word_is_tracked_as_the_library_does(tmp_path: Path, shapes: Dataset) -> None:
    """Frame by frame, with what is no longer needed forgotten, and as the library does with the whole video in memory.

    With a threshold of 1 new objects begin where a word has none: there the library tracks the others twice.
    """
    from transformers import Sam3VideoModel, Sam3VideoProcessor

    folder = tiny_sam3.save(tmp_path, seed=7, new_det_thresh=1.0)
    mine = load(folder, shapes)
    library = Sam3VideoModel.from_pretrained(folder, local_files_only=True).eval()
    processor = Sam3VideoProcessor.from_pretrained(folder, local_files_only=True)
    video, word = shapes.videos[0], shapes.categories[2]
    session = processor.init_video_session(video=list(video.read()))
    processor.add_text_prompt(session, word.name)
    masks: dict[int, list[Rle | None]] = {}
    scores: dict[int, float] = {}
    for index, output in enumerate(library.propagate_in_video_iterator(session)):
        found = processor.postprocess_outputs(session, output)
        for number, score, mask in zip(
            found["object_ids"].tolist(), found["scores"].tolist(), found["masks"], strict=True
        ):
            pixels = np.asfortranarray(mask.numpy().astype(np.uint8))
            rle = Rle(mask.shape, coco.encode(pixels)["counts"])
            masks.setdefault(number, [None] * len(video.frames))[index] = rle
            scores[number] = score
    expected = [Track(video.id, word.id, scores[n], tuple(masks[n])) for n in sorted(scores, key=lambda n: -scores[n])]
    assert expected
    assert_same(mine.predict(video, Vocabulary((word,))), expected, least_iou=0.999)


def test_tracks_that_the_library_removes_are_not_reported(tmp_path: Path) -> None:
    dataset = part_of_shapes(2, 9, 2)
    every, kept = (
        load(tiny_sam3.save(tmp_path / name, seed=5, hotstart_delay=delay), dataset)
        for name, delay in (("every", 0), ("kept", 3))
    )
    count = [[len(model.predict(v, dataset.vocabulary)) for v in dataset.videos] for model in (every, kept)]
    assert sum(count[0]) > sum(count[1])


def test_settings(checkpoint: Path, shapes: Dataset) -> None:
    video, words = shapes.videos[0], shapes.vocabulary
    every = load(checkpoint, shapes).predict(video, words)
    assert [t.score for t in every] == sorted((t.score for t in every), reverse=True)
    assert load(checkpoint, shapes, detections_per_video=2).predict(video, words) == every[:2]
    assert load(checkpoint, shapes, detection_threshold=0.99).predict(video, words) == []
    strict = load(checkpoint, shapes, detection_threshold=0.22).predict(video, words)
    assert 0 < len(strict) < len(every)
    assert all(track.score > 0.22 for track in strict)
    alone = load(checkpoint, shapes, max_objects=1, words_at_once=4).predict(video, words)
    assert len(alone) == 1


@torch.inference_mode()
def test_lower_precision_keeps_the_weights_and_loses_less_than_cast_weights_do(
    checkpoint: Path, shapes: Dataset
) -> None:
    pixels = torch.rand(1, 3, tiny_sam3.SIZE, tiny_sam3.SIZE, generator=torch.Generator().manual_seed(0))

    def levels(model: Any, image: torch.Tensor) -> torch.Tensor:
        with model._mixed():
            model.network.see(image)
        return torch.cat([level.float().flatten() for level in model.network._features.fpn_hidden_states])

    exact, mixed, cast = (load(checkpoint, shapes, precision) for precision in ("fp32", "bf16", "fp32"))
    assert {parameter.dtype for parameter in mixed.network.parameters()} == {torch.float32}
    assert mixed.prompts(shapes.vocabulary).text.dtype == torch.float32
    cast.network.to(torch.bfloat16)
    truth = levels(exact, pixels)
    lost, lost_by_casting = (
        (levels(model, image) - truth).abs().mean() for model, image in ((mixed, pixels), (cast, pixels.bfloat16()))
    )
    assert 0 < lost < lost_by_casting


def test_weights_stored_in_half_precision_are_computed_with_in_float32(
    checkpoint: Path, shapes: Dataset, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "half"
    shutil.copytree(checkpoint, folder)
    (file,) = folder.glob("*.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    model = load(folder, shapes)
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_finds_nearly_the_same(precision: str, checkpoint: Path, shapes: Dataset) -> None:
    video, words = shapes.videos[0], Vocabulary(shapes.categories[:2])
    exact = load(checkpoint, shapes).predict(video, words)
    rounded = load(checkpoint, shapes, precision).predict(video, words)
    assert rounded[0].category_id == exact[0].category_id
    assert rounded[0].score == pytest.approx(exact[0].score, abs=0.02)


class Frames:
    """So many frames of one size, or the last of another size."""

    def __init__(self, length: int, last: tuple[int, int] = (12, 16)) -> None:
        self.length, self.last = length, last

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, frame_index: int, /) -> Image:
        size = self.last if frame_index == self.length - 1 else (12, 16)
        return np.random.default_rng(frame_index).integers(0, 255, (*size, 3), dtype=np.uint8)


def test_a_video_without_frames(checkpoint: Path, shapes: Dataset) -> None:
    empty = replace(make_video(), frames=Frames(0))
    assert load(checkpoint, shapes).predict(empty, shapes.vocabulary) == []


def test_frames_of_several_sizes_are_refused(checkpoint: Path, shapes: Dataset) -> None:
    video = replace(make_video(3), frames=Frames(2, last=(8, 16)))
    with pytest.raises(UserError, match=r"video 3 .*, frame 1: is 16x8, the video is 16x12"):
        load(checkpoint, shapes).predict(video, shapes.vocabulary)


def test_a_prompt_is_the_first_synonym_in_plain_words(checkpoint: Path, shapes: Dataset) -> None:
    words = Vocabulary((Category(1, "baby_buggy, pram"), Category(2, "x" * 99)))
    prompts = load(checkpoint, shapes).prompts(words)
    assert prompts.words == ("baby buggy", "x" * 99)
    assert tuple(prompts.text.shape[:2]) == tuple(prompts.text_mask.shape) == (2, 32)


def test_prompts_encoded_in_parts_are_those_encoded_together(
    checkpoint: Path, shapes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.baselines.sam3 import network

    whole = load(checkpoint, shapes).prompts(shapes.vocabulary).text
    monkeypatch.setattr(network, "TEXTS_AT_ONCE", 3)
    torch.testing.assert_close(load(checkpoint, shapes).prompts(shapes.vocabulary).text, whole)


def kept(session: Any) -> int:
    """Bytes of the tensors that a session keeps for its objects."""
    outputs = [
        o for kinds in session.output_dict_per_obj.values() for frames in kinds.values() for o in frames.values()
    ]
    masks = [m for frames in session.mask_inputs_per_obj.values() for m in frames.values()]
    return sum(t.nbytes for t in (*masks, *(t for output in outputs for t in output.values())))


@torch.inference_mode()
def test_memory_does_not_grow_with_the_video(tmp_path: Path, shapes: Dataset) -> None:
    from harness.baselines.sam3.sessions import WordsSession

    folder = tiny_sam3.save(tmp_path, seed=7, new_det_thresh=1.0, hotstart_delay=0, recondition_every_nth_frame=0)
    model = load(folder, shapes)
    video: Video = replace(make_video(), frames=Frames(14))
    _, words, text, mask = model.prompts(Vocabulary(shapes.categories[:2]))
    session = WordsSession(video, words, text, mask, model.network.config.tracker_config)

    def sizes() -> Iterator[int]:
        for index, frame in enumerate(video.read()):
            pixels = model.processor(images=frame, return_tensors="pt").pixel_values
            model.network.see(pixels)
            model.network(inference_session=session, frame_idx=index)
            session.forget(index)
            yield kept(session)

    found = list(sizes())
    assert session.get_obj_num() > 0
    assert found[-1] == found[8]


def test_a_run_is_known_by_the_files_of_its_folder(checkpoint: Path, tmp_path: Path) -> None:
    few = part_of_shapes(1, 2, 1)
    run = Run(PLUGIN, PLUGIN.Config(), few, tmp_path, checkpoint=checkpoint, limit=1)
    assert execute(run).record["complete"] is True
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    assert replace(run, checkpoint=copy).digest == run.digest
    (copy / "config.json").write_text("{}")
    assert replace(run, checkpoint=copy).digest != run.digest
