"""Numbers as people read them. None, NaN and infinity become a dash; nothing here ever prints "nan"."""

from __future__ import annotations

import math
from typing import Any

DASH = "–"
SPACE = "\u00a0"  # between number and unit, so that a line never breaks there


def number(value: Any) -> float | None:
    """A finite float, or None for everything that is not one.

    >>> number(float("nan")) is None, number("3") is None, number(True) is None, number(2)
    (True, True, True, 2.0)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def clean(value: Any) -> Any:
    """The same JSON value with NaN and infinities as None, and mappings and sequences as plain dicts and lists."""
    if isinstance(value, dict):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def grouped(value: float, significant: int = 3) -> str:
    """A plain number with thousands separators and about ``significant`` digits.

    >>> grouped(12345.6), grouped(41.26), grouped(0.04213), grouped(3)
    ('12,346', '41.3', '0.0421', '3')
    """
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else DASH
    decimals = max(0, significant - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def plain(value: float | None) -> str:
    """A number without a unit, or a dash.

    >>> plain(0.5), plain(-0.00042), plain(1.9073e-6), plain(None)
    ('0.5', '−0.00042', '1.9e-6', '–')
    """
    if value is not None and 0 < abs(value) < 1e-4:
        digits, power = f"{value:.1e}".split("e")
        return f"{digits}e{int(power)}".replace("-", "−", value < 0)
    return DASH if value is None else grouped(value).replace("-", "−")


def share(value: float | None, digits: int = 1) -> str:
    """A rate in per cent.

    >>> share(0.97123).replace(SPACE, " "), share(None)
    ('97.1 %', '–')
    """
    return DASH if value is None else f"{100 * value:.{digits}f}{SPACE}%".replace("-", "−")


def fraction(value: float | None, digits: int = 3) -> str:
    """A number around 1, such as a correlation, with so many decimals; the sign of a rounded zero is dropped.

    >>> fraction(0.87126), fraction(-0.2, 2), fraction(-0.0001), fraction(None)
    ('0.871', '−0.20', '0.000', '–')
    """
    if value is None:
        return DASH
    text = f"{value:.{digits}f}"
    return text.replace("-", "" if not text.strip("-0.") else "−")


def signed(value: float | None, digits: int = 1) -> str:
    """A difference of two rates in points, with its sign and without the unit; the sign of a rounded zero is dropped.

    >>> signed(0.0121), signed(-0.004), signed(-0.0001)
    ('+1.2', '−0.4', '0.0')
    """
    if value is None:
        return DASH
    text = f"{100 * value:+.{digits}f}"
    return text[1:] if not text.strip("+-0.") else text.replace("-", "−")


def whole(value: float | None) -> str:
    """A count in full: ``1,437``."""
    return DASH if value is None else f"{value:,.0f}"


def size(value: float | None) -> str:
    """Bytes, decimal units.

    >>> size(34_100_000).replace(SPACE, " "), size(812_000).replace(SPACE, " "), size(17).replace(SPACE, " ")
    ('34.1 MB', '812 kB', '17 B')
    """
    return _scaled(value, ("B", "kB", "MB", "GB", "TB"))


def count(value: float | None) -> str:
    """How many, shortened.

    >>> count(22_713_216).replace(SPACE, " "), count(650)
    ('22.7 M', '650')
    """
    return _scaled(value, ("", "k", "M", "bn"))


def _scaled(value: float | None, units: tuple[str, ...]) -> str:
    if value is None:
        return DASH
    power = 0
    while abs(value) >= 999.5 and power < len(units) - 1:
        value, power = value / 1000, power + 1
    unit = units[power]
    return f"{grouped(value)}{SPACE}{unit}" if unit else grouped(value)


def milliseconds(value: float | None) -> str:
    """A latency; below a millisecond in microseconds.

    >>> milliseconds(0.0421).replace(SPACE, " "), milliseconds(41.26).replace(SPACE, " ")
    ('42.1 µs', '41.3 ms')
    """
    if value is None:
        return DASH
    return f"{grouped(1000 * value)}{SPACE}µs" if 0 < value < 1 else f"{grouped(value)}{SPACE}ms"


def seconds(value: float | None) -> str:
    """A duration.

    >>> [seconds(x).replace(SPACE, " ") for x in (0.31, 8.2, 92, 7300)]
    ['0.31 s', '8.2 s', '1 min 32 s', '2 h 1 min']
    """
    if value is None:
        return DASH
    if value < 0.01:
        return f"under{SPACE}0.01{SPACE}s"
    if value < 60:
        return f"{grouped(value, 2)}{SPACE}s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}{SPACE}min{SPACE}{whole % 60}{SPACE}s"
    return f"{whole // 3600}{SPACE}h{SPACE}{whole % 3600 // 60}{SPACE}min"


def times(value: float | None) -> str:
    """A ratio: ``11.2×``."""
    return DASH if value is None else f"{grouped(value)}×"


def rate(value: float | None) -> str:
    """Rows per second, three significant digits: more are never reproduced.

    >>> rate(16630.86).replace(SPACE, " ")
    '16,600 /s'
    """
    return DASH if value is None else f"{grouped(float(f'{value:.3g}'))}{SPACE}/s"


def probability(value: float) -> str:
    """Three decimals without the leading zero, as papers print them.

    >>> probability(0.97063), probability(1.0)
    ('.971', '1.00')
    """
    return f"{value:.2f}" if value >= 0.9995 else f"{value:.3f}"[1:]


def clip(text: Any, most: int) -> str:
    """At most ``most`` characters of a text, with an ellipsis where it was cut; a dash for None."""
    text = DASH if text is None else str(text)
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
