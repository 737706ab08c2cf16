"""`plait tune`: what it tries, says and writes, with servers that are made up; once with a real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from typer.testing import CliRunner

import plait.cli.tune as command
from plait.analysis.tuning import tuner
from plait.analysis.tuning.landscape import read
from plait.analysis.tuning.objective import Measure
from plait.analysis.tuning.served import FailedError
from plait.analysis.tuning.tuner import HELD_OUT
from plait.analysis.workload import Load
from plait.cli.main import app
from plait.cli.settings_file import read as read_settings
from tests.analysis.tuning.fakes import landscape, measure
from tests.cli.test_serve import Seen, seen

__all__ = ["seen"]

SEARCH = ["--search", "max_num_seqs=4,8,64", "--search", "enable-prefix-caching"]


class Machine:
    """speed: (places at once, whether prefixes are cached, seed) -> tokens per second.

    started: flags of every server that was, with the seed of its load.
    """

    def __init__(self, speed: Callable[[int, bool, int], float]) -> None:
        self.speed = speed
        self.started: list[tuple[list[str], int]] = []

    def serve(self, line: list[str]) -> Server:
        assert line[1:7] == ["-m", "plait", "serve", "m", "--port", "0"]
        return Server(self, line[7:])


class Server:
    def __init__(self, machine: Machine, flags: list[str]) -> None:
        self.machine, self.flags = machine, flags

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def measure(self, model: str, load: Load, most_seconds: float) -> Measure:
        self.machine.started.append((self.flags, load.seed))
        where = self.flags.index("--max-num-seqs") + 1 if "--max-num-seqs" in self.flags else 0
        seqs = int(self.flags[where]) if where else 64
        cached = "--no-enable-prefix-caching" not in self.flags
        return measure(self.machine.speed(seqs, cached, load.seed), load.seed)


def few_at_once(seqs: int, cached: bool, seed: int) -> float:
    return 100 + 20 * (seqs < 32) + 10 * cached + seed % 7 + seqs / 100


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    one = Machine(few_at_once)
    monkeypatch.setattr(tuner, "Served", lambda line: one.serve(line))
    monkeypatch.setattr(command, "fetch", lambda name, offline: Path(name))
    monkeypatch.setattr(command, "machine", lambda: {"threads": 2, "memory_available": 1})
    return one


def run(*arguments: str) -> Any:
    options = ["--objective", "throughput", "--concurrency", "2", *SEARCH, *arguments]
    return CliRunner().invoke(app, ["tune", "m", *options])


def test_the_best_is_compared_on_loads_that_it_was_not_chosen_by(
    machine: Machine, tmp_path: Path
) -> None:
    out, write = tmp_path / "tune.json", tmp_path / "tuned.toml"
    done = run("--trials", "6", "--rounds", "3", "--out", str(out), "--write", str(write))
    assert done.exit_code == 0, done.output
    tuned = ["--max-num-seqs", "8"]
    held_out = [one for one in machine.started if one[1] >= HELD_OUT]
    assert held_out == [
        *(([], HELD_OUT), (tuned, HELD_OUT)),
        *((tuned, HELD_OUT + 1), ([], HELD_OUT + 1)),
        *(([], HELD_OUT + 2), (tuned, HELD_OUT + 2)),
    ]
    assert "on 3 held-out loads the tuned settings are 1.1" in done.stdout
    assert done.stdout.splitlines()[-1] == "plait serve m --max-num-seqs 8"
    assert read_settings(write, {"max_num_seqs"}) == {"max_num_seqs": "8"}
    land = read(out)
    assert len(land.trials) == 6
    assert [len(one.measures) for one in land.trials.values()].count(3) == 4
    assert land.found["is_better"]


def test_the_first_trial_has_the_default_settings(machine: Machine) -> None:
    run("--trials", "3", "--rounds", "0")
    assert machine.started[0] == ([], 0)
    assert {seed for _, seed in machine.started} == {0}


def test_a_gain_that_held_out_loads_do_not_show_is_none(machine: Machine, tmp_path: Path) -> None:
    machine.speed = lambda seqs, cached, seed: 100 + 20 * (seqs == 8 and seed < HELD_OUT) + seed % 3
    write = tmp_path / "tuned.toml"
    done = run("--trials", "6", "--rounds", "3", "--write", str(write))
    assert done.exit_code == 0, done.output
    assert "no improvement that can be relied on: keep the defaults" in done.stdout
    assert "plait serve" not in done.stdout
    assert not write.exists()


def test_defaults_that_nothing_beats_are_kept(machine: Machine) -> None:
    machine.speed = lambda seqs, cached, seed: 100 + seqs + cached
    done = run("--trials", "6", "--rounds", "3")
    assert "nothing beats the default settings" in done.stdout
    assert {seed for _, seed in machine.started} == {0, 1, 2}


def test_an_interrupt_keeps_what_was_measured_and_the_same_command_goes_on(
    machine: Machine, tmp_path: Path
) -> None:
    out = tmp_path / "tune.json"

    def interrupted(seqs: int, cached: bool, seed: int) -> float:
        if len(machine.started) == 4:
            raise KeyboardInterrupt
        return few_at_once(seqs, cached, seed)

    machine.speed = interrupted
    done = run("--trials", "6", "--rounds", "0", "--out", str(out))
    assert done.exit_code == 130
    assert "the same command goes on" in done.stderr
    assert len(read(out).trials) == 3
    first = list(read(out).trials)
    machine.speed = few_at_once
    assert run("--trials", "6", "--rounds", "0", "--out", str(out)).exit_code == 0
    assert list(read(out).trials)[:3] == first
    assert len(read(out).trials) == 6


def test_a_file_of_another_search_is_refused(machine: Machine, tmp_path: Path) -> None:
    out = tmp_path / "tune.json"
    run("--trials", "2", "--rounds", "0", "--out", str(out))
    before = out.read_bytes()
    for options, said in [(["--tokens", "5"], "load"), (["--search", "threads=1,2"], "parameters")]:
        done = run("--trials", "2", "--rounds", "0", "--out", str(out), *options)
        assert done.exit_code == 2
        assert f"recorded with another setup: {said}" in done.stderr
    assert out.read_bytes() == before


def test_settings_that_fail_are_left_behind(machine: Machine, tmp_path: Path) -> None:
    def fails(seqs: int, cached: bool, seed: int) -> float:
        if seqs == 8:
            raise FailedError("no memory")
        return few_at_once(seqs, cached, seed)

    machine.speed = fails
    done = run("--trials", "6", "--rounds", "3")
    assert done.exit_code == 0, done.output
    assert "failed: no memory" in done.stdout
    assert done.stdout.splitlines()[-1] == "plait serve m --max-num-seqs 4"


def test_a_default_that_fails_ends_the_search(machine: Machine) -> None:
    def fails(seqs: int, cached: bool, seed: int) -> float:
        raise FailedError("no memory")

    machine.speed = fails
    done = run("--trials", "6")
    assert done.exit_code == 2
    assert "the default settings fail: no memory" in done.stderr


def test_the_time_is_kept(machine: Machine) -> None:
    done = run("--trials", "6", "--rounds", "3", "--minutes", "0.0000001")
    assert done.exit_code == 0, done.output
    assert len(machine.started) == 1
    assert "1 of 6 settings" in done.stdout


def test_a_recorded_landscape_is_searched_without_a_server(
    machine: Machine, tmp_path: Path
) -> None:
    file = tmp_path / "tune.json"
    landscape().save(file)
    options = ["--landscape", str(file), "--objective", "throughput"]
    done = CliRunner().invoke(app, ["tune", *options])
    assert done.exit_code == 0, done.output
    assert "84 settings" in done.stdout
    assert "max_num_seqs=8 max_num_batched_tokens=1024 enable_prefix_caching=True" in done.stdout
    assert "as chance or better with" in done.stdout
    assert CliRunner().invoke(app, ["tune", *options]).stdout == done.stdout
    assert machine.started == []


def test_a_recorded_load_is_taken_and_options_win_over_it(machine: Machine, tmp_path: Path) -> None:
    file, out = tmp_path / "serve.json", tmp_path / "tune.json"
    load = {name: getattr(Load(), name) for name in Load.__dataclass_fields__}
    file.write_text(json.dumps({"load": {**load, "rate": 3.0, "tokens": 9, "seed": 5}}))
    options = ["--load", str(file), "--tokens", "8", "--trials", "1", "--rounds", "0"]
    done = CliRunner().invoke(app, ["tune", "m", *SEARCH, *options, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert read(out).setup["load"] == {**load, "rate": 3.0, "tokens": 8, "seed": 5}
    assert machine.started == [([], 5)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "how much load?"),
        (["--rate", "1", "--rounds", "2"], "2 held-out loads tell nothing"),
        (["--rate", "1", "--objective", "speed"], "is no objective"),
        (["--rate", "1", "--sampler", "grid"], "is no sampler"),
        (["--rate", "1", "--search", "kv"], "no parameter that changes the speed"),
        (["--rate", "1", "--search", "max_step_stretch"], "plait bench step m"),
        (["--rate", "1", "--landscape", "x.json"], "measures nothing"),
        (["--landscape", "no/such/file"], "No such file"),
        (["--load", __file__], "is no record"),
    ],
)
def test_what_cannot_be_done_is_said(machine: Machine, arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["tune", "m", *arguments])
    assert done.exit_code in (1, 2)
    assert said in " ".join(done.output.split())
    assert machine.started == []


def test_flags_and_file_make_the_settings_again(seen: Seen, tmp_path: Path) -> None:
    from plait.cli.serve import SERVED_ENGINE
    from plait.cli.spelled import flags, settings_file
    from plait.core.config import EngineConfig

    wanted = EngineConfig(
        model="m",
        max_num_seqs=3,
        max_step_stretch=2.5,
        enable_prefix_caching=False,
        offline=True,
        max_model_len=1024,
        options={"a": "1", "b": 'x "y"'},
    )
    serve = ["serve", "m", "--port", "0"]
    done = CliRunner().invoke(app, [*serve, *flags(SERVED_ENGINE, wanted)])
    assert done.exit_code == 0, done.output
    assert seen.engine == wanted
    file = tmp_path / "tuned.toml"
    file.write_text(settings_file(SERVED_ENGINE, wanted))
    done = CliRunner().invoke(app, [*serve, "--config", str(file)])
    assert done.exit_code == 0, done.output
    assert seen.engine == wanted


@pytest.mark.large
def test_a_real_model_is_tuned(tmp_path: Path) -> None:
    out = tmp_path / "tune.json"
    load = ["--concurrency", "4", "--requests", "8", "--prompt-words", "8", "--tokens", "8"]
    options = ["--search", "max_num_seqs=1,64", "--trials", "2", "--rounds", "3", "--repeats", "2"]
    goal = ["--objective", "throughput", "--out", str(out)]
    done = CliRunner().invoke(app, ["tune", "smollm2-135m", *load, *options, *goal])
    assert done.exit_code == 0, done.output
    land = read(out)
    assert set(land.trials) == {(64,), (1,)}
    for trial in land.trials.values():
        assert [len(one.answers) for one in trial.measures] == [8, 8]
        assert all(answer.tokens == 8 for one in trial.measures for answer in one.answers)
    assert "keep" in done.stdout or "plait serve smollm2-135m --max-num-seqs 1" in done.stdout
