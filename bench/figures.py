"""The figures of a benchmark run, each with its bar, collected for the table at the end."""

from __future__ import annotations

from typing import Any, NamedTuple


class Figure(NamedTuple):
    """One line of the table."""

    benchmark: str
    metric: str
    value: float
    verdict: str


class Report:
    """Puts figures of one benchmark into pytest-benchmark's ``extra_info`` and into the table at the end."""

    def __init__(self, benchmark: str, extra_info: dict[str, Any], table: list[Figure]) -> None:
        self._benchmark = benchmark
        self._extra_info = extra_info
        self._table = table

    def __call__(
        self, metric: str, value: float, *, at_least: float | None = None, at_most: float | None = None
    ) -> None:
        """Add a figure; a bar is judged in the table and never fails the run, since machines are noisy."""
        self._extra_info[metric] = value
        verdict = ""
        if at_least is not None:
            verdict = f"bar >= {at_least:g}: {'met' if value >= at_least else 'MISSED'}"
        if at_most is not None:
            verdict = f"bar <= {at_most:g}: {'met' if value <= at_most else 'MISSED'}"
        self._table.append(Figure(self._benchmark, metric, value, verdict))


def lines(table: list[Figure]) -> list[str]:
    """The table as text, one line a figure."""
    name_width = max(len(figure.benchmark) for figure in table)
    metric_width = max(len(figure.metric) for figure in table)
    return [
        f"{name:{name_width}}  {metric:{metric_width}}  {value:>12.4g}  {verdict}".rstrip()
        for name, metric, value, verdict in table
    ]
