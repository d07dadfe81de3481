import numpy as np
import pytest

from regard.errors import ShapeError
from regard.inspection.patches import patch_map, upsampled


def test_prefix_and_grid():
    scores = np.arange(2 * 13).reshape(2, 13)
    np.testing.assert_array_equal(patch_map(scores, grid=(3, 4))[1], np.arange(14, 26).reshape(3, 4))
    assert patch_map(np.arange(17)).shape == (4, 4)  # a class token and a square
    assert patch_map(np.arange(17))[0, 0] == 1
    assert patch_map(np.arange(21), prefix=5).shape == (4, 4)  # registers too
    with pytest.raises(ShapeError) as error:
        patch_map(np.arange(18), grid=(4, 4), prefix=1)
    assert str(error.value) == "patch_map: need 1 + 4 x 4 keys; got 18; say grid= and prefix=."


def test_upsampled_keeps_edges_and_means_and_is_linear_between():
    patches = np.array([[0.0, 1.0], [2.0, 3.0]])
    large = upsampled(patches, (8, 12))
    assert large.shape == (8, 12)
    assert (large[0, 0], large[0, -1], large[-1, 0], large[-1, -1]) == (0, 1, 2, 3)
    assert large.mean() == pytest.approx(1.5)
    assert (np.diff(large, axis=1) >= 0).all()
