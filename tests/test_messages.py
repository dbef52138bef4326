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
}
CLOSED = ("ovis", "ytvis2019", "ytvis2021")


def with_servers() -> dict[str, VisDataset]:
    """The datasets of which a server scores a split."""
    found = {name: plugins.dataset(name) for name in plugins.names(plugins.DATASET_ENTRY_POINTS)}
    return {name: plugin for name, plugin in found.items() if isinstance(plugin, VisDataset) and plugin.server}


def test_every_dataset_with_a_server_is_among_them() -> None:
    assert {name: plugin.server for name, plugin in with_servers().items()} == SERVERS


@pytest.mark.parametrize("name", SERVERS)
def test_a_run(name: str, tmp_path: Path) -> None:
    dataset = replace(make_dataset(with_truth=False), name=name, server=with_servers()[name].server)
    whole, part = make_run(tmp_path, dataset=dataset), make_run(tmp_path / "part", dataset=dataset, limit=1)
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
    whole, part = make_run(tmp_path, dataset=dataset), make_run(tmp_path / "part", dataset=dataset, limit=1)
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
    assert report["splits"][0]["truth"].startswith(f"server only: {SERVERS[name]} (")


@pytest.mark.parametrize("name", CLOSED)
def test_a_closed_server_is_told_with_its_date(name: str, tmp_path: Path) -> None:
    plugin = plugins.dataset(name)
    assert isinstance(plugin, VisDataset)
    truth = plugin.truth_of(plugin.declared[-1])
    assert truth.state == "closed server"
    dataset = replace(make_dataset(with_truth=False), name=name, server=None, no_truth=truth.reason)
    whole = make_run(tmp_path, dataset=dataset)
    (message,) = execute(whole).messages
    assert "the truth is withheld, and the dataset's CodaLab server" in message
    assert "takes no submissions any more" in message
    assert "so there are no numbers; the predictions are in" in message
    report = plugin.check(tmp_path, "test").to_dict()
    assert report["splits"][0]["truth"].startswith("withheld; its server is closed: the dataset's CodaLab server")
    assert str(truth.source) in report["splits"][0]["truth"]
