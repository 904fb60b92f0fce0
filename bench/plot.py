"""A bar chart of the shares of the floor in results.json, as SVG."""

from html import escape
from typing import Any

WIDTH, ROW, LABEL, BAR = 760, 26, 330, 340  # pixels
GOAL = 0.55  # the share that every GET should reach; a line marks it


def plot(results: dict[str, Any]) -> str:
    """The chart of every row that is a share of the floor."""
    rows = [
        row
        for figure in results.values()
        for row in figure["rows"]
        if row["unit"] == "of the floor"
    ]
    height = ROW * (len(rows) + 1)
    marked = LABEL + BAR * GOAL
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for number, row in enumerate(rows):
        top, share = ROW * number + 8, row["value"]
        length = BAR * min(share, 1.15)
        lines += [
            f'<text x="{LABEL - 8}" y="{top + 14}" text-anchor="end">{escape(row["name"])}</text>',
            f'<rect x="{LABEL}" y="{top}" width="{length:.0f}" height="18" fill="#4a7fb5"/>',
            f'<text x="{LABEL + length + 6:.0f}" y="{top + 14}">{share:.2f}</text>',
        ]
    lines += [
        f'<line x1="{marked:.0f}" x2="{marked:.0f}" y1="0" y2="{height - 14}" stroke="#c33"/>',
        f'<text x="{marked + 4:.0f}" y="{height - 4}" fill="#c33">{GOAL} of the floor</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
