"""The ONNX builder runs in the tests' own process, but for the full sizes."""

from collections.abc import Iterator

import pytest
from tests.export.building import build_here


@pytest.fixture(scope="module", autouse=True)
def _builder() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patching:
        build_here(patching)
        yield
