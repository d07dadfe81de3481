"""How measures are called in reports."""

TITLES = {
    "mcc": "Matthews correlation",
    "macro_f1": "Macro F1",
    "micro_f1": "Micro F1",
    "top_1": "Top-1",
    "top_5": "Top-5",
    "bleu": "BLEU",
    "chrf": "chrF",
    "chrf++": "chrF++",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "map": "mAP",
    "map_50": "mAP at 50 %",
    "map_75": "mAP at 75 %",
}


def title(measure: str) -> str:
    """Return the name of a measure as a report writes it."""
    return TITLES.get(measure, measure.replace("_", " ").capitalize())
