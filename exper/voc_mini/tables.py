"""Tables in Markdown, whole or row by row."""

import math

__all__ = ["cell", "head", "row", "table"]


def head(names):
    return f"{row(names)}\n{row(['---'] * len(names))}"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def cell(value):
    """A value with one decimal; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.1f}"


def table(names, rows):
    return "\n".join([head(names), *map(row, rows)])
