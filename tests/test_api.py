"""The Python interface, as a notebook uses it."""

from __future__ import annotations

import gc
import importlib
import json
import os
import pickle
import pkgutil
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import harness
from harness import api
from harness.errors import UserError
from harness.export import write_results_file
from harness.masks import Rle
from harness.types import Dataset

DIALS = {"score_noise": 0.3, "drop_tracks": 0.3}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return harness.load_dataset("shapes")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> list[api.OpenedRun]:
    folder = tmp_path_factory.mktemp("runs")
    more = {"limit": 12, "runs_dir": folder, "progress": False}
    return [harness.run("oracle", dataset, **more, **DIALS), harness.run("oracle", dataset, **more, erode_px=2)]


def test_every_name_is_a_function_after_every_module_is_imported() -> None:
    code = (
        "import harness, importlib, pkgutil\n"
        "for one in pkgutil.iter_modules(harness.__path__, 'harness.'): importlib.import_module(one.name)\n"
        "assert all(callable(getattr(harness, name)) for name in harness.__all__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = {name for _, name, _ in pkgutil.iter_modules(harness.__path__)}
    assert not names & set(harness.__all__)
    assert set(harness.__all__) <= set(dir(harness)) & set(api.__all__)
    with pytest.raises(AttributeError):
        harness.nothing  # noqa: B018


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import harness, sys; print([m for m in ('torch', 'numpy', 'pandas', 'pydantic') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_dataset_by_name_and_of_ones_own(dataset: Dataset, tmp_path: Path) -> None:
    assert repr(dataset) == "Dataset(shapes val: 150 videos, 54 categories, 525 annotated tracks, protocol lvvis)"
    assert repr(dataset.videos).startswith("<150 items: Video(1, '001', 256x192, 9 frames), Video(2, ")
    assert len(repr(dataset.categories)) < 400
    assert pickle.loads(pickle.dumps(dataset.categories)) == tuple(dataset.categories)
    assert harness.load_dataset("shapes", split="test", protocol="ytvis").protocol == "ytvis"
    assert harness.load_dataset("shapes", protocol="fixed-ap").protocol == "lvvis-fixed"
    for several in ("all", "lvvis,hota"):
        with pytest.raises(UserError, match="is more than one"):
            harness.load_dataset("shapes", protocol=several)
    document = {
        "videos": [{"id": 1, "height": 4, "width": 5, "length": 1, "file_names": ["a/0.png"]}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [],
    }
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(document))
    mine = harness.load_dataset("pets", annotations=str(file), frames=str(tmp_path), protocol="ytvis")
    assert (mine.name, mine.protocol, len(mine.videos)) == ("pets", "ytvis", 1)
    for wrong, told in (({}, "needs data"), ({"annotations": file}, "frames is missing")):
        with pytest.raises(UserError, match=told):
            harness.load_dataset(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="is unknown"):
        harness.load_dataset("shapes", protocol="ytviss")


def test_a_loaded_model_predicts_and_runs(dataset: Dataset, tmp_path: Path, runs: list[api.OpenedRun]) -> None:
    model = harness.load_model("oracle", dataset=dataset, **DIALS)
    tracks = model.predict(dataset.videos[0], dataset.vocabulary)
    assert tracks
    assert "oracle on cpu" in repr(model)
    assert repr(tracks[0]).startswith("Track(category ")
    run = harness.run(model, dataset, runs_dir=tmp_path, limit=12, progress=False)
    assert run.id == runs[0].id
    assert run.metrics == runs[0].metrics
    with pytest.raises(UserError, match="a loaded model has its settings"):
        harness.run(model, dataset, runs_dir=tmp_path, topk=3)
    with pytest.raises(UserError, match="did you mean"):
        harness.load_model("oracle", dataset=dataset, score_nois=1)
    with pytest.raises(UserError, match="is unknown"):
        harness.load_model("oracle", dataset=dataset, precision="fp8")


def test_a_run_holds_its_numbers_and_predictions(runs: list[api.OpenedRun], dataset: Dataset) -> None:
    run = runs[0]
    assert run.metrics["AP"] == run.metrics["lvvis/AP"] == run.record["metrics"]["AP"]
    assert run.metrics.get("hota/HOTA") is None
    with pytest.raises(UserError, match='metric "APx": is not a metric of this run'):
        run.metrics["APx"]
    assert set(run.per_category.columns) >= {"name", "AP", "truths", "tracks"}
    videos = run.per_video
    assert list(videos.index) == [v.id for v in dataset.videos[:12]]
    assert videos.done.all()
    assert videos.tracks.sum() == len(run.predictions)
    assert (videos.hits + videos.false_positives <= videos.tracks).all()  # categories without truth do not count
    mask = next(m for m in run.predictions.masks[0] if m is not None)
    assert mask.decode().shape == (dataset.videos[0].height, dataset.videos[0].width)
    assert Rle.encode(mask.decode()) == mask
    assert repr(run) == f"FinishedRun({str(run.folder)!r})"
    again = harness.open_run(str(run.folder))
    assert (again.metrics, again.id) == (run.metrics, run.id)
    with pytest.raises(UserError, match="does not exist"):
        harness.open_run("nowhere/at-all")


def test_a_run_shows_a_frame_with_truth_and_tracks(runs: list[api.OpenedRun], dataset: Dataset) -> None:
    video = dataset.videos[2]
    picture = runs[0].show(video=video.id, frame=1)
    assert picture.size == (3 * video.width + 2 * 4, video.height)
    assert np.array_equal(np.asarray(picture)[:, : video.width], video.frames[1])
    assert harness.open_run(runs[0].folder).show(video.id).size == picture.size
    for wrong, told in (
        ({"video": 10**6}, "is not in shapes val"),
        ({"video": video.id, "frame": 99}, "name one of 0"),
    ):
        with pytest.raises(UserError, match=told):
            runs[0].show(**wrong)


def test_predictions_in_every_form_give_the_same_numbers(
    runs: list[api.OpenedRun], dataset: Dataset, tmp_path: Path
) -> None:
    tracks = [track for video in sorted(runs[0].done) for track in runs[0].store.read_video(video)]
    write_results_file(runs[0].store, tmp_path / "results.json")
    records = json.loads((tmp_path / "results.json").read_bytes())
    forms = [
        runs[0].folder, str(runs[0].folder / "predictions"), str(tmp_path / "results.json"), tmp_path / "results.json",
        tracks, iter(tracks), records, pd.DataFrame(records),
    ]  # fmt: skip
    found = [harness.evaluate(form, dataset) for form in forms]
    assert found[0]["AP"] is not None
    assert all(one.metrics == found[0].metrics for one in found)
    assert {"AP", "APb"} <= set(found[0].frame.index)
    assert len(found[0].per_category) == 54
    assert "; 1 warning)" in repr(found[0])  # 42 videos have no predictions
    assert harness.evaluate([], dataset)["AP"] is None
    with pytest.raises(UserError, match="is needed with an annotation file"):
        harness.evaluate(tracks, "truth.json")
    with pytest.raises(UserError, match='did you mean "shapes"'):
        harness.evaluate(tracks, "shapess")
    kept = runs[0].predictions[runs[0].predictions.score > 0.5]
    assert harness.evaluate(kept, dataset).metrics == harness.evaluate(
        [track for track in tracks if track.score > 0.5], dataset
    ).metrics  # fmt: skip
    with pytest.raises(UserError, match=r"record 0: .*`segmentations`; correct the record"):
        harness.evaluate([{"video_id": 1, "category_id": 1, "score": 1.0}], dataset)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: has no predictions; name a run folder"):
        harness.evaluate(tmp_path / "empty", dataset)


def test_several_protocols_in_one_call(runs: list[api.OpenedRun], dataset: Dataset) -> None:
    alone = {name: harness.evaluate(runs[0], dataset, protocol=name) for name in ("lvvis", "hota", "lvvis-fixed")}
    assert harness.evaluate(runs[0], dataset, protocol="fixed-ap").metrics == alone["lvvis-fixed"].metrics
    for given in ("hota, lvvis,fixed-ap", ["hota", "lvvis", "fixed-ap"]):
        found = harness.evaluate(runs[0], dataset, protocol=given)
        assert list(found.scores) == ["lvvis", "hota", "lvvis-fixed"]  # the dataset's own first
        assert found["AP"] == found["lvvis/AP"] == alone["lvvis"]["AP"]
        assert found["hota/HOTA"] == alone["hota"]["HOTA"]
        assert found.frame.official["hota/HOTA"] == alone["hota"]["HOTA"]
        assert found.record("hota") == alone["hota"].record()
        assert repr(found).startswith("Evaluation(lvvis: AP ")
    assert set(harness.evaluate(runs[0], dataset, protocol="all").scores) == {"lvvis", "lvvis-fixed", "hota", "teta"}
    for wrong, told in (
        ("", "names nothing"), ([], "names nothing"), (5, "of type int"), ("lvviss", "did you mean"),
        ("burst-class-guided", "is not the file of BURST"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=told):
            harness.evaluate(runs[0], dataset, protocol=wrong)  # type: ignore[arg-type]
        with pytest.raises(UserError, match=told):
            harness.Metric(wrong, dataset)  # type: ignore[arg-type]
    with pytest.raises(
        UserError, match='metric "hota/HOTB": is not a metric of these scores; did you mean "hota/HOTA"'
    ):
        found["hota/HOTB"]
    with pytest.raises(UserError, match='metric "APx": is not a metric of this comparison'):
        harness.compare(*runs).difference["APx"]
    meter = harness.Metric("lvvis,hota", dataset)
    for video in dataset.videos[:12]:
        meter.update(runs[0].store.read_video(video.id), video)
    assert meter.compute()["hota/HOTA"] == alone["hota"]["HOTA"]


def test_a_metric_in_a_loop(runs: list[api.OpenedRun], dataset: Dataset) -> None:
    meter = harness.Metric("lvvis", dataset)
    seen = harness.Metric("lvvis", dataset, seen_only=True)
    for video in dataset.videos[:12]:
        for one in (meter, seen):
            one.update([], video)
            one.update(runs[0].store.read_video(video.id), video)
    assert meter.compute().metrics == harness.evaluate(runs[0].folder, dataset).metrics
    assert seen.compute().metrics == dict(runs[0].metrics)
    assert "videos seen: 12" in repr(meter)
    meter.reset()
    assert meter.compute()["AP"] is None
    with pytest.raises(UserError, match="is not in shapes val"):
        meter.update([], 10**6)


def test_a_metric_removes_its_folder_without_a_warning(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that a notebook drops or keeps to the end; a process forked from it leaves the folder alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    meter = harness.Metric("lvvis", dataset)
    meter.update([], dataset.videos[0])
    (first,) = tmp_path.iterdir()
    meter.reset()
    (second,) = tmp_path.iterdir()
    assert second != first
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: -1)
        meter.reset()
    assert second.is_dir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del meter
        gc.collect()
    shutil.rmtree(second)
    code = "import os, harness; kept = harness.Metric('lvvis', 'shapes'); print(len(os.listdir(os.environ['TMPDIR'])))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("2\n", "")
    assert len(list(tmp_path.iterdir())) == 1


def test_comparisons_and_tables(runs: list[api.OpenedRun]) -> None:
    found = harness.compare(*runs).difference["AP"]
    a, b = (run.metrics["AP"] for run in runs)
    assert a is not None
    assert b is not None
    assert found.value == pytest.approx(b - a)
    assert harness.compare(str(runs[0].folder), runs[1]).difference["AP"] == found
    with pytest.raises(UserError, match="needs two runs"):
        harness.compare(runs[0]).difference  # noqa: B018
    made = harness.table(runs)
    assert "| oracle" in str(made)
    assert made.to_latex().startswith("%") or "\\begin" in made.to_latex()
    assert "<table" in made._repr_html_()
    assert "<table" in runs[0]._repr_html_()
    assert made.to_csv().count("\n") == 3


def test_words_of_a_vocabulary() -> None:
    for given in ("cat, red  umbrella", ["cat", "red umbrella"]):
        assert [c.name for c in api.vocabulary_of(given).categories] == ["cat", "red umbrella"]
    whole = api.vocabulary_of("cat")
    assert api.vocabulary_of(whole) is whole
    assert api.vocabulary_of(whole.categories) == whole
    for wrong, told in (("", "names nothing"), (["cat", "Cat"], "is given twice")):
        with pytest.raises(UserError, match=told):
            api.vocabulary_of(wrong)


def test_a_prediction_of_a_folder_of_frames(tmp_path: Path, dataset: Dataset) -> None:
    from PIL import Image as Pillow

    frames = tmp_path / "frames"
    frames.mkdir()
    for index, frame in enumerate(dataset.videos[0].read()):
        Pillow.fromarray(frame).save(frames / f"{index:03d}.png")
    checkpoint = importlib.import_module("harness.models.clipvis.plugin").PLUGIN.shipped_weights("shapes")
    found = harness.predict(frames, "red circle, blue square", model="clipvis", checkpoint=checkpoint, device="cpu")
    assert len(found) == len(found.frame) > 0
    assert found[0] is found.tracks[0]
    assert found.show(0).size == (dataset.videos[0].width, dataset.videos[0].height)
    assert "<table" in found._repr_html_()
    told = found.write(tmp_path / "out", as_frames=True)
    assert len(json.loads(Path(told["results"]).read_bytes())) == len(found)


def test_runs_and_names_are_taken_where_they_are_meant(runs: list[api.OpenedRun], dataset: Dataset) -> None:
    assert harness.evaluate(runs[0], "shapes").metrics == harness.evaluate(runs[0].folder, dataset).metrics
    assert str(harness.table(runs[0])) == str(harness.table(str(runs[0].folder)))
    assert harness.Metric("hota", "shapes", seen_only=True).dataset == dataset


@pytest.mark.parametrize("given", [None, 5, {"a": 1}, [np.zeros(3)], [{"a": 1}], pd.DataFrame({"a": [1]})])
def test_predictions_that_are_none_are_refused_in_words(given: object, dataset: Dataset) -> None:
    with pytest.raises(UserError, match=r"^predictions[,:]"):
        harness.evaluate(given, dataset)  # type: ignore[arg-type]


def test_wrong_arguments_are_refused_at_once(dataset: Dataset, tmp_path: Path) -> None:
    meter = harness.Metric("lvvis", dataset)
    video = dataset.videos[0]
    for tracks, where in ((5, video), ([1], video), ([], "zzz")):
        with pytest.raises(UserError):
            meter.update(tracks, where)  # type: ignore[arg-type]
    for wrong in (lambda: harness.Metric("nope", dataset), lambda: harness.table([]), lambda: harness.table("nope")):
        with pytest.raises(UserError):
            wrong()
    for limit in (0, "2", 2.5):
        with pytest.raises(UserError, match="give a whole number from 1 on"):
            harness.run("oracle", dataset, limit=limit, runs_dir=tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda d: harness.load_dataset(3), "name: is of type int"),
        (lambda d: harness.load_model(3), "model: is of type int"),
        (lambda d: harness.load_model("oracle", dataset=3), "dataset: is of type int"),
        (lambda d: harness.load_model("oracle", dataset=d, erode_px=object()), "setting erode_px: is of type object"),
        (lambda d: harness.load_model("oracle", dataset=d).predict("clip.mp4", "cat"), "harness.predict takes files"),
        (lambda d: harness.load_model("oracle", dataset=d).predict(d.videos[0], 5), "words: is of type int"),
        (lambda d: harness.run("oracle", 5), "dataset: is of type int"),
        (lambda d: harness.compare(5), "runs: has one of type int"),
        (lambda d: harness.compare(), "runs: is empty"),
        (lambda d: harness.Metric("lvvis", "shapess"), 'did you mean "shapes"'),
    ],
)
def test_wrong_types_are_refused_in_words(call: Callable[[Dataset], object], told: str, dataset: Dataset) -> None:
    with pytest.raises(UserError, match=told):
        call(dataset)


def test_values_of_numpy_and_names_of_datasets_are_taken(dataset: Dataset) -> None:
    model = harness.load_model("oracle", dataset="shapes", erode_px=np.int64(2), score_noise=np.float32(0.5))
    assert (model.config.erode_px, model.config.score_noise) == (2, 0.5)  # type: ignore[attr-defined]
    assert repr(dataset.videos[0].frames) == "Pictures(9 frames of video 1)"


def test_faulty_options_of_a_table_are_errors_at_once(runs: list[api.OpenedRun]) -> None:
    assert "APb" not in str(harness.table(runs, columns="AP, AP50"))
    assert str(harness.compare(runs)) == str(harness.compare(*runs))
    for options, told in (({"columns": ["APx"]}, "is not a metric"), ({"column": ["AP"]}, 'did you mean "columns"')):
        with pytest.raises(UserError, match=told):
            harness.table(runs, **options)
    with pytest.raises(UserError, match='did you mean "latex"'):
        harness.table(runs).to("latexx")
    with pytest.raises(UserError, match='published: "maim" is unknown; did you mean "main"'):
        harness.table(runs, published="maim")  # type: ignore[arg-type]
    assert str(harness.table(runs, published=True)) == str(harness.table(runs, published="all"))


def test_protocols_of_a_run_are_those_of_the_command_line(dataset: Dataset, tmp_path: Path) -> None:
    more = {"limit": 2, "runs_dir": tmp_path, "progress": False}
    for given in (["hota", "fixed-ap", "lvvis"], "hota,fixed-ap,lvvis"):
        run = harness.run("oracle", dataset, **more, protocol=given)
        assert [one["protocol"]["name"] for one in run.record["protocols"]] == ["lvvis", "hota", "lvvis-fixed"]
    write_results_file(run.store, tmp_path / "results.json")
    made = harness.run_of_results(
        "mine", tmp_path / "results.json", dataset="shapes", protocol="lvvis,fixed-ap", runs_dir=tmp_path
    )
    assert [one["protocol"]["name"] for one in made.record["protocols"]] == ["lvvis", "lvvis-fixed"]
    with pytest.raises(UserError, match="is not the file of BURST that burst-class-guided reads"):
        harness.run("oracle", dataset, **more, protocol=["burst-class-guided"])


def test_opening_checks_the_record_in_optimised_python_too(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    code = f"import harness; harness.open_run({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=False)
    assert "is not the record of a run" in done.stderr
