"""Resize picks the elements that ONNX Runtime picks where rounding decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.backends.torch.helpers import check, parse

X = np.random.default_rng(0).normal(size=(1, 2, 5, 7)).astype(np.float32)


@pytest.mark.parametrize("nearest", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("coordinates", ["tf_crop_and_resize", "align_corners"])
def test_places_are_rounded_as_onnx_runtime_does(
    tmp_path: Path, coordinates: str, nearest: str
) -> None:
    model = parse(f"""g (float[1,2,5,7] x) => (float[1,2,9,4] y)
        <float[8] roi = {{0, 0, 0.1, 0.2, 1, 1, 0.9, 0.8}}, int64[4] sizes = {{1, 2, 9, 4}}> {{
        y = Resize <mode = "nearest", nearest_mode = "{nearest}",
            coordinate_transformation_mode = "{coordinates}"> (x, roi, , sizes)
    }}""")
    check(model, tmp_path, {"x": X})
