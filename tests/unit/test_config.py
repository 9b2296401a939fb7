"""Settings: who beats whom, what is refused, and that each value knows where it came from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold import config
from freehold.errors import ConfigError


def value(name: str, settings: list[config.Setting]) -> tuple[object, str]:
    found = next(s for s in settings if s.name == name)
    return found.value, found.source


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "freehold.toml"
    file.write_text("[server]\nport = 1\nhost = 'file'\n[engine]\nworkers = 3\n")
    environ = {"FREEHOLD_HOME": str(tmp_path), "FREEHOLD_SERVER_PORT": "2", "FREEHOLD_SERVER_HOST": "env"}
    tree, settings = config.load({"server.port": 3, "engine.threads": None}, environ=environ)
    assert value("server.port", settings) == (3, "flag")
    assert value("server.host", settings) == ("env", "environment FREEHOLD_SERVER_HOST")
    assert value("engine.workers", settings) == (3, f"file {file}")
    assert value("engine.threads", settings) == (0, "default")
    assert (tree.server.port, tree.server.host, tree.engine.workers, tree.home) == (3, "env", 3, tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1\n", "server.port"),
        ("[sever]\nport = 1\n", "server.port"),
        ("port = 1\n", "port"),
        ("[server\n", "TOML"),
        ("[server]\nport = '80'\nhost = 1\n", "text"),
        ("[server]\nport = 1.5\n", "whole number"),
        ("[server]\nport = true\n", "whole number"),
        ("[server]\nport = -1\n", "negative"),
        ("[server]\ndrain_s = inf\n", "finite"),
        ("[engine]\nengine = 'onnx'\n", "openvino"),
        ("[server]\ncors_origins = 5\n", "list"),
    ],
)
def test_a_bad_file_is_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "freehold.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(environ={"FREEHOLD_HOME": str(tmp_path)})
    assert words in str(caught.value)


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No configuration file"):
        config.load(file=tmp_path / "none.toml", environ={})


def test_an_unknown_environment_name_is_refused_but_other_programs_names_are_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FREEHOLD_SERVER_PORT"):
        config.load(environ={"FREEHOLD_HOME": str(tmp_path), "FREEHOLD_SERVER_PROT": "1"})
    config.load(environ={"FREEHOLD_HOME": str(tmp_path), "SERVER_PROT": "1", "FREEHOLD_API_KEY": "x"})


def test_an_unknown_flag_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="max_batch"):
        config.reject_unknown_flags({"engine.maxbatch": "1"})


def test_lists_are_split_and_trimmed(tmp_path: Path) -> None:
    environ = {"FREEHOLD_HOME": str(tmp_path), "FREEHOLD_SERVER_CORS_ORIGINS": "http://a, http://b,"}
    assert config.load(environ=environ)[0].server.cors_origins == ("http://a", "http://b")


@given(st.integers(0, 65535))
def test_a_number_means_the_same_as_text(port: int) -> None:
    assert config.load({"server.port": str(port)}, environ={})[0].server.port == port


def test_every_setting_is_explained() -> None:
    _, settings = config.load(environ={})
    assert all(s.help.endswith(".") for s in settings)
    assert len({s.name for s in settings}) == len(settings)
