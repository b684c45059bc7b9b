"""The command line: what it prints and writes, and how it fails."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

import recengine
from recengine.cli import demo, scoreboard
from recengine.cli.app import app
from recengine.events import read_events
from recengine.simulate import Day, Shop

COLUMNS = ["--user", "who", "--item", "what", "--time", "when"]
FIGURES = {
    "events",
    "evaluated",
    "recall",
    "ndcg",
    "mrr",
    "popularity_recall",
    "popularity_7d_recall",
    "recall_by_decile",
}
FIGURES |= {"learn_us_p50", "learn_us_p99", "query_us_p50", "query_us_p99", "events_per_s", "settings"}


@pytest.fixture(scope="module")
def shop_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 events of a small shop with text ids, in time order."""
    days = list(Shop(seed=3, users=100, places=10, sessions=100).stream(2_000))
    path = tmp_path_factory.mktemp("shop") / "events.csv"
    pl.DataFrame(
        {
            "who": [f"c{user}" for day in days for user in day.users.tolist()],
            "what": [f"i{item}" for day in days for item in day.items.tolist()],
            "when": np.concatenate([day.timestamps for day in days]),
        }
    ).write_csv(path)
    return path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def run_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "recengine", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, timeout=60, check=False
    )


def one_line(stderr: str) -> str:
    """The only line of stderr, which is no traceback."""
    (line,) = stderr.splitlines()
    assert line.startswith("recengine: ")
    return line


