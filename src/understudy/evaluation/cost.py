"""What distilling took, and how many days of calls pay for it."""

from __future__ import annotations

from typing import Any

_YEAR = 365.0


def cost(
    *,
    label_seconds: float,
    teacher_calls: int,
    train_seconds: float,
    twin_seconds: float,
    calls_per_day: float | None = None,
    teacher_cost_per_million: float | None = None,
    teacher_per_second: float | None = None,
    artefact_per_second: float | None = None,
    machine_price_per_hour: float = 0.10,
) -> dict[str, Any]:
    """The ``cost`` of ``run.json``.

    Spent is the machine time of labelling, training and the twin; where the teacher has a price per call, labelling is
    its calls instead. A million calls cost the teacher its price, or else measured machine time; the artefact always
    machine time. ``break_even_days = spent / (calls_per_day / 10^6 * (teacher - artefact))``.

    Args:
        label_seconds: spent on the teacher's targets; 0 where they were stored already.
        teacher_calls: rows that the teacher was asked for.
        train_seconds: spent on the student.
        twin_seconds: spent on its twin.
        calls_per_day: expected load.
        teacher_cost_per_million: price of a million calls, any currency.
        teacher_per_second: measured best throughput of the teacher, rows per second.
        artefact_per_second: measured best throughput of the artefact on the same threads.
        machine_price_per_hour: of the machine that trains and serves, in the same currency.

    Returns:
        The four inputs, ``calls_per_day``, ``teacher_cost_per_million``, ``student_cost_per_million``, ``spent``,
        ``machine_price_per_hour``, ``break_even_days`` (None where unknown or never) and one ``sentence``.
    """
    teacher = teacher_cost_per_million
    if teacher is None:
        teacher = _per_million(teacher_per_second, machine_price_per_hour)
    artefact = _per_million(artefact_per_second, machine_price_per_hour)
    seconds = train_seconds + twin_seconds + (0.0 if teacher_cost_per_million is not None else label_seconds)
    spent = seconds / 3600 * machine_price_per_hour
    if teacher_cost_per_million is not None:
        spent += teacher_calls / 1e6 * teacher_cost_per_million
    days, sentence = _break_even(spent, calls_per_day, teacher, artefact)
    if calls_per_day is not None and teacher is not None and artefact is not None:
        sentence += f" (A machine hour counts as {machine_price_per_hour:g}.)"
    return {
        "label_seconds": float(label_seconds),
        "teacher_calls": int(teacher_calls),
        "train_seconds": float(train_seconds),
        "twin_seconds": float(twin_seconds),
        "calls_per_day": calls_per_day,
        "teacher_cost_per_million": teacher,
        "student_cost_per_million": artefact,
        "machine_price_per_hour": machine_price_per_hour,
        "spent": spent,
        "break_even_days": days,
        "sentence": sentence,
    }


def _per_million(per_second: float | None, price_per_hour: float) -> float | None:
    """Machine time of a million calls in currency."""
    return None if not per_second else 1e6 / per_second / 3600 * price_per_hour


def _break_even(
    spent: float, calls_per_day: float | None, teacher: float | None, artefact: float | None
) -> tuple[float | None, str]:
    """Days until the savings have paid for what was spent, and the sentence."""
    if teacher is None or artefact is None:
        return None, f"Distilling took {_money(spent)}; what a call costs was not measured, so there is no break-even."
    prices = f"a million calls cost {_money(teacher)} with the teacher and {_money(artefact)} with the artefact"
    if teacher <= artefact:
        return None, f"Not worth it: {prices}, so the artefact never pays for itself."
    saved_per_call = (teacher - artefact) / 1e6
    if not calls_per_day:
        return None, f"Pays for itself after {spent / saved_per_call:,.0f} calls: {prices}."
    days = spent / (saved_per_call * calls_per_day)
    if days > _YEAR:
        return (
            days,
            f"Not worth it: at {calls_per_day:,.0f} calls a day it takes {days:,.0f} days to pay back; {prices}.",
        )
    return days, f"Pays for itself after {_days(days)} at {calls_per_day:,.0f} calls a day: {prices}."


def _money(amount: float) -> str:
    return f"{amount:,.2f}" if amount >= 0.01 or amount == 0 else f"{amount:.2g}"


def _days(days: float) -> str:
    if days < 1:
        return "less than a day"
    return f"{days:,.1f} days" if days < 10 else f"{days:,.0f} days"
