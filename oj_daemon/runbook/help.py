"""Comments of HCL files as help texts.

Rule: reads lines, not syntax. The comment at the head of a file speaks for the file; the comment right above a block
(blank lines between are allowed) speaks for the block. Up to the first empty comment line it is the short text, the rest the long.
"""

from __future__ import annotations

from oj_daemon.runbook.tree import Source


def _comment(line: str) -> str | None:
    """The text of a line that is a comment and nothing else."""
    stripped = line.strip()
    return stripped[1:].removeprefix(" ").rstrip() if stripped.startswith("#") else None


def split(lines: list[str]) -> tuple[str, str]:
    """Short and long text of the lines of one comment."""
    while lines and not lines[0]:
        lines = lines[1:]
    for index, line in enumerate(lines):
        if not line:
            return "\n".join(lines[:index]), "\n".join(lines[index + 1 :]).strip("\n")
    return "\n".join(lines), ""


def of_file(source: Source) -> tuple[str, str]:
    """Short and long text of the comment at the head of a file."""
    lines: list[str] = []
    for number in range(1, len(source.starts) + 1):
        text = source.line_text(number)
        comment = _comment(text)
        if comment is not None:
            if not (not lines and comment.startswith("!")):  # a #! line is not help
                lines.append(comment)
        elif text.strip() or lines:
            break
    return split(lines)


def of_block(source: Source, start: int) -> tuple[str, str]:
    """Short and long text of the comment above the block that starts at an offset."""
    number = source.place(start)[0] - 1
    while number >= 1 and not source.line_text(number).strip():
        number -= 1
    lines: list[str] = []
    while number >= 1 and (comment := _comment(source.line_text(number))) is not None:
        lines.insert(0, comment)
        number -= 1
    # A comment that begins the file and is separated from the block by nothing but blank lines speaks for both.
    return split(lines)


def describe(short: str) -> str:
    """One line for a listing: the second line of a short text (the first often repeats the name), else the first."""
    lines = short.split("\n")
    return lines[1].strip() if len(lines) > 1 else lines[0].strip()
