"""Fine-tuning: one configuration in, one run directory out.

The folder is called `finetuning` so that `regard.finetune` can be the function.
"""
