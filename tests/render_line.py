"""Renders docs/line.svg, the picture of the line on the site's first page: `python -m tests.render_line`."""

from __future__ import annotations

import base64
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
PAGE = REPOSITORY / "docs" / "line.svg"
THINGS = ("fish", "house", "star")


def rendered() -> str:
    """The text that docs/line.svg must be: drawings, what the two commands make of them, and an answer."""
    drawings = [
        _drawing(f"drawings/{thing}/{hand + 1}.png", 40 + 48 * hand, 62 + 54 * row)
        for row, thing in enumerate(THINGS)
        for hand in range(3)
    ]
    names = [_text(188, 88 + 54 * row, thing, "start") for row, thing in enumerate(THINGS)]
    parts = [
        *drawings, *names, _text(140, 40, "a few pictures of each class"),
        _box(300, "initialization", "weights made to learn", "from a few examples"),
        _arrow(248, 292), _text(392, 40, "fewshot adapt"), _arrow(492, 536),
        _box(544, "model.onnx", "a file for onnxruntime,", "preprocessing included"),
        _text(636, 40, "fewshot export"), _arrow(736, 780), _text(846, 40, "fewshot predict"),
        _drawing("new_drawings/star1.png", 816, 84), _text(846, 172, "star", "middle", "600"),
    ]  # fmt: skip
    text = 'font-family="system-ui, sans-serif" fill="#1a202c"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 920 240" {text}>
<title>Pictures and an initialization go into fewshot adapt, a file comes out of fewshot export</title>
<rect width="920" height="240" rx="12" fill="#f6f7f9"/>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0L8 4L0 8z" fill="#4a5568"/></marker></defs>
{chr(10).join(parts)}
</svg>
"""


def _text(x: int, y: int, words: str, anchor: str = "middle", weight: str = "400") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="16" font-weight="{weight}">{words}</text>'


def _drawing(name: str, x: int, y: int) -> str:
    data = base64.b64encode((REPOSITORY / "examples" / name).read_bytes()).decode()
    side = 60 if name.startswith("new") else 42
    return f'<image x="{x}" y="{y}" width="{side}" height="{side}" href="data:image/png;base64,{data}"/>'


def _box(x: int, title: str, *lines: str) -> str:
    words = [_text(x + 92, 132 + 22 * i, line).replace('"16"', '"13"') for i, line in enumerate(lines)]
    frame = f'<rect x="{x}" y="72" width="184" height="110" rx="10" fill="#fff" stroke="#4a5568" stroke-width="1.5"/>'
    return "\n".join([frame, _text(x + 92, 106, title, "middle", "600"), *words])


def _arrow(start: int, end: int) -> str:
    return f'<path d="M{start} 127H{end}" stroke="#4a5568" stroke-width="2" marker-end="url(#tip)"/>'


if __name__ == "__main__":
    PAGE.write_text(rendered(), encoding="utf-8")
