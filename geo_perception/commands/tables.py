# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Tables on a terminal."""

from rich.table import Table


def print_table(console, columns, rows):
    """
    Print a table of systems, one a column.

    Parameters
    ----------
    console : rich.console.Console
        Where to.
    columns : list of str
        Their names.
    rows : list of (str, list of str)
        Name and one cell a column.

    """
    table = Table(box=None, pad_edge=False, header_style='dim')
    table.add_column('')
    for column in columns:
        table.add_column(column, justify='right')
    for name, cells in rows:
        table.add_row(name, *cells)
    console.print(table)
