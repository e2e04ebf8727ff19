"""Tables in Markdown, whole or row by row."""

__all__ = ["head", "row", "table"]


def head(names):
    return f"{row(names)}\n{row(['---'] * len(names))}"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def table(names, rows):
    return "\n".join([head(names), *map(row, rows)])
