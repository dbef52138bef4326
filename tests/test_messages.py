"""Sentences put together from parts, read whole: what a run, `eval` and `datasets check` say of withheld truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import make_dataset, make_run

from harness import plugins
from harness.cli import eval as command
from harness.datasets.youtube_vis_format import VisDataset
from harness.errors import UserError
from harness.runner import execute

SERVERS = {
    "lvvis": "Codabench competition 1748, https://www.codabench.org/competitions/1748",
    "ovis": "the dataset's CodaLab server, linked from https://songbai.site/ovis/",
    "ytvis2019": "the dataset's CodaLab server, linked from https://youtube-vos.org/dataset/vis/",
    "ytvis2021": "the dataset's CodaLab server, linked from https://youtube-vos.org/dataset/vis/",
}


def with_servers() -> dict[str, VisDataset]:
    """The datasets of which some split has no public truth."""
    found = {name: plugins.dataset(name) for name in plugins.names(plugins.DATASETS)}
    return {
        name: plugin
        for name, plugin in found.items()
        if isinstance(plugin, VisDataset) and not all(split.public for split in plugin.declared)
    }


def test_every_dataset_with_withheld_truth_is_among_them() -> None:
    assert {name: plugin.server for name, plugin in with_servers().items()} == SERVERS


@pytest.mark.parametrize("name", SERVERS)
def test_a_run(name: str, tmp_path: Path) -> None:
    dataset = replace(make_dataset(with_truth=False), name=name, server=with_servers()[name].server)
    whole, part = make_run(tmp_path, dataset=dataset), make_run(tmp_path, dataset=dataset, limit=1)
    outcome = execute(whole)
    assert outcome.messages == (
        f"{whole.folder}: the truth is withheld, so there are no numbers;"
        f" submit {whole.folder / 'submission.zip'} to {SERVERS[name]}",
    )
    reason = f"the truth is withheld; submit the predictions to {SERVERS[name]}"
    assert set(outcome.record["undefined"]["metrics"].values()) == {reason}
    assert execute(part).messages == (
        f"{part.folder}: the truth is withheld, so there are no numbers;"
        f" run all videos to get the file to submit to {SERVERS[name]}",
    )


def test_a_run_on_data_of_which_nobody_has_the_truth(tmp_path: Path) -> None:
    dataset = replace(make_dataset(with_truth=False), server=None)
    whole, part = make_run(tmp_path, dataset=dataset), make_run(tmp_path, dataset=dataset, limit=1)
    outcome = execute(whole)
    assert outcome.messages == (
        f"{whole.folder}: the annotations have no truth, so there are no numbers;"
        f" the predictions are in {whole.folder / 'submission.zip'}",
    )
    assert set(outcome.record["undefined"]["metrics"].values()) == {"the annotations have no truth"}
    assert execute(part).messages == (
        f"{part.folder}: the annotations have no truth, so there are no numbers;"
        " run all videos to get the file to submit",
    )


@pytest.mark.parametrize("name", SERVERS)
def test_eval(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = replace(make_dataset(with_truth=False), name=name, split="test", server=with_servers()[name].server)
    monkeypatch.setattr(plugins, "opened", lambda *arguments: dataset)
    with pytest.raises(UserError) as refused:
        command.evaluate(predictions=tmp_path / "results.json", dataset=name)
    assert str(refused.value) == f"{name} test: has no public truth; submit the predictions to {SERVERS[name]}"


@pytest.mark.parametrize("name", SERVERS)
def test_datasets_check(name: str, tmp_path: Path) -> None:
    report = with_servers()[name].check(tmp_path, "test").to_dict()
    assert report["splits"][0]["truth"] == f"server only: {SERVERS[name]}"
