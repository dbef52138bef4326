"""What a run is known by: all that its predictions depend on, wherever that lies; and what is said of other runs.

Tests of `models/shared/identity.py`.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_runs import SmallConfig, SmallModel, make_dataset, make_run
from typer.testing import CliRunner

from harness import plugins
from harness.baselines.external.config import ExternalConfig
from harness.baselines.external.plugin import PLUGIN as EXTERNAL
from harness.baselines.ov2seg.plugin import PLUGIN as OV2SEG
from harness.baselines.track_by_detection.plugin import PLUGIN as TRACK_BY_DETECTION
from harness.cli.main import build
from harness.errors import UserError
from harness.models import miniatures
from harness.models.clipvis.plugin import PLUGIN as CLIPVIS
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.identity import (
    NUMBER_FORMATS,
    code_of,
    commit_of,
    other_runs,
    setting_differences,
    settings_of,
    variables,
)
from harness.run_folder.provenance import file_digest
from harness.runner import Run, execute

PLUGIN_CODE = """
from pydantic import BaseModel
class Config(BaseModel):
    pass
class Plugin:
    name, version, summary, Config = "theirs", "1", "", Config
    def load(self, config, context):
        raise NotImplementedError
PLUGIN = Plugin()
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A third party's package with a plugin in a module of it."""
    folder = tmp_path / "site" / "theirs_vis"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "models" / "__init__.py").touch()
    (folder / "models" / "plugin.py").write_text(PLUGIN_CODE)
    (folder / "layers.py").write_text("WIDTH = 1")
    monkeypatch.syspath_prepend(str(folder.parent))
    yield folder
    for name in [name for name in sys.modules if name.startswith("theirs_vis")]:
        del sys.modules[name]


def run_of(plugin: Any, tmp_path: Path, config: Any = None, **options: Any) -> Run:
    return Run(plugin, config or plugin.Config(), make_dataset(), tmp_path / "runs", **options)


def test_an_edited_plugin_is_another_run(tmp_path: Path, package: Path) -> None:
    plugin = importlib.import_module("theirs_vis.models.plugin").PLUGIN
    folders = [run_of(plugin, tmp_path).folder]
    (package / "layers.py").write_text("WIDTH = 2")  # a module that the plugin's own imports
    folders.append(run_of(plugin, tmp_path).folder)
    (package / "weights.bin").write_bytes(b"data")
    (package / "__pycache__" / "layers.py").parent.mkdir(exist_ok=True)
    (package / "__pycache__" / "layers.py").touch()
    folders.append(run_of(plugin, tmp_path).folder)
    (package / "layers.py").write_text("WIDTH = 1")
    folders.append(run_of(plugin, tmp_path).folder)
    assert folders[0] == folders[3] != folders[1] == folders[2]


