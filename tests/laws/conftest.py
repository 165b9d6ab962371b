"""The one table of every public divergence and every public term builder, and what each must obey.

A test asks for `divergence` or `term` and is run once for each row. A public name without a row fails
`test_the_table_is_complete`.
"""

from __future__ import annotations

import pytest

from tests.laws import (
    table_attention,
    table_core,
    table_feature_statistics,
    table_relations,
    table_responses,
    table_states,
    table_tokens,
)
from tests.laws.law import DivergenceLaw, Rows, TermLaw

TABLES = (
    table_core,
    table_attention,
    table_feature_statistics,
    table_relations,
    table_responses,
    table_states,
    table_tokens,
)
DIVERGENCES: tuple[DivergenceLaw, ...] = tuple(law for table in TABLES for law in getattr(table, "DIVERGENCES", ()))
TERMS: tuple[TermLaw, ...] = tuple(law for table in TABLES for law in table.TERMS)


def _label(law: DivergenceLaw | TermLaw) -> str:
    name = law.name if isinstance(law, DivergenceLaw) else law.builder
    return f"{name}-{law.variant}" if law.variant else name


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for argument, table in (("divergence", DIVERGENCES), ("term", TERMS)):
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, table, ids=_label)


@pytest.fixture
def tables() -> tuple[tuple[DivergenceLaw, ...], tuple[TermLaw, ...]]:
    return DIVERGENCES, TERMS


@pytest.fixture
def rows() -> type[Rows]:
    return Rows
