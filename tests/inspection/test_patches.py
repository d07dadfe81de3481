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


@pytest.mark.parametrize(("length", "prefix"), [(200, None), (1, 5), (0, None), (18, 1), (14 * 20 + 1, None)])
def test_what_is_no_square_needs_a_grid(length, prefix):
    with pytest.raises(ShapeError) as error:
        patch_map(np.arange(length), prefix=prefix)
    wanted = "0, 1, 2 or 5" if prefix is None else prefix
    assert str(error.value) == (
        f"patch_map: need {wanted} keys and a square of patches; got {length} keys; say grid= and prefix=."
    )


@pytest.mark.parametrize("registers", [0, 1, 2, 5])
def test_a_class_token_and_registers_come_before_a_square(registers):
    assert patch_map(np.arange(16 * 16 + registers))[0, 0] == registers


def test_upsampled_keeps_edges_and_means_and_is_linear_between():
    patches = np.array([[0.0, 1.0], [2.0, 3.0]])
    large = upsampled(patches, (8, 12))
    assert large.shape == (8, 12)
    assert (large[0, 0], large[0, -1], large[-1, 0], large[-1, -1]) == (0, 1, 2, 3)
    assert large.mean() == pytest.approx(1.5)
    assert (np.diff(large, axis=1) >= 0).all()
