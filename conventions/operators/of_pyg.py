"""PyTorch Geometric: attention along the edges of a graph, here of all pairs."""

import torch
from torch_geometric.nn import GATConv, TransformerConv

from operators import Found, Operators

operators = Operators()
LIBRARIES = ("torch-geometric", "torch")


def weights_along_edges(layer, query, dropout):
    """The weights of each node's incoming edges, `(1, H, T, S)`."""
    count = query.shape[2]
    edges = torch.cartesian_prod(torch.arange(count), torch.arange(count)).T
    layer.train(dropout > 0)
    with torch.no_grad():
        _, (edges, found) = layer(torch.zeros(count, 4), edges, return_attention_weights=True)
    weights = torch.zeros(found.shape[1], count, count)
    weights[:, edges[1], edges[0]] = found.T
    return Found(weights=weights[None].numpy())


@operators("pyg `TransformerConv`", alone=True, scaled=False)
def transformer(query, key, value, *, dropout=0.0, weights=True):
    return weights_along_edges(TransformerConv(4, 4, query.shape[1], dropout=dropout), query, dropout)


@operators("pyg `GATConv`", alone=True, scaled=False)
def graph(query, key, value, *, dropout=0.0, weights=True):
    return weights_along_edges(GATConv(4, 4, query.shape[1], dropout=dropout), query, dropout)