def test_replay_prints_a_table_and_writes_figures_and_a_plot(shop_file: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "out.json", tmp_path / "out.png"
    done = run("replay", shop_file, *COLUMNS, "--k", 5, "--dim", 16, "--seed", 4, "--json", out, "--plot", plot)
    assert done.exit_code == 0
    for text in ("recall@5", "NDCG@5", "recengine", "popularity, all time", "popularity, 7 days", "query", "p99"):
        assert text in done.stdout
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures.keys() >= FIGURES
    assert (figures["events"], figures["evaluated"], figures["k"]) == (2_000, 1_400, 5)
    assert len(figures["recall_by_decile"]) == 10
    assert (figures["settings"]["dim"], figures["settings"]["seed"]) == (16, 4)
    assert f"{figures['recall']:.4f}" in done.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_replay_gives_what_prequential_gives(shop_file: Path, tmp_path: Path) -> None:
    from recengine.evaluate import prequential

    out = tmp_path / "out.json"
    assert run("replay", shop_file, *COLUMNS, "--exclude-seen", "--json", out).exit_code == 0
    events = read_events(shop_file, user="who", item="what", time="when")
    expected = prequential(recengine.Engine(), events, exclude_seen=True)
    figures = json.loads(out.read_text(encoding="utf-8"))
    for name in ("recall", "ndcg", "mrr", "popularity_recall", "popularity_7d_recall", "recall_by_decile"):
        assert figures[name] == getattr(expected, name)


def test_replay_compares_in_both_orders(shop_file: Path, tmp_path: Path) -> None:
    from recengine.evaluate import prequential

    invoices, out, plot = tmp_path / "invoices.csv", tmp_path / "out.json", tmp_path / "out.png"
    frame = pl.read_csv(shop_file)
    frame.with_columns(when=(frame["when"] // 86400) * 86400).write_csv(invoices)
    options = ["--order", "shuffled", "--order-seed", 3, "--session-gap", 90_000]
    compare = ["--compare", "popularity, isgd,cooccurrence"]
    done = run("replay", invoices, *COLUMNS, *options, *compare, "--json", out, "--plot", plot)
    assert done.exit_code == 0
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert list(figures["baselines"]) == ["popularity", "popularity_7d", "isgd", "cooccurrence"]
    expected = prequential(
        recengine.Engine(),
        read_events(invoices, user="who", item="what", time="when"),
        order="shuffled",
        order_seed=3,
        session_gap=90_000.0,
        compare=["isgd", "cooccurrence"],
    ).to_dict()
    for name in ("recall", "recall_ci", "first_of_session", "baselines", "order", "order_seed", "session_gap"):
        assert figures[name] == expected[name]
    assert 0 < figures["first_of_session"]["evaluated"] < figures["evaluated"]
    for text in ("first of", "session", "cooccurrence", f"{figures['baselines']['isgd']['recall']:.4f} ± 0.", "seed 3"):
        assert text in done.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_replay_passes_settings_on(shop_file: Path, tmp_path: Path) -> None:
    settings = {
        "objective": "bpr",
        "learning_rate": 0.25,
        "l2": 0.125,
        "negatives": 3,
        "history": 2,
        "history_decay": 0.75,
        "ranker": "mlp",
    }
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    out = tmp_path / "out.json"
    assert run("replay", shop_file, *COLUMNS, *options, "--json", out).exit_code == 0
    written = json.loads(out.read_text(encoding="utf-8"))["settings"]
    assert {name: written[name] for name in settings} == settings
    assert run("replay", shop_file, *COLUMNS, "--ranker", "none", "--json", out).exit_code == 0
    assert json.loads(out.read_text(encoding="utf-8"))["settings"]["ranker"] is None


def test_replay_reads_values_and_units(tmp_path: Path) -> None:
    path, out = tmp_path / "e.tsv", tmp_path / "out.json"
    rows = [f"{row % 7}\t{row % 5}\t{row * 1000}\t{row % 2}" for row in range(200)]
    path.write_text("\n".join(["who\twhat\twhen\tlike", *rows]), encoding="utf-8")
    options = ["--value", "like", "--objective", "logistic", "--time-unit", "ms", "--json", out]
    assert run("replay", path, *COLUMNS, *options).exit_code == 0
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures["evaluated"] == sum(row % 2 for row in range(60, 200))
    assert figures["log_loss"] > 0


def test_unsorted_events_are_sorted_and_that_is_said(shop_file: Path, tmp_path: Path) -> None:
    shuffled, first, second = tmp_path / "shuffled.parquet", tmp_path / "first.json", tmp_path / "second.json"
    pl.read_csv(shop_file).sample(fraction=1, shuffle=True, seed=1).write_parquet(shuffled)
    assert run("replay", shop_file, *COLUMNS, "--json", first).stderr == ""
    done = run("replay", shuffled, *COLUMNS, "--json", second)
    assert done.exit_code == 0
    assert "not in time order" in one_line(done.stderr)
    recalls = [json.loads(path.read_text(encoding="utf-8"))["recall"] for path in (first, second)]
    assert recalls[0] == recalls[1]


def test_an_interrupt_gives_the_result_so_far(shop_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(recengine.Engine):
        calls = 0

        def learn_one(self, *arguments: Any, **options: Any) -> None:
            Interrupted.calls += 1
            if Interrupted.calls > 100:
                raise KeyboardInterrupt
            super().learn_one(*arguments, **options)

    monkeypatch.setattr(recengine, "Engine", Interrupted)
    out = tmp_path / "out.json"
    done = run("replay", shop_file, *COLUMNS, "--json", out)
    assert done.exit_code == 130
    assert "interrupted" in one_line(done.stderr)
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures["interrupted"]
    assert figures["events"] == 600 + 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--item", "wat"], "no column 'wat'; there are who, what, when"),
        (["--time", "what"], "column 'what': not a time"),
        (["--item", "when"], "column 'when': ids are integers or text"),
        (["--dim", "0"], "0"),
        (["--json", "/no/such/folder/out.json"], "/no/such/folder/out.json: No such file or directory"),
        (["--json", "."], ".: Is a directory"),
        (["--plot", "out.docx"], "unknown extension '.docx'"),
        (["--compare", "isdg"], "unknown baseline 'isdg', expected one of popularity"),
        (["--session-gap", "nan"], "session_gap must not be negative, got nan"),
    ],
)
def test_wrong_arguments(shop_file: Path, arguments: list[str], message: str) -> None:
    done = run("replay", shop_file, *COLUMNS, *arguments)
    assert done.exit_code == 2
    assert message in one_line(done.stderr)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("e.csv", "", "the file is empty"),
        ("e.csv", "who,what,when\n", "holds no events"),
        ("e.csv", "who,what,when\na,b,1\na,,1\n", "column 'what': missing value in row 2"),
        ("e.parquet", "garbage", "not readable as parquet"),
        ("e.xml", "<a/>", "unknown extension '.xml'"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    path, out = tmp_path / name, tmp_path / "out.json"
    path.write_text(text, encoding="utf-8")
    done = run("replay", path, *COLUMNS, "--json", out)
    assert done.exit_code == 2
    assert message in one_line(done.stderr)
    assert not out.exists()


def test_checking_an_output_leaves_it_alone(shop_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    out.write_text("precious", encoding="utf-8")
    assert run("replay", shop_file, *COLUMNS, "--item", "wat", "--json", out).exit_code == 2
    assert out.read_text(encoding="utf-8") == "precious"


def test_info_shows_what_the_library_says() -> None:
    done = run("info")
    assert done.exit_code == 0
    facts = recengine.info()
    for text in (facts["version"], *facts["kernels_available"], str(facts["threads"]), "huge pages"):
        assert text in done.stdout


def test_the_module_runs_as_a_command(tmp_path: Path) -> None:
    good = run_process("info")
    assert (good.returncode, good.stderr) == (0, "")
    assert recengine.__version__ in good.stdout
    bad = run_process("replay", str(tmp_path / "gone.csv"), *COLUMNS)
    assert bad.returncode == 2
    assert "gone.csv: No such file" in one_line(bad.stderr)


@pytest.mark.parametrize("command", [["info"], ["demo"]])
def test_an_unknown_instruction_set_is_one_line(command: list[str]) -> None:
    done = run_process(*command, RECENGINE_KERNELS="abacus")
    assert done.returncode == 2
    assert "abacus" in one_line(done.stderr)


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_without_its_libraries_the_command_says_what_to_install(module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from recengine.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert 'pip install "recengine[cli]"' in one_line(done.stderr)


@pytest.mark.parametrize(("module", "option"), [("polars", []), ("matplotlib", ["--plot", "out.png"])])
def test_without_a_library_replay_says_what_to_install(
    shop_file: Path, monkeypatch: pytest.MonkeyPatch, module: str, option: list[str]
) -> None:
    for name in [module, *(name for name in sys.modules if name.startswith(f"{module}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    done = run("replay", shop_file, *COLUMNS, *option)
    assert done.exit_code == 2
    assert 'pip install "recengine[cli]"' in one_line(done.stderr)


def test_demo_beats_popularity_and_follows_a_customer() -> None:
    done = run("demo", "--events", 6_000, "--seed", 1)
    assert done.exit_code == 0
    assert "\x1b" not in done.stdout  # not a terminal, no control codes
    last = [line for line in done.stdout.splitlines() if line.lstrip().startswith("6,000 events")][-1]
    engine, popularity = (
        float(last.split(f"{name} ")[1].split(",")[0].split(";")[0]) for name in ("@10", "popularity")
    )
    assert engine > 1.5 * popularity > 0
    assert "One customer" in done.stdout
    assert "6. " in done.stdout


def test_demo_draws_in_a_terminal_and_an_interrupt_skips_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "REFRESH", 0.0)
    learn, calls = demo.DailyPopularity.learn, []

    def interrupt(self: demo.DailyPopularity, item: int) -> None:
        learn(self, item)
        calls.append(item)
        if len(calls) == 1_000:
            raise KeyboardInterrupt

    monkeypatch.setattr(demo.DailyPopularity, "learn", interrupt)
    screen = io.StringIO()
    demo.run_demo(Console(file=screen, force_terminal=True, width=100), events=3_000, seed=0, seconds=60)
    assert "\x1b" in screen.getvalue()
    assert "1,000 of 3,000 events" in screen.getvalue()
    assert "One customer" in screen.getvalue()


def test_demo_stops_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "LOOK_EVERY", 50)
    screen = io.StringIO()
    demo.run_demo(Console(file=screen), events=100_000, seed=0, seconds=0)
    assert "50 of 100,000 events" in screen.getvalue()


def test_daily_popularity_is_decayed_counting_of_what_is_on_sale() -> None:
    popularity, sales = demo.DailyPopularity(), defaultdict[int, float](float)
    for day in Shop(users=50, places=5, sessions=30, churn=0.1).stream(1_500):
        popularity.turn_page(day, 1_000)
        sales = defaultdict(float, {item: count / 2 for item, count in sales.items() if item not in day.removed})
        for item in day.items.tolist():
            own = sales[item]
            at_least = [count for count in sales.values() if count >= own]
            assert popularity.hit(item) == (own > 0 and len(at_least) <= 10)
            popularity.learn(item)
            sales[item] += 1


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 10**6), st.integers(0, 10**6))))
def test_scoreboard(rows: list[tuple[bool, bool, int, int]]) -> None:
    board = scoreboard.Scoreboard(max(len(rows), 1) + 5)
    for row in rows:
        board.add(*row)
    assert board.done == len(rows)
    engine, popularity, query, learn = zip(*rows, strict=True) if rows else ([0], [0], [0], [0])
    assert board.recall() == pytest.approx((np.mean(engine), np.mean(popularity)))
    for measured, expected in zip(board.latency(), (query, learn), strict=True):
        np.testing.assert_allclose(measured, np.percentile(np.array(expected) / 1000, (50, 99)))
    assert len({len(curve) for curve in board.curves()}) == 1


def test_scoreboard_lately_looks_at_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoreboard, "LATEST", 4)
    board = scoreboard.Scoreboard(10)
    for number in range(10):
        board.add(number >= 8, number < 5, 1000 * number, 0)
    assert board.recall() == (0.2, 0.5)
    assert board.recall(lately=True) == (0.5, 0.0)
    assert board.latency()[0][0] == 7.5
    assert board.curves() == ("▁▁▁▁▁▁▁▁██", "█████▁▁▁▁▁")


def test_a_day_is_its_events() -> None:
    day: Day = next(Shop(users=5, places=5, sessions=5).stream(100))
    assert len(day) == len(day.events) == len(day.users)


def test_explore_tries_policies(tmp_path: Path) -> None:
    result = run(
        *("explore", "--policies", "greedy,softmax", "--days", 1, "--seeds", 2),
        *("--json", tmp_path / "days.json", "--plot", tmp_path / "days.png"),
    )
    assert result.exit_code == 0
    assert "softmax" in result.stdout
    assert "over greedy" in result.stdout
    assert "4 of 4 days" in result.stderr
    figures = json.loads((tmp_path / "days.json").read_text())
    assert [len(run) for run in figures["greedy"]] == [1, 1]
    assert set(figures["softmax"][0][0]) == {"day", "reward", "regret", "coverage", "exposure_gini", "diversity"}
    assert (tmp_path / "days.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--policies", "greedy,nothing"], "unknown policy 'nothing'"),
        (["--policies", " , "], "no policies"),
        (["--policies", "greedy,softmax,greedy"], "policy 'greedy' is named twice"),
        (["--plot", "days.xyz"], "unknown extension"),
    ],
)
def test_explore_refuses(options: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("explore", *options)
    assert result.exit_code == 2
    assert told in result.stderr
    assert list(tmp_path.iterdir()) == []
