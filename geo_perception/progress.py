# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Progress bars, on standard error so that standard output stays for results."""


def track(iterable, description, total=None):
    """
    Yield the items of an iterable behind a bar that shows a time estimate.

    Parameters
    ----------
    iterable : iterable
        What to go through.
    description : str
        A verb for the person waiting.
    total : int, optional
        Number of items, where the iterable does not know it.

    Yields
    ------
    object
        The items.

    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        # A log file wants no bar, and rich would leave an empty line.
        yield from iterable
        return
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn(), TextColumn('left'), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(iterable, total=total, description=description)
