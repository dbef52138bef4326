"""Configuration: defaults, then the YAML file, then settings; what does not fit is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from harness.config import read_config
from harness.errors import UserError


class Decoder(BaseModel):
    """A nested part."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    layers: int = 9
    dropout: float = Field(0.0, ge=0, le=1)


class Config(BaseModel):
    """An example of a model's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    threshold: float = Field(0.5, ge=0, le=1)
    loose: float = 1.0
    name: str = "plain"
    top: int | None = None
    decoder: Decoder = Decoder()
    words: tuple[str, ...] = ()
    variables: dict[str, str | None] = {}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def test_defaults_stand_where_nothing_is_said() -> None:
    assert read_config(Config) == Config()


def test_the_file_beats_the_defaults_and_settings_beat_the_file(file: Path) -> None:
    file.write_text("threshold: 0.25\nname: from file\ndecoder: {layers: 3, dropout: 0.5}\n")
    read = read_config(Config, file, ["threshold=0.75", "decoder.layers=6", "decoder.layers=7"])
    assert read == Config(threshold=0.75, name="from file", decoder=Decoder(layers=7, dropout=0.5))


@pytest.mark.parametrize(("text", "value"), [("null", None), ("3", 3), ("", None)])
def test_values_are_yaml(text: str, value: int | None) -> None:
    assert read_config(Config, settings=[f"top={text}"]).top == value


def test_a_value_may_hold_an_equals_sign() -> None:
    assert read_config(Config, settings=["name=a=b"]).name == "a=b"


@pytest.mark.parametrize("text", ["1", "1.10", "0x1F", "007", "1_000", "true", "no", "2026-11-28", "1e3", "plain"])
def test_a_text_is_taken_as_it_was_written(file: Path, text: str) -> None:
    file.write_text(f"name: {text}\nvariables: {{A: {text}}}\nwords: [{text}, b]\n")
    of_file = read_config(Config, file)
    assert (of_file.name, of_file.variables, of_file.words) == (text, {"A": text}, (text, "b"))
    read = read_config(Config, None, [f"name={text}", f"variables.OMP_NUM_THREADS={text}", f"words={text}"])
    assert (read.name, read.variables, read.words) == (text, {"OMP_NUM_THREADS": text}, (text,))
    assert read_config(Config, file, ["variables.A=null"]).variables == {"A": None}


def test_a_text_in_the_section_of_a_model_is_taken_as_it_was_written(file: Path) -> None:
    file.write_text("small:\n  name: 1.10\n")
    assert read_config(Config, file, [], "small").name == "1.10"
    assert read_config(Config, file, ["small.name=1.20"], "small").name == "1.20"


def test_an_empty_file_changes_nothing(file: Path) -> None:
    file.write_text("# nothing yet\n")
    assert read_config(Config, file) == Config()


def test_a_section_is_for_the_model_of_its_name(file: Path) -> None:
    file.write_text("threshold: 0.1\none: {threshold: 0.2}\ntwo: {threshold: 0.3}\n")
    models = ["one", "two", "three"]
    read = [read_config(Config, file, ["two.name=second"], model, models) for model in models]
    assert [(r.threshold, r.name) for r in read] == [(0.2, "plain"), (0.3, "second"), (0.1, "plain")]


def test_a_section_of_a_model_that_is_not_run_is_unknown(file: Path) -> None:
    file.write_text("two: {threshold: 0.3}\n")
    with pytest.raises(UserError, match="two: is not a configuration key"):
        read_config(Config, file, model="one", others=["one"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["treshold=1"], 'setting treshold: is not a configuration key; did you mean "threshold"?'),
        (["decoder.layer=1"], 'setting decoder.layer: is not a configuration key; did you mean "layers"?'),
        (["threshold=2"], "setting threshold: input should be less than or equal to 1, not 2"),
        (["threshold=high"], "setting threshold: input should be a valid number"),
        (["threshold"], "setting threshold: is not key=value"),
        (["=1"], "setting =1: is not key=value"),
        (["decoder..layers=1"], "setting decoder..layers=1: is not key=value"),
        (["name=[1"], "value is not YAML"),
        (["decoder=3"], "setting decoder: "),
        (["loose=.nan"], "settings: a number is not finite"),
    ],
)
def test_a_faulty_setting_is_named(settings: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_config(Config, settings=settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("treshold: 1", 'config.yaml, treshold: is not a configuration key; did you mean "threshold"?'),
        ("threshold: 2", "config.yaml, threshold: input should be less than or equal to 1, not 2"),
        ("- 1", "config.yaml: is not a mapping"),
        ("1: 2", "config.yaml: is not a mapping of names"),
        ("a: [", "config.yaml: is not YAML"),
        ("!!python/object/apply:os.getcwd []", "config.yaml: is not YAML"),
    ],
)
def test_a_faulty_file_is_named(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        read_config(Config, file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_a_users_error(file: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_config(Config, file)


def outcome(file: Path | None, settings: list[str]) -> str:
    """What is wrong, in one line; empty where nothing is."""
    try:
        read_config(Config, file, settings)
    except UserError as error:
        return str(error)
    return ""


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_bytes(data)
    said = outcome(path, [])
    assert said == "" or str(path) in said


@given(st.text(max_size=30))
def test_any_setting_is_taken_or_refused(text: str) -> None:
    said = outcome(None, [text])
    assert said == "" or "setting" in said


@given(st.floats(0, 1))
def test_numbers_keep_their_value(threshold: float) -> None:
    assert read_config(Config, settings=[f"threshold={threshold!r}"]).threshold == threshold
