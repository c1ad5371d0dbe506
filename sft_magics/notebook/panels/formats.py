"""Numbers, times and sizes as a person reads them; a number and its unit stay on one line (U+00A0)."""

import math
import time

NOTHING = "–"


def number(value: float | None, digits: int = 3) -> str:
    """Return `value` with `digits` decimals; a dash for None, "not a number" said as such."""
    if value is None:
        return NOTHING
    if math.isnan(value):
        return "NaN"
    return f"{value:.{digits}f}" if math.isfinite(value) else ("∞" if value > 0 else "−∞")


def count(value: float) -> str:
    """Return a whole number with thousands separated."""
    return f"{value:,.0f}"


def general(value: float) -> str:
    """Return a number whose size is not known beforehand with about three figures."""
    if not math.isfinite(value) or value == 0:
        return number(value, 0)
    if abs(value) >= 1000 or value == int(value):
        return count(value)
    return f"{value:#.3g}".rstrip(".") if abs(value) >= 0.001 else rate(value)


def percent(value: float | None) -> str:
    """Return a fraction as a percentage."""
    return NOTHING if value is None or not math.isfinite(value) else f"{100 * value:.1f}\u00a0%"


def rate(value: float) -> str:
    """Return a learning rate, such as 4.8e-5."""
    if not math.isfinite(value) or value == 0:
        return number(value, 0)
    mantissa, _, exponent = f"{value:.2g}".partition("e")
    if exponent:
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.1e}".replace("e-0", "e-") if abs(value) < 0.001 else mantissa


def value(option: object) -> str:
    """Return the value of an option as one would type it, such as 1e-5."""
    return f"{option:g}".replace("e-0", "e-") if isinstance(option, int | float) else str(option)


def duration(seconds: float | None) -> str:
    """Return a length of time in its two largest units."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if 0 < seconds < 1:
        return f"{1000 * seconds:.0f}\u00a0ms"
    whole = round(max(0.0, seconds))
    for size, unit, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size}\u00a0{unit} {rest:02d}\u00a0{smaller}" if rest else f"{whole // size}\u00a0{unit}"
    return f"{whole}\u00a0s"


def milliseconds(value: float | None) -> str:
    """Return a latency given in milliseconds."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:.1f}\u00a0ms" if value < 100 else f"{value:,.0f}\u00a0ms"


def size(value: float) -> str:
    """Return bytes in decimal units."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:,.1f}\u00a0{unit}"
    return f"{value:,.0f}\u00a0B"


def megabytes(value: float) -> str:
    """Return an amount of memory given in MB."""
    return f"{value / 1000:.2f}\u00a0GB" if value >= 1000 else f"{value:.0f}\u00a0MB"


def when(at: float | None) -> str:
    """Return a time as local date, hour and minute."""
    if at is None or not math.isfinite(at):
        return NOTHING
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