def test_the_commit_of_a_plugins_repository_is_recorded(tmp_path: Path, package: Path) -> None:
    finds_nothing = "return type('Model', (), {'predict': lambda self, video, vocabulary: []})()"
    code = PLUGIN_CODE.replace("raise NotImplementedError", finds_nothing)
    (package / "models" / "plugin.py").write_text(code)
    plugin = importlib.import_module("theirs_vis.models.plugin").PLUGIN
    assert commit_of(plugin) == {}  # not under git
    git = ("git", "-C", str(package.parent), "-c", "user.name=a", "-c", "user.email=a@b.c")
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "theirs")):
        subprocess.run([*git, *arguments], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert commit_of(plugin) == {"plugin_commit": commit, "plugin_changed": False}
    (package / "layers.py").write_text("WIDTH = 2")
    run = run_of(plugin, tmp_path)
    execute(run)
    environment = json.loads((run.folder / "environment.json").read_text())
    assert (environment["plugin_commit"], environment["plugin_changed"]) == (commit, True)
    assert FinishedRun(run.folder).environment.plugin_commit == commit
    assert commit_of(CLIPVIS) == {}  # ours is git_commit


def test_a_plugin_of_an_entry_point_has_its_distribution(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("theirs_vis.models.plugin")
    point = SimpleNamespace(
        name="theirs", module=module.__name__, dist=SimpleNamespace(name="theirs-vis", version="3.1"),
        load=lambda: module.PLUGIN,
    )  # fmt: skip
    monkeypatch.setattr(plugins, "_points", lambda group: [point])
    code = code_of(module.PLUGIN)
    assert code is not None
    assert (code["distribution"], code["version"]) == ("theirs-vis", "3.1")
    point.dist.version = "3.2"
    assert code_of(module.PLUGIN) != code


def test_our_own_plugins_are_known_by_their_version_and_commands_of_others_by_their_module(package: Path) -> None:
    from harness.baselines.external.plugin import PLUGIN, ExternalPlugin

    assert [code_of(plugin) for plugin in (CLIPVIS, OV2SEG, PLUGIN)] == [None] * 3
    named = ExternalPlugin("named", Config=type("Named", (ExternalConfig,), {"__module__": "theirs_vis.layers"}))
    importlib.import_module("theirs_vis.layers")
    code = code_of(named)
    assert code is not None
    assert code["sources"]


@pytest.mark.parametrize("name", NUMBER_FORMATS)
def test_a_variable_that_changes_the_number_format_makes_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for other in NUMBER_FORMATS:
        monkeypatch.delenv(other, raising=False)
    plain = make_run(tmp_path)
    monkeypatch.setenv(name, "")
    assert make_run(tmp_path).folder == plain.folder
    monkeypatch.setenv(name, "1")
    assert variables() == {name: "1"}
    assert make_run(tmp_path).folder != plain.folder


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HARNESS_DEFORM_ATTN", "HF_HOME"])
def test_a_variable_that_says_where_and_how_fast_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plain = make_run(tmp_path).folder
    monkeypatch.setenv(name, "1")
    assert make_run(tmp_path).folder == plain


def test_weights_that_a_plugin_loads_itself_count_by_their_content(tmp_path: Path) -> None:
    places = [tmp_path / name / "clip.pt" for name in "abc"]
    for place, content in zip(places, (b"1", b"1", b"2"), strict=True):
        place.parent.mkdir()
        place.write_bytes(content)
    for plugin, key in ((CLIPVIS, "clip_pretrained"), (OV2SEG, "clip_pretrained"), (OV2SEG, "text_classifier")):
        contents = [run_of(plugin, tmp_path, plugin.Config(**{key: str(place)})).content for place in places]
        assert contents[0] == contents[1] != contents[2]
        assert str(tmp_path) not in json.dumps(contents)
    for segmenter in ("clipvis", "ov2seg"):
        chosen = [{"segmenter": segmenter, segmenter: {"clip_pretrained": str(place)}} for place in places]
        configs = [TRACK_BY_DETECTION.Config.model_validate(c) for c in chosen]
        contents = [run_of(TRACK_BY_DETECTION, tmp_path, config).content for config in configs]
        assert contents[0] == contents[1] != contents[2]


def test_a_tag_of_open_clip_stands_for_its_weights(tmp_path: Path) -> None:
    content = run_of(CLIPVIS, tmp_path, CLIPVIS.Config(clip_pretrained="openai")).content
    assert (content["config"]["clip_pretrained"], content["depends_on"]) == ("openai", {})


def test_the_text_tower_that_a_checkpoint_names_counts(tmp_path: Path) -> None:
    shipped, tower = (miniatures.weights(name, miniatures.DATASET) for name in ("ov2seg", "clipvis"))
    assert shipped is not None
    assert tower is not None
    content = run_of(OV2SEG, tmp_path, checkpoint=shipped).content
    assert content["depends_on"] == {"clip_pretrained_sha256": file_digest(tower)}


def test_the_files_that_a_command_names_count(tmp_path: Path) -> None:
    def known_by() -> dict[str, str]:
        command = f"{sys.executable} wrap.py --options=options.yaml nothing.txt"
        return ExternalConfig(command=command, working_directory=tmp_path).command_files_sha256  # type: ignore[arg-type]

    (tmp_path / "wrap.py").write_text("1")
    (tmp_path / "options.yaml").write_text("1")
    before = known_by()
    assert list(before) == ["1 wrap.py", "2 options.yaml"]
    for name in ("wrap.py", "options.yaml"):
        (tmp_path / name).write_text("2")
        assert known_by() != before
        (tmp_path / name).write_text("1")
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    assert list(ExternalConfig(command=(str(tmp_path / "run.sh"),)).command_files_sha256) == ["0 run.sh"]


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "commit.gpgsign=false")
    command = ["git", *who, "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_and_the_changes_of_a_commands_folder_count(tmp_path: Path) -> None:
    folder = tmp_path / "repository" / "code"
    folder.mkdir(parents=True)
    for name in ("wrap.py", "inner.py", "../other.py"):
        (folder / name).write_text("1")

    def known_by() -> Any:
        config = ExternalConfig(command=(sys.executable, "wrap.py"), working_directory=folder)
        return run_of(EXTERNAL, tmp_path, config).content["depends_on"]

    assert known_by() == {}  # no repository: the files that the command names, and `revision`
    git(folder.parent, "init", "-q")
    assert known_by() == {}
    git(folder.parent, "add", ".")
    git(folder.parent, "commit", "-qm", "one")
    commit = git(folder, "rev-parse", "HEAD")
    clean = {"code": {"commit": commit, "changes": None}}
    assert known_by() == clean
    (folder / "results.json").write_text("[]")  # what a command leaves is no code
    (folder.parent / "other.py").write_text("2")  # nor is what lies elsewhere
    git(folder.parent, "commit", "-qam", "two")
    assert known_by() == clean
    seen = [clean]
    for name, text in (("inner.py", "2"), ("inner.py", "3"), ("n\u00e9w.py", "1")):
        (folder / name).write_text(text)
        seen.append(known_by())
        assert seen[-1] not in seen[:-1]
    (folder / "inner.py").unlink()
    assert known_by() not in seen
    git(folder, "commit", "-qam", "three")
    assert known_by()["code"]["commit"] == git(folder, "rev-parse", "HEAD")


def test_what_a_plugin_says_counts_and_has_to_be_json(tmp_path: Path) -> None:
    class Dependent(SmallModel):
        said: Any = 1

        def depends_on(self, config: SmallConfig, checkpoint: Path | None) -> dict[str, Any]:
            return {"said": self.said, "score": config.score}

    one, two, odd = Dependent(), Dependent(), Dependent()
    two.said, odd.said = 2, object()
    assert make_run(tmp_path, one).folder != make_run(tmp_path, two).folder
    assert make_run(tmp_path, one).content["depends_on"] == {"said": 1, "score": 0.5}
    with pytest.raises(UserError, match="model small: depends_on returns a value that JSON does not have"):
        _ = make_run(tmp_path, odd).folder


def test_settings_are_flat_and_keys_of_the_configuration_never_hide_others() -> None:
    content = {"format": 1, "model": "m", "dataset": "d", "split": "s", "seed": 0, "limit": None, "plugin": {"a": "1"}}
    found = settings_of({**content, "config": {"topk": 5, "seed": 7, "inner": {"x": [1]}}})
    assert found == {"seed": 0, "plugin.a": "1", "topk": 5, "config.seed": 7, "inner.x": [1]}
    assert setting_differences({"a": 1, "b": 2}, {"b": 3, "c": 4}) == [("b", 2, 3), ("c", None, 4), ("a", 1, None)]


def test_a_new_run_is_told_of_the_nearest_other_one(tmp_path: Path) -> None:
    new = make_run(tmp_path, config=SmallConfig(score=0.75), seed=1)
    assert other_runs(new.folder, new.content) == ""
    execute(make_run(tmp_path))
    (tmp_path / "small-small-val-notes").mkdir()
    (tmp_path / "small-small-val-damaged").mkdir()
    (tmp_path / "small-small-val-damaged" / "config.json").write_text("{")
    differs = "differs in seed (0 there, 1 here), score (0.5 there, 0.75 here)"
    assert other_runs(new.folder, new.content) == f"1 other run of small on small val in {tmp_path}; {differs}"
    near = make_run(tmp_path, config=SmallConfig(score=0.75))
    assert other_runs(new.folder, new.content, [make_run(tmp_path).folder]) == ""
    execute(near)
    assert other_runs(new.folder, new.content) == (
        f"2 other runs of small on small val in {tmp_path}; the nearest differs in seed (0 there, 1 here)"
    )


def test_the_command_says_that_settings_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def said(*options: str) -> list[str]:
        given = ["run", "--model", "oracle", "--dataset", "shapes", "--limit", "1", "--no-mlflow", "--json", *options]
        result = CliRunner().invoke(build(), given)
        assert result.exit_code == 0
        assert len(json.loads(result.stdout)["runs"]) >= 1
        return [line for line in result.stderr.splitlines() if "a new run" in line]

    assert said() == []
    assert said() == []
    start = "harness: a new run; 1 other run of oracle on shapes val in runs; differs in"
    assert said("--seed", "3") == [f"{start} seed (0 there, 3 here)"]
    assert said("--sweep", "erode_px=2,3", "--runs-dir", "swept") == []
