"""Big vocabularies: what is computed in parts is the same as in one, and takes little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_clipvis import tiny_with_weights
from video_peak_memory import BUILT, NARROW, moving_video, words
from vocabulary_peak_memory import Encoder

from harness.models.clipvis.config import ClipVisConfig
from harness.models.clipvis.model import ClipVis
from harness.models.shared import spill_buffer, text_classifier

FEW, MANY = 256, 1792
BOUND = 64 << 20
"""The embeddings of 1,536 more words take 6 MB, and as much again while they are put together; those of their 14
prompts each, all at once, would take 88 MB, and as much again."""


def test_embedding_seven_times_the_words_takes_little_more_memory(tmp_path: Path) -> None:
    allocator = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **allocator, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "vocabulary_peak_memory", str(tmp_path), "10", str(FEW), str(MANY)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    few, many, *videos = json.loads(done.stdout.splitlines()[-1])
    assert many - few <= BOUND
    assert max(videos) - many <= BOUND


def test_words_embedded_in_parts_have_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"thing {number}" if number % 5 else f"thing {number},other {number}" for number in range(150)]
    whole = text_classifier.build_text_classifier(Encoder(), names)
    monkeypatch.setattr(text_classifier, "SYNONYMS_AT_ONCE", 64)
    parts = text_classifier.build_text_classifier(Encoder(), names)
    assert torch.equal(parts.weights, whole.weights)
    assert torch.equal(parts.class_of, whole.class_of)


def test_a_window_classified_frame_by_frame_has_the_same_tracks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ClipVisConfig.model_validate({"short_edge": 64, "window": 3, "detections_per_video": 10})
    model = ClipVis(tiny_with_weights(tmp_path), settings)
    video, five = moving_video(5), words(5)
    whole = model.predict(video, five)
    monkeypatch.setattr(text_classifier, "LOGITS_AT_ONCE", 1)
    parts = model.predict(video, five)
    assert [(t.category_id, t.masks) for t in parts] == [(t.category_id, t.masks) for t in whole]
    assert [t.score for t in parts] == pytest.approx([t.score for t in whole], rel=1e-5)


@pytest.mark.parametrize("name", ["clipvis", "ov2seg"])
def test_scores_beyond_the_memory_change_no_bit_and_are_not_kept(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 words and 100 queries: 120 kB per frame as scores, 14 kB as what they follow from."""
    frames, queries, count = 8, 100, 300
    kept: list[int] = []
    close = spill_buffer.DeferredScores.close

    def watched(scores: spill_buffer.DeferredScores) -> None:
        kept.append(scores.nbytes)
        close(scores)

    monkeypatch.setattr(spill_buffer.DeferredScores, "close", watched)
    monkeypatch.setattr(text_classifier, "LOGITS_AT_ONCE", 3 * queries * count)
    model = BUILT[name](tmp_path, queries)
    whole = model.predict(moving_video(frames), words(count))
    monkeypatch.setattr(spill_buffer, "IN_MEMORY", 3 * 4 * queries * count)
    assert model.predict(moving_video(frames), words(count)) == whole
    at_most = 3 * 4 * queries * count + (frames - 3) * queries * (4 * NARROW + 8 + 8 + 1)
    assert kept[0] == frames * 4 * queries * count
    assert kept[1] <= at_most


@pytest.mark.parametrize("name", ["ov2seg", "track-by-detection"])
def test_other_models_classify_frame_by_frame_too(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = BUILT[name](tmp_path, 10)
    whole = list(model.predict(moving_video(5), words(5)))
    monkeypatch.setattr(text_classifier, "LOGITS_AT_ONCE", 1)
    parts = list(model.predict(moving_video(5), words(5)))
    assert [(t.category_id, t.masks) for t in parts] == [(t.category_id, t.masks) for t in whole]
    assert [t.score for t in parts] == pytest.approx([t.score for t in whole], rel=1e-5)


def test_a_window_of_the_usual_size_is_one_part() -> None:
    assert list(text_classifier.frame_groups(10, 100, 1196)) == [slice(0, 10)]
    assert list(text_classifier.frame_groups(10, 100, 10_000)) == [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert list(text_classifier.frame_groups(2, 100, 1 << 20)) == [slice(0, 1), slice(1, 2)]
