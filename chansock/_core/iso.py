"""Dates and times as ISO 8601 text, for formats that have no form for them.

As orjson and pydantic write them: `2024-05-06`, `07:08:09`, and for a timedelta `P1DT2H`.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

from chansock.errors import EncodeError
from chansock.values import short_repr

__all__ = ["iso", "iso_text"]


def iso(value: object) -> str:
    """Return a date, time, or timedelta as ISO 8601 text: for `default=`.

        edn.dumps({"due": date(2024, 5, 6)}, default=edn.iso)   {:due "2024-05-06"}
        packers.EDN(default=edn.iso)                            for a channel

    It arrives as text. A default of your own can call it for what is left.

    Raises EncodeError for any other value, and for a datetime, which edn writes by itself if it
    has a time zone.
    """
    text = None if isinstance(value, datetime) else iso_text(value)
    if text is not None:
        return text
    what = "a datetime with a time zone" if isinstance(value, datetime) else "a date or a time"
    raise EncodeError(
        f"expected a value that edn has a form for, or {what}, got {short_repr(value)}"
    )


def iso_text(value: object) -> str | None:
    """Return a datetime, date, time, or timedelta as ISO 8601 text, None for anything else."""
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    return _duration(value) if isinstance(value, timedelta) else None


def _duration(value: timedelta) -> str:
    """Return `-P1DT2H3M4.5S`; the sign is that of the whole."""
    sign, rest = ("-", -value) if value < timedelta(0) else ("", value)
    minutes, seconds = divmod(rest.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{rest.microseconds:06}".rstrip("0") if rest.microseconds else ""
    days = f"{rest.days}D" if rest.days else ""
    parts = [f"{hours}H" if hours else "", f"{minutes}M" if minutes else ""]
    if seconds or fraction:
        parts.append(f"{seconds}{fraction}S")
    clock = "".join(parts)
    if not days and not clock:
        clock = "0S"
    return f"{sign}P{days}{'T' if clock else ''}{clock}"
