"""The commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer
from rich.console import Console

from recengine.cli.errors import one_line_errors
from recengine.events import TimeUnit, read_events

Order: TypeAlias = Literal["file", "shuffled"]
Objective: TypeAlias = Literal["softmax", "bpr", "logistic", "squared"]
RankerName: TypeAlias = Literal["auto", "linear", "mlp", "none"]

app = typer.Typer(
    name="recengine",
    help="Real-time recommendation inside your process.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def demo(
    events: Annotated[int, typer.Option(min=100, help="Events to stream.")] = 400_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the shop and of the engine.")] = 0,
    seconds: Annotated[float, typer.Option(min=1, help="Stop the stream after this time, done or not.")] = 40.0,
) -> None:
    """Stream a simulated shop through the engine and watch it learn."""
    with one_line_errors(ImportError, ValueError):
        from recengine.cli.demo import run_demo

        run_demo(Console(highlight=False), events=events, seed=seed, seconds=seconds)


@app.command()
def replay(
    file: Annotated[
        Path, typer.Argument(help="CSV, TSV, JSON lines or Parquet, by its extension.", show_default=False)
    ],
    user: Annotated[str, typer.Option(metavar="COL", help="Column of user ids.", show_default=False)],
    item: Annotated[str, typer.Option(metavar="COL", help="Column of item ids.", show_default=False)],
    time: Annotated[str, typer.Option(metavar="COL", help="Column of times: numbers, datetimes or ISO 8601 text.")],
    value: Annotated[str | None, typer.Option(metavar="COL", help="Column of labels or ratings.")] = None,
    time_unit: Annotated[TimeUnit, typer.Option(help="What a numeric time counts, since 1970.")] = "s",
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Length of the recommendations.")] = 10,
    exclude_seen: Annotated[bool, typer.Option("--exclude-seen", help="Recommend no item twice.")] = False,
    order: Annotated[Order, typer.Option(help="Of the lines within equal user and time.")] = "file",
    order_seed: Annotated[int, typer.Option(min=0, help="Of the shuffling.")] = 0,
    session_gap: Annotated[
        float, typer.Option(metavar="SECONDS", help="A user's next event after more than this opens a session.")
    ] = 1800.0,
    compare: Annotated[
        str, typer.Option(metavar="NAMES", help="Baselines to run too, by commas: see recengine.baselines.")
    ] = "",
    objective: Annotated[Objective | None, typer.Option(help="What to learn.", show_default="softmax")] = None,
    dim: Annotated[int | None, typer.Option(help="Dimensions of the rows.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Step size.")] = None,
    l2: Annotated[float | None, typer.Option(help="Regularisation.")] = None,
    negatives: Annotated[int | None, typer.Option(help="Sampled negatives an event.")] = None,
    history: Annotated[int | None, typer.Option(help="Last items in a user's vector; 0 for none.")] = None,
    history_decay: Annotated[float | None, typer.Option(help="Weight of an item over that of the next.")] = None,
    ranker: Annotated[RankerName, typer.Option(help="What orders the candidates.")] = "auto",
    seed: Annotated[int | None, typer.Option(help="Of everything drawn.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="OUT", help="Write all figures there.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="OUT.png", help="Plot recall over time there.")] = None,
) -> None:
    """Replay recorded events: each is first a query, then a lesson. Reports recall against popularity.

    Options of the engine that are not given keep its defaults.
    """
    settings: dict[str, Any] = {
        "objective": objective,
        "dim": dim,
        "learning_rate": learning_rate,
        "l2": l2,
        "negatives": negatives,
        "history": history,
        "history_decay": history_decay,
        "seed": seed,
    }
    messages = Console(stderr=True, highlight=False, soft_wrap=True)
    with one_line_errors(ImportError, OSError, ValueError):
        from recengine import Engine
        from recengine.cli.replay import check_outputs, in_time_order, run_replay

        check_outputs(json, plot)
        given = {name: value for name, value in settings.items() if value is not None}
        engine = Engine(**given, ranker=None if ranker == "none" else ranker)
        with one_line_errors(TypeError):
            events = read_events(file, user=user, item=item, time=time, value=value, time_unit=time_unit)
        result = run_replay(
            engine,
            in_time_order(events, messages),
            k=k,
            exclude_seen=exclude_seen,
            order=order,
            order_seed=order_seed,
            session_gap=session_gap,
            compare=[name.strip() for name in compare.split(",") if name.strip()],
            json_path=json,
            plot_path=plot,
            output=Console(highlight=False),
            messages=messages,
        )
    if result.interrupted:
        raise typer.Exit(130)


@app.command()
def explore(
    policies: Annotated[
        str, typer.Option(metavar="NAMES", help="By commas; rewards are compared with the first one's.")
    ] = "greedy,epsilon_greedy,softmax,thompson,ucb,squarecb,mmr",
    days: Annotated[int, typer.Option(min=1, help="Days of 400 visits.")] = 30,
    seeds: Annotated[int, typer.Option(min=1, help="Audiences, each with a seed of its own.")] = 3,
    json: Annotated[Path | None, typer.Option(metavar="OUT", help="Write the figures of every day there.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="OUT.png", help="Plot regret, coverage and diversity there.")
    ] = None,
) -> None:
    """Try policies on a simulated audience: tastes drift, lists bore, items come and go."""
    names = [name.strip() for name in policies.split(",") if name.strip()]
    with one_line_errors(ImportError, OSError, ValueError):
        from recengine.cli.explore import check_policies, run_explore
        from recengine.cli.replay import check_outputs

        check_policies(names)
        check_outputs(json, plot)
        output, messages = Console(highlight=False), Console(stderr=True, highlight=False, soft_wrap=True)
        try:
            run_explore(names, days=days, seeds=seeds, json_path=json, plot_path=plot, output=output, messages=messages)
        except KeyboardInterrupt:
            messages.print("recengine: interrupted")
            raise typer.Exit(130) from None


@app.command()
def info() -> None:
    """Show the version, the instruction sets, the threads, the huge pages."""
    with one_line_errors(ImportError, ValueError):
        import recengine
        from recengine.cli.info import info_table

        Console(highlight=False).print(info_table(recengine.info()))
