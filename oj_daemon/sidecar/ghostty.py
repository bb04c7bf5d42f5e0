"""The terminal emulator libghostty-vt, called directly.

Rule: only what screen.py needs, and the only importer of ctypes here. The library comes with the package `pyghostty`, which
is pinned exactly; its own binding is not imported, because it parses 3,500 lines of C declarations first: 170 ms and 5 MB
for each agent. tests/oj_daemon/sidecar/test_ghostty.py compares every size and number below with that binding.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import sys
from collections.abc import Callable
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_bool,
    c_char_p,
    c_int,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from pathlib import Path
from typing import Final

from oj_daemon.errors import AdapterError

# Enumerations of the library.
PLAIN, VT = 0, 1
OPTION_WRITE_PTY, OPTION_FOREGROUND, OPTION_BACKGROUND, OPTION_SCROLLBACK = 1, 11, 12, 28
DATA_CURSOR_X, DATA_CURSOR_Y, DATA_MODE = 3, 4, 37
POINT_ACTIVE: Final = 0
_CELL: Final = (8, 16)
"""Pixels of one cell, for programs that ask."""
_TROUBLE: Final = "load the terminal emulator: "
_HINT: Final = "install pyghostty; it has wheels for Linux with glibc and for macOS"

WRITE_PTY = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, POINTER(c_uint8), c_size_t)


class Rgb(Structure):
    """GhosttyColorRgb."""

    _fields_ = [("r", c_uint8), ("g", c_uint8), ("b", c_uint8)]


class Mode(Structure):
    """GhosttyTerminalModeConfig."""

    _fields_ = [("mode", c_uint16), ("value", c_bool)]


class Point(Structure):
    """GhosttyPoint; its union of coordinates has the size of two words."""

    _fields_ = [
        ("tag", c_int),
        ("_pad", c_int),
        ("x", c_uint16),
        ("y", c_uint32),
        ("_more", c_uint64),
    ]


class GridRef(Structure):
    """GhosttyGridRef."""

    _fields_ = [("size", c_size_t), ("node", c_void_p), ("x", c_uint16), ("y", c_uint16)]


class Selection(Structure):
    """GhosttySelection."""

    _fields_ = [
        ("size", c_size_t),
        ("start", GridRef),
        ("end", GridRef),
        ("rectangle", c_bool),
    ]


class ScreenExtra(Structure):
    """GhosttyFormatterScreenExtra."""

    _fields_ = [
        ("size", c_size_t),
        ("cursor", c_bool),
        ("style", c_bool),
        ("hyperlink", c_bool),
        ("protection", c_bool),
        ("kitty_keyboard", c_bool),
        ("charsets", c_bool),
    ]


class TerminalExtra(Structure):
    """GhosttyFormatterTerminalExtra."""

    _fields_ = [
        ("size", c_size_t),
        ("palette", c_bool),
        ("modes", c_bool),
        ("scrolling_region", c_bool),
        ("tabstops", c_bool),
        ("pwd", c_bool),
        ("keyboard", c_bool),
        ("screen", ScreenExtra),
    ]


class FormatOptions(Structure):
    """GhosttyFormatterTerminalOptions."""

    _fields_ = [
        ("size", c_size_t),
        ("emit", c_int),
        ("unwrap", c_bool),
        ("trim", c_bool),
        ("extra", TerminalExtra),
        ("selection", POINTER(Selection)),
    ]


@functools.cache
def library() -> ctypes.CDLL:
    """The library with the types of what we call."""
    spec = importlib.util.find_spec("pyghostty")  # finds, does not import
    places = (spec.submodule_search_locations if spec else None) or []
    suffix = "dylib" if sys.platform == "darwin" else "so"
    found = [Path(place) / "_lib" / f"libghostty-vt.{suffix}" for place in places]
    path = next((path for path in found if path.exists()), None)
    if path is None:
        raise AdapterError(_TROUBLE + "pyghostty is not installed", code="spawn", hint=_HINT)
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise AdapterError(f"{_TROUBLE}{error}", code="spawn", hint=_HINT) from error
    signatures: dict[str, tuple[type | None, list[type]]] = {
        "ghostty_terminal_new": (c_int, [c_void_p, POINTER(c_void_p), c_uint16, c_uint16]),
        "ghostty_terminal_free": (None, [c_void_p]),
        "ghostty_terminal_set": (c_int, [c_void_p, c_int, c_void_p]),
        "ghostty_terminal_get": (c_int, [c_void_p, c_int, c_void_p]),
        "ghostty_terminal_vt_write": (None, [c_void_p, c_char_p, c_size_t]),
        "ghostty_terminal_resize": (c_int, [c_void_p, c_uint16, c_uint16, c_uint32, c_uint32]),
        "ghostty_terminal_grid_ref": (c_int, [c_void_p, Point, POINTER(GridRef)]),
        "ghostty_formatter_terminal_new": (
            c_int,
            [c_void_p, POINTER(c_void_p), c_void_p, FormatOptions],
        ),
        "ghostty_formatter_format_buf": (
            c_int,
            [c_void_p, c_void_p, c_size_t, POINTER(c_size_t)],
        ),
        "ghostty_formatter_free": (None, [c_void_p]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


class Terminal:
    """One emulated terminal."""

    def __init__(self, cols: int, rows: int, scrollback: int) -> None:
        self._library = library()
        self._handle = c_void_p()
        self._callback: object = None
        self._cols, self._rows = cols, rows
        self._check("terminal_new", None, byref(self._handle), cols, rows)
        self._set(OPTION_SCROLLBACK, byref(c_size_t(scrollback)))

    def __del__(self) -> None:
        if self._handle.value is not None:
            self._library.ghostty_terminal_free(self._handle)

    def colours(self, foreground: tuple[int, int, int], background: tuple[int, int, int]) -> None:
        """What a program is told that asks."""
        self._set(OPTION_FOREGROUND, byref(Rgb(*foreground)))
        self._set(OPTION_BACKGROUND, byref(Rgb(*background)))

    def on_reply(self, reply: Callable[[bytes], None]) -> None:
        """Call this with each answer to a question of the program, while feeding."""

        def write(_: int, __: int, data: object, size: int) -> None:
            reply(ctypes.string_at(data, size))  # type: ignore[arg-type]  # a pointer, as declared

        self._callback = WRITE_PTY(write)
        self._set(OPTION_WRITE_PTY, self._callback)

    def feed(self, data: bytes) -> None:
        """Take what the program wrote."""
        self._library.ghostty_terminal_vt_write(self._handle, data, len(data))

    def resize(self, cols: int, rows: int) -> None:
        """Change the size; the primary screen is wrapped anew."""
        self._check("terminal_resize", self._handle, cols, rows, *_CELL)
        self._cols, self._rows = cols, rows

    def cursor(self) -> tuple[int, int]:
        """Row and column."""
        return self._number(DATA_CURSOR_Y), self._number(DATA_CURSOR_X)

    def mode(self, number: int) -> bool:
        """A DEC private mode is on."""
        mode = Mode(number & 0x7FFF)
        self._check("terminal_get", self._handle, DATA_MODE, byref(mode))
        return bool(mode.value)

    def visible(self, emit: int) -> str:
        """The rows on the screen, trimmed; separated by CR LF as VT, by LF as plain text."""
        rows = Selection(size=ctypes.sizeof(Selection))
        rows.start = self._ref(0, 0)
        rows.end = self._ref(self._cols - 1, self._rows - 1)
        options = _options(emit)
        options.selection = ctypes.pointer(rows)
        return self._format(options)

    def everything(self) -> str:
        """History, screen, modes and cursor as VT."""
        options = _options(VT)
        options.unwrap = True
        extra = options.extra
        extra.modes = extra.scrolling_region = extra.keyboard = True
        screen = extra.screen
        screen.cursor = screen.style = screen.protection = True
        screen.kitty_keyboard = screen.charsets = True
        return self._format(options)

    def _ref(self, x: int, y: int) -> GridRef:
        ref = GridRef(size=ctypes.sizeof(GridRef))
        point = Point(tag=POINT_ACTIVE, x=x, y=y)
        self._check("terminal_grid_ref", self._handle, point, byref(ref))
        return ref

    def _format(self, options: FormatOptions) -> str:
        formatter, size = c_void_p(), c_size_t()
        self._check("formatter_terminal_new", None, byref(formatter), self._handle, options)
        try:
            self._library.ghostty_formatter_format_buf(formatter, None, 0, byref(size))
            buffer = ctypes.create_string_buffer(max(size.value, 1))
            self._check("formatter_format_buf", formatter, buffer, len(buffer), byref(size))
            return buffer.raw[: size.value].decode("utf-8", "replace")
        finally:
            self._library.ghostty_formatter_free(formatter)

    def _number(self, what: int) -> int:
        value = c_uint16()
        self._check("terminal_get", self._handle, what, byref(value))
        return value.value

    def _set(self, option: int, value: object) -> None:
        self._check("terminal_set", self._handle, option, value)

    def _check(self, name: str, *arguments: object) -> None:
        result = getattr(self._library, f"ghostty_{name}")(*arguments)
        if result:
            raise AdapterError(f"emulate the terminal: {name} failed with {result}")


def _options(emit: int) -> FormatOptions:
    options = FormatOptions(size=ctypes.sizeof(FormatOptions), emit=emit, trim=True)
    options.extra.size = ctypes.sizeof(TerminalExtra)
    options.extra.screen.size = ctypes.sizeof(ScreenExtra)
    return options
