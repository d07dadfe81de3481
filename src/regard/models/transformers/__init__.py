"""transformers' attention interface: `model.set_attn_implementation("regard")`, once this module is imported.

    import regard.models.transformers
    model = AutoModel.from_pretrained(..., attn_implementation="regard")
    model(**inputs, output_attentions=True).attentions[0].received()

The model runs on `regard.attention`, at fused speed, and its attentions are lazy `AttentionWeights`. transformers
describes a mask as a function of positions; here it becomes a rule, so a window stays a window and padding a vector,
and no n x n mask is made. A function that we do not know is called a tile at a time.
"""

from regard.models.transformers.attention import NAME, Called, Prepared, attend, make_mask, rule_of

__all__ = ["NAME", "Called", "Prepared", "attend", "make_mask", "rule_of"]
