"""The cells that deformable attention reads, against the layers of transformers themselves."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers.models.deformable_detr import modeling_deformable_detr
from transformers.models.rt_detr import modeling_rt_detr

from regard.finetuning.tasks.pictures import object_detection
from regard.looking.transformers.boxes import look_for_boxes
from regard.models.transformers.deformable import Points, watch_points

GRIDS = [(6, 4), (3, 2)]
CELLS = [rows * columns for rows, columns in GRIDS]
HEADS, QUERIES, POINTS = 3, 5, 2


def drawn(seed, outside):
    """Points in and around the picture, and weights that sum to 1 for a query and head."""
    torch.manual_seed(seed)
    places = torch.rand(1, QUERIES, HEADS, len(GRIDS), POINTS, 2) * (1 + 2 * outside) - outside
    weights = torch.rand(1, QUERIES, HEADS, len(GRIDS) * POINTS).softmax(-1).view(places.shape[:-1])
    return places, weights


def read_by_the_layer(layer, places, weights):
    """What a layer gives if each cell's value is its own number as a vector: how it weighs the cells, by head."""
    value = torch.eye(sum(CELLS)).view(1, sum(CELLS), 1, -1).expand(-1, -1, HEADS, -1)
    starts = torch.tensor([0, CELLS[0]])
    output = layer(value, torch.tensor(GRIDS), GRIDS, starts, places, weights, 64)
    return output.view(QUERIES, HEADS, -1)


@pytest.mark.parametrize("outside", [0.0, 0.3])
@pytest.mark.parametrize("library", [modeling_rt_detr, modeling_deformable_detr])
def test_shares_are_what_the_layer_reads(library, outside):
    layer = library.MultiScaleDeformableAttention()
    with watch_points(layer) as points:
        by_cell = read_by_the_layer(layer, *drawn(7, outside)).mean(1)
    [seen] = points
    found = seen.over_cells().numpy()
    fine, coarse = (part.numpy().reshape(-1, *grid) for part, grid in zip(by_cell.split(CELLS, 1), GRIDS, strict=True))
    wanted = fine + coarse.repeat(2, 1).repeat(2, 2) / 4  # each coarse cell covers two rows and two columns
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    sums = found.sum((1, 2))
    assert (sums < 0.95).any() if outside else (sums > 0.6).all() and (sums <= 1 + 1e-6).all()


def test_levels_whose_cells_do_not_divide_each_other():
    places = torch.full((1, 1, 2, 1, 2), 0.5)
    both = Points(places, torch.tensor([[[[0.25], [0.75]]]]), [(5, 7), (3, 4)]).over_cells()
    assert both.shape == (1, 5, 7)
    assert both.sum() == pytest.approx(1)
    assert (both > 0).sum() > 4


def test_nothing_is_left_behind_and_other_models_give_nothing():
    layer = modeling_rt_detr.MultiScaleDeformableAttention()
    with pytest.raises(KeyError), watch_points(layer):
        raise KeyError
    assert not layer._forward_pre_hooks
    encoder = transformers.ViTModel(transformers.ViTConfig(num_hidden_layers=1, image_size=32, patch_size=16))
    with watch_points(encoder) as points:
        encoder(pixel_values=torch.zeros(1, 3, 32, 32))
    assert points == []


def test_a_detector_shows_where_its_boxes_look(tmp_path):
    scratch = {"layers": 2, "width": 16, "heads": 2, "image": 64, "patch": 8, "queries": 5}
    torch.manual_seed(3)
    spec = object_detection.Known(boxes="xywh", units="pixels", from_scratch=scratch, labels=["cup", "lid"])
    model, _ = object_detection.load_model("rt_detr", spec)
    processor = transformers.RTDetrImageProcessor(size={"height": 64, "width": 64})
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (30, 40, 3), np.uint8)).save(picture)
    boxes = look_for_boxes(model.eval(), processor, str(picture), sure=0)
    assert boxes.grid == (4, 4)  # of the coarser level, which is all that its encoder attends to
    assert boxes.seen[0].shape[-1] == 16
    assert [each.patches.shape for each in boxes.found] == [(8, 8)] * 5
    assert all(0.2 < each.patches.sum() < 1 + 1e-5 for each in boxes.found)
    assert all((each.patches >= 0).all() for each in boxes.found)
