"""The report of a folder and of two: what it says, that it stands alone, and that noise is told from change."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from freehold.cli.app import app
from freehold.errors import ConfigError, UsageError
from freehold.sizing.report import document, page, plot
from freehold.sizing.report.compare import compare
from freehold.sizing.report.plot import Band, Plot, Rule, Series
from freehold.sizing.report.run import read_run
from report_folders import make, with_fleet

MONEY = ["--hardware", "rtx-4090", "--set", "api_input_usd=0.4", "--set", "api_output_usd=1.6", "-r", "3M"]


def run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_from_a_folder_to_a_page(tmp_path: Path) -> None:
    folder = make(tmp_path / "run")
    told = json.loads(run("verdict", str(folder), *MONEY, "--json").splitlines()[-1])
    assert told["verdict"] in ("keep the API", "self-host", "too close to call")
    assert told["inputs"]["capacity_per_s"]["basis"] == "measured"
    assert told["instances"] == 2
    made = json.loads(run("report", str(folder), "--json").splitlines()[-1])
    assert made["verdict"] == told["sentence"]
    tags = {figure["basis"] for figure in made["figures"]}
    assert tags == {"measured", "derived", "assumed"}
    assert all(figure["source"] for figure in made["figures"]), "every number says how it was got"
    text = (folder / "report.md").read_text()
    html = (folder / "report.html").read_text()
    for title in ("The money", "Latency against rate", "Throughput against batch", "Where it flips", "Over the run"):
        assert f"## {title}" in text
        assert f">{title}</h2>" in html
    assert [one.split(":")[0] for one in made["missing"]] == ["size.json", "scale.json"]


def test_how_many_and_how_they_scale_stand_in_the_report(tmp_path: Path) -> None:
    folder = with_fleet(make(tmp_path / "run"))
    made = json.loads(run("report", str(folder), "--json").splitlines()[-1])
    figures = {figure["name"]: figure for figure in made["figures"]}
    assert figures["instances"]["value"] == 3
    assert figures["the simulator's error before it was fitted"]["value"] == pytest.approx(4.0)
    assert figures["traffic, mean"]["basis"] == "measured"
    assert figures["efficiency of 2 workers"]["value"] == pytest.approx(85)
    text = (folder / "report.md").read_text()
    assert "uneven batches (routing): 10.0%" in text
    assert "the client itself" not in text  # nothing went there
    assert "| 2 | p99 e2e < 500ms | 12.00% | 1.00% |" in text
    assert (folder / "report.html").read_text().count("<svg") == 6


def test_the_page_stands_alone(tmp_path: Path) -> None:
    folder = make(tmp_path / "run")
    run("report", str(folder))
    html = (folder / "report.html").read_text()
    parser = Strict()
    parser.feed(html)
    assert parser.open == []
    assert not re.search(r"""(src|href)=|url\(|@import|<link""", html)
    assert len(re.findall(r"<svg", html)) == 3
    assert len(html) < 400_000


class Strict(HTMLParser):
    """Every element is closed in order."""

    VOID = {"meta"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        """`<line/>`: nothing stays open."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_text_of_strangers_is_escaped(tmp_path: Path) -> None:
    folder = make(tmp_path / "run")
    evil = "<script>alert(1)</script>"
    (folder / "manifest.json").write_text(json.dumps({"command": evil, "load": {evil: evil}}))
    run("report", str(folder))
    assert evil not in (folder / "report.html").read_text()


def test_an_empty_folder_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to report"):
        CliRunner().invoke(app, ["report", str(tmp_path)], catch_exceptions=False)
    with pytest.raises(ConfigError, match=r"x/knee\.json"):
        read_run("x", {"knee.json": b"{"}, None)
    with pytest.raises(ConfigError, match="line 1 is no sample"):
        read_run("x", {}, [b"[]\n"])
    assert read_run("x", {}, [b'{"cut off by a cra']).requests is None


def test_each_file_alone_makes_a_report(tmp_path: Path) -> None:
    folder = make(tmp_path / "run")
    run("verdict", str(folder), *MONEY)
    for name in ("manifest.json", "knee.json", "sweep.json", "verdict.json"):
        alone = read_run("run", {name: (folder / name).read_bytes()}, None)
        told = document.document(alone)
        assert told.verdict
        assert told.sections
        assert "<svg" in page.page(told, "now") or name == "manifest.json"


def test_two_runs_of_the_same_server_differ_by_noise(tmp_path: Path) -> None:
    wrong = 0
    for seed in range(4):
        runs = [read(make(tmp_path / f"{seed}{side}", seed=10 * seed + side)) for side in (1, 2)]
        wrong += sum(change.outcome != "not beyond noise" for change in compare(*runs))
    assert wrong <= 8  # of 32 figures; three percentiles of one run move together


def read(folder: Path):  # type: ignore[no-untyped-def]
    from freehold.cli.report import read as read_folder

    return read_folder(folder)


def test_a_faster_server_is_better_beyond_noise(tmp_path: Path) -> None:
    slow, fast = make(tmp_path / "slow", service_s=0.2), make(tmp_path / "fast", service_s=0.1)
    outcomes = {change.name: change.outcome for change in compare(read(slow), read(fast))}
    assert outcomes["capacity"] == outcomes["p99 end to end"] == "better"
    back = {change.name: change.outcome for change in compare(read(fast), read(slow))}
    assert back["capacity"] == back["p99 end to end"] == "worse"
    out = tmp_path / "both.html"
    made = json.loads(run("report", str(slow), str(fast), "--out", str(out), "--json").splitlines()[-1])
    assert made["verdict"].startswith("Beyond noise, better: capacity (+100%)")
    assert out.exists()
    assert out.with_suffix(".md").exists()


def test_other_traffic_is_told(tmp_path: Path) -> None:
    one, other = make(tmp_path / "a"), make(tmp_path / "b", rate_per_s=2)
    assert "loads differ" in document.comparison(read(one), read(other)).verdict


@given(
    st.lists(st.tuples(st.floats(1e-6, 1e9), st.floats(1e-6, 1e9)), min_size=1, max_size=30),
    st.booleans(),
    st.booleans(),
)
def test_any_plot_stays_in_its_frame(points: list[tuple[float, float]], log_x: bool, log_y: bool) -> None:
    points.sort()
    xs, ys = tuple(x for x, _ in points), tuple(y for _, y in points)
    drawn = plot.svg(
        Plot(
            title="t", says="s", x_label="x", y_label="y", log_x=log_x, log_y=log_y,
            series=(Series(name="a", points=tuple(points), colour=1, style="step"),),
            bands=(Band(name="b", x=xs, low=ys, high=ys, colour=2),),
            rules=(Rule(name="r", axis="x", value=xs[0]), Rule(name="q", axis="y", value=ys[0])),
        ),
        "p",
    )  # fmt: skip
    path = re.search(r'class="line c1" d="([^"]+)"', drawn)
    assert path
    for x, y in re.findall(r"[ML](\S+) ([\d.]+)", path[1]):
        assert plot.LEFT - 0.1 <= float(x) <= plot.WIDTH - plot.RIGHT + 0.1
        assert plot.TOP - 0.1 <= float(y) <= plot.HEIGHT - plot.BOTTOM + 0.1
    assert drawn.count("<text") <= 40


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_and_cover(low: float, span: float) -> None:
    found = plot.ticks(low, low + span)
    step = found[1] - found[0]
    assert found[0] <= low + step * 1e-6
    assert found[-1] >= low + span - step * 1e-6
    assert 2 <= len(found) <= 8


def test_a_claim_that_physics_forbids_is_refused() -> None:
    words = ["cost", "--rate", "100", "--tokens", "256/128", "--hardware", "rtx-4090", "--model", "13B@4"]
    with pytest.raises(UsageError, match="Impossible: arithmetic"):
        CliRunner().invoke(app, words, catch_exceptions=False)
    words = ["cost", "--rate", "1", "--tokens", "256/128", "--model", "70B@8", "--weights", "35GB"]
    with pytest.raises(UsageError, match="size of the weights"):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_cost_shows_the_bill_the_naive_way_and_the_catalogue(tmp_path: Path) -> None:
    words = ["cost", "--rate", "4..5..6", "--tokens", "256/128", "--hardware", "rtx-4090", "--naive", *MONEY[2:]]
    shown = run(*words)
    assert "hardware bought" in shown
    assert "The naive way" in shown
    told = json.loads(run(*words, "--json").splitlines()[-1])
    assert told["cost_per_successful_request_usd"]["value"] > 0
    assert told["naive"]["months_at_volume"] > told["naive"]["months_if_full"]
    assert "rtx-4090" in run("cost", "--list")
    rented = json.loads(run("cost", "--rate", "5", "--hardware", "h100-sxm", "--rent", "--json").splitlines()[-1])
    assert [line["name"] for line in rented["own"]["lines"]] == ["hardware rented", "people"]


def test_what_is_missing_is_asked_for() -> None:
    for words, asked in (
        (["cost"], "what one instance carries"),
        (["cost", "--rate", "5"], "what an instance runs on"),
        (["verdict", "--rate", "5", "--tokens", "1/1", "--set", "hardware_usd=0"], "no API to compare"),
        (["verdict", "--rate", "5", *MONEY], "how many"),
        (["cost", "--rate", "5", "--set", "pue"], "no value"),
        (["cost", "--rate", "5", "--tokens", "5"], "not IN/OUT"),
        (["cost", "--rate", "5", "-r", "0"], "over 0"),
    ):
        with pytest.raises(UsageError, match=asked):
            CliRunner().invoke(app, words, catch_exceptions=False)


def test_a_simulation_tells_how_far_it_is_off_from_what_was_measured(tmp_path: Path) -> None:
    words = ["simulate", "--slo", "p99 e2e < 2s", "--rate", "5", "--input-tokens", "64", "--output-tokens", "32"]
    told = json.loads(run(*words, "--json").splitlines()[-1])
    assert told["holds"]
    assert "simulation_error" not in told
    folder = make(tmp_path / "run")
    told = json.loads(run(*words, "--measured", str(folder), "--json").splitlines()[-1])
    assert told["simulation_error"] == pytest.approx(
        told["simulated_capacity_per_s"] / told["measured_capacity_per_s"] - 1
    )
    assert told["simulation_within_interval"] is False
