"""The JavaScript of the charts: made once, kept in the cache folder, never taken from there when damaged."""

from pathlib import Path

import pytest

from emeval.reporting import engine


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(engine, "user_cache_path", lambda name: tmp_path / name)  # other systems know no XDG
    return tmp_path / "emeval"


def made_anew() -> bool:
    """Ask for the engine as a new process would; whether it had to be made."""
    for function in (engine.begin, engine.engine, engine._kept):
        function.cache_clear()
    making = engine.begin() is not None
    assert "vegaEmbed" in engine.engine()
    return making


def test_the_engine_is_made_once_and_a_damaged_one_is_not_used(folder: Path) -> None:
    assert made_anew()
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    assert not made_anew()
    file.write_bytes(whole[:-1])
    assert made_anew()
    assert file.read_bytes() == whole


def test_a_cache_folder_that_cannot_be_written_costs_nothing_but_time(folder: Path) -> None:
    folder.write_text("a file where the folder should be")
    assert made_anew()
    assert folder.read_text() == "a file where the folder should be"
