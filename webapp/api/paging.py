"""Where a part of a list begins: what every list of the API takes."""

from typing import Annotated

from pydantic import Field

Offset = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""Rows that are left out before it; no more than every database can count."""
