"""Our declarations of the emulator's library against those that come with it."""

from __future__ import annotations

import ctypes

import pytest
from pyghostty._ffi import ffi, lib

from oj_daemon.sidecar import ghostty


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ghostty.Rgb, "GhosttyColorRgb"),
        (ghostty.Mode, "GhosttyTerminalModeConfig"),
        (ghostty.Point, "GhosttyPoint"),
        (ghostty.GridRef, "GhosttyGridRef"),
        (ghostty.Selection, "GhosttySelection"),
        (ghostty.ScreenExtra, "GhosttyFormatterScreenExtra"),
        (ghostty.TerminalExtra, "GhosttyFormatterTerminalExtra"),
        (ghostty.FormatOptions, "GhosttyFormatterTerminalOptions"),
    ],
)
def test_a_struct_has_their_size_and_their_fields_where_they_have_them(
    ours: type[ctypes.Structure], theirs: str
) -> None:
    assert ctypes.sizeof(ours) == ffi.sizeof(theirs)
    fields = dict(ffi.typeof(theirs).fields)
    for name, *_ in ours._fields_:
        if name in fields:
            assert getattr(ours, name).offset == fields[name].offset, name
    if theirs != "GhosttyPoint":  # there the union hides the coordinates
        assert [name for name, *_ in ours._fields_] == list(fields)


def test_the_coordinates_of_a_point_lie_where_their_union_begins() -> None:
    fields = dict(ffi.typeof("GhosttyPoint").fields)
    inner = dict(ffi.typeof("GhosttyPointCoordinate").fields)
    assert ghostty.Point.x.offset == fields["value"].offset + inner["x"].offset
    assert ghostty.Point.y.offset == fields["value"].offset + inner["y"].offset


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ghostty.PLAIN, "FORMATTER_FORMAT_PLAIN"),
        (ghostty.VT, "FORMATTER_FORMAT_VT"),
        (ghostty.OPTION_WRITE_PTY, "TERMINAL_OPT_WRITE_PTY"),
        (ghostty.OPTION_FOREGROUND, "TERMINAL_OPT_COLOR_FOREGROUND"),
        (ghostty.OPTION_BACKGROUND, "TERMINAL_OPT_COLOR_BACKGROUND"),
        (ghostty.OPTION_SCROLLBACK, "TERMINAL_OPT_SCROLLBACK_MAX_LINES"),
        (ghostty.DATA_CURSOR_X, "TERMINAL_DATA_CURSOR_X"),
        (ghostty.DATA_CURSOR_Y, "TERMINAL_DATA_CURSOR_Y"),
        (ghostty.DATA_MODE, "TERMINAL_DATA_MODE"),
        (ghostty.POINT_ACTIVE, "POINT_TAG_ACTIVE"),
    ],
)
def test_a_number_is_theirs(ours: int, theirs: str) -> None:
    assert ours == getattr(lib, f"GHOSTTY_{theirs}")
