"""Words, sentences and languages against what readers of each would say, and tokens of bytes as characters."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from regard import _language
from regard.looking.tokens import is_rest, readable, together

TEXTS = {
    "zh": "猫坐在垫子上，看着窗外的鸟。",
    "ja": "猫はマットの上に座って、窓の外の鳥を見ています。",
    "ko": "고양이가 매트 위에 앉아 창밖의 새를 봅니다.",
    "th": "แมวนั่งบนเสื่อและมองนกนอกหน้าต่าง",
    "lo": "ແມວນັ່ງຢູ່ເທິງເສື່ອ",
    "km": "ឆ្មាអង្គុយលើកន្ទេល",
    "my": "ကြောင်သည်ဖျာပေါ်တွင်ထိုင်နေသည်",
    "und-Cyrl": "Кошка сидит на коврике и смотрит на птиц за окном.",
    "und-Arab": "القط يجلس على السجادة وينظر إلى الطيور.",
    "und-Deva": "बिल्ली चटाई पर बैठी है।",
    "el": "Η γάτα κάθεται στο χαλί.",
    "he": "החתול יושב על השטיח.",
    "en": "The cat sits on the mat and looks at the birds.",
    "und-Latn": "Die Katze sitzt auf der Matte und sieht den Vögeln zu.",
}


@pytest.mark.parametrize("language", TEXTS)
def test_languages_are_known_by_their_letters(language):
    assert _language.found([TEXTS[language]]) == language


@pytest.mark.parametrize(
    "text", ["De kat zit op de mat en kijkt naar de vogels.", "Il gatto guarda a un uccello e non a te."]
)
def test_other_languages_of_latin_letters_are_not_english(text):
    assert _language.found([text]) == "und-Latn"


def test_the_language_of_texts_of_several():
    """A Latin word counts as much as a Chinese character; names in kana make no Japanese of Chinese."""
    assert _language.found(["用 LibreOffice Writer 打开文档，然后保存。"]) == "zh"
    assert _language.found(["日本的の字很常见，看一看就知道这是中文，不是日文。"]) == "zh"
    assert _language.found([TEXTS["en"]] * 3 + [TEXTS["zh"]]) == "en"
    assert _language.found([]) == _language.found(["12 !"]) == "und"


def test_languages_have_codes_and_names():
    asked = ["zh", "ZH_tw", "zho_Hans", "Chinese", "cantonese", "jpn_Jpan", "deu_Latn", "en-GB", "thai"]
    assert [_language.code(name) for name in asked] == ["zh", "zh", "zh", "zh", "zh", "ja", "deu", "en", "th"]
    assert _language.code("klingon") is None
    assert _language.told("zh") == "Chinese (zh)"
    assert _language.told("und-Cyrl") == "a language in Cyrillic letters"
    assert _language.told("de") == "the language 'de'"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("猫坐在Python 3.5上。", ["猫", "坐", "在", "python", "3", "5", "上"]),
        ("コーヒーを飲む", list("コーヒーを飲む")),
        ("ｶﾞｽ", ["ガ", "ス"]),
        ("고양이가 앉았다.", ["고양이가", "앉았다"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("Кошка и ПТИЦА", ["кошка", "и", "птица"]),
        ("كَتَبَ الوَلَد", ["كَتَبَ", "الوَلَد"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("Schöne_Äpfel, naïve café", ["schöne", "äpfel", "naïve", "café"]),
        ("cafe\u0301", ["café"]),
        ("！？…", []),
    ],
)
def test_words(text, words):
    assert _language.words(text) == words


def test_a_bag_holds_pairs_of_characters_and_no_pairs_of_words():
    assert _language.terms("新文件 the file") == ["新", "文", "件", "the", "file", "新文", "文件"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("他说：“好。”然后走了！真的？是。", ["他说：“好。”", "然后走了！", "真的？", "是。"]),
        ("彼は「はい。」と言った。終わり", ["彼は「はい。」", "と言った。", "終わり"]),
        ("One. Two!\nThree? four", ["One.", "Two!", "Three?", "four"]),
        ("版本 3.5 很好。不错", ["版本 3.5 很好。", "不错"]),
        ("هل؟ نعم. لا", ["هل؟", "نعم.", "لا"]),
        ("यह है। वह है।", ["यह है।", "वह है।"]),
        ("ทดสอบ ระบบ abc", ["ทดสอบ", "ระบบ abc"]),
        ("No stop\nhere\n\nand here", ["No stop\nhere", "and here"]),
        ("", []),
    ],
)
def test_sentences(text, sentences):
    assert _language.sentences(text) == sentences


def test_spaces_go_where_there_are_none_between_words():
    assert _language.unspaced("我 用 Python 写 代码 of the day") == "我用Python写代码of the day"
    assert _language.joined(["你好", "世界", "of", "the"]) == "你好世界of the"


def test_how_wide_and_how_long_texts_are():
    assert [_language.width(text) for text in ("猫a", "ที่", "é", "한글")] == [3, 1, 1, 4]
    assert _language.extent("打开文件") == 12


@pytest.mark.parametrize(
    ("before", "after", "begins"),
    [
        ("the", " cat", True),
        ("hel", "lo", False),
        ("猫", "坐", True),
        ("猫", "。", False),
        ("猫", "Python", True),
        ("Pyth", "on", False),
        ("use", "猫", True),
        ("猫\ufffd", "\ufffd", False),
        ("猫", "\ufffd", True),
        ("고양", "이", False),
    ],
)
def test_where_words_begin(before, after, begins):
    assert _language.begins_word(before, after) == begins


def byte_pairs(*texts):
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<s>", "<é>"], show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made)


def test_byte_pairs_are_shown_as_characters():
    """A character of several tokens is in each; marks of spaces and special tokens stay, and bytes of none are told."""
    tokenizer = byte_pairs(*["猫坐 hello the 猫"] * 4)
    ids = tokenizer("<s>猫坐 the é\n床<é>")["input_ids"]
    shown = readable(tokenizer, ids)
    raw = tokenizer.convert_ids_to_tokens(ids)
    assert len(shown) == len(raw)
    assert shown[0] == "<s>"
    assert shown[-1] == "<é>"
    assert [token for token in shown if "床" in token] == ["床(1/3)", "床(2/3)", "床(3/3)"]
    assert "猫坐" in shown
    assert "Ġthe" in shown
    assert "Ċ" in shown
    assert any(token.endswith("é") or token.startswith("é(") for token in shown[:-1])
    assert readable(tokenizer, [tokenizer.convert_tokens_to_ids("å"), 999]) == ["\\xe5", "[999]"]


def test_a_token_with_a_part_of_a_character_holds_the_rest_of_it_too():
    made = Tokenizer(models.WordLevel({"çĮ«åĿ": 0, "Ĳ": 1, "Ġé": 2}, unk_token="Ĳ"))
    made.decoder = decoders.Sequence([decoders.ByteLevel()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made)
    assert readable(tokenizer, [0, 1, 0]) == ["猫坐(1/2)", "坐(2/2)", "猫\\xe5\\x9d"]
    assert readable(tokenizer, [2]) == ["Ġ\\xe9"]


def test_bytes_of_sentencepiece_are_shown_as_characters():
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    bytes_of = [f"<0x{byte:02X}>" for byte in range(256)]
    made.train_from_iterator(["the cat"], trainers.BpeTrainer(special_tokens=["<unk>", *bytes_of], show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")
    shown = readable(tokenizer, tokenizer("the 床")["input_ids"])
    assert shown[-3:] == ["床(1/3)", "床(2/3)", "床(3/3)"]


def test_tokens_of_words_stay_as_they_are():
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "é": 1, "猫": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]")
    assert readable(tokenizer, tokenizer("é 猫 x")["input_ids"]) == ["é", "猫", "[UNK]"]


def test_tokens_of_one_character_are_put_together():
    tokens = ["猫坐(1/2)", "坐(2/2)", "床(1/3)", "床(2/3)", "床(3/3)", "Ġthe", "(1/2)"]
    assert [is_rest(token) for token in tokens] == [False, True, False, True, True, False, False]
    assert together(tokens[:2]) == "猫坐"
    assert together(tokens[2:6]) == "床Ġthe"
