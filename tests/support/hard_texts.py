"""Texts on which tokenizers that are nearly the same differ."""

import random

HARD_TEXTS = {
    "plain": "A photo of a cat, 3 dogs and 1,024 birds.",
    "empty": "",
    "blanks": " \t\r\n  \v\f ",
    "unicode blanks": "\u00a0a\u2003b\u3000c\u2028d\u2029e\u200bf\ufeffg\u1680h\u0085i",
    "tabs and newlines": "a\tb\nc\r\nd\r\re\x0b\x0cf",
    "file separators": "a\x1cb\x1dc\x1ed\x1fe",
    "control characters": "a\x00b\x01c\x07d\x08e\x1bf\x7fg\x80h\x9fi",
    "null characters": "\x00\x00 \x00",
    "terminal escape": "\x1b[36;44mblue\x1b[0m text",
    "contractions": "it's I'm you're they've he'll she'd don't",
    "upper case contractions": "IT'S I'M YOU'RE THEY'VE HE'LL SHE'D DON'T",
    "curly contractions": "it’s I‘m YOU’RE they’VE he’ll she’D don’t",
    "contraction with a long s": "it'ſ IT'ſ",
    "quote before a word": "'sample 'tis 'twas 'LLama 'd'd's",
    "smart quotes": "“smart” ‘quotes’ „low“ «angle» ´acute´ `grave`",
    "entities": "fish &amp; chips &lt;b&gt; &quot;x&quot; &eacute; &#233; &#xe9; &nbsp; &hellip;",
    "entities escaped twice": "fish &amp;amp; chips &amp;lt;b&amp;gt; &amp;#233; &amp;eacute;",
    "entities escaped three times": "a &amp;amp;amp; b",
    "entities beside a tag": "<b>fish &amp; chips</b>",
    "broken entities": "&amp &;&#; &#x; &#xD800; &#1114112; &#0; &unknown; AT&T &copy2",
    "escaped blanks": "&#32;a&#10;b&#9;c&#160;",
    "escaped special token": "&lt;start_of_text&gt; &amp;lt;end_of_text&amp;gt;",
    "special tokens": "a <start_of_text> b<end_of_text>c<end_of_text><start_of_text>",
    "special tokens in upper case": "a <START_OF_TEXT> b<End_Of_Text>c",
    "special tokens of OpenAI": "a <|startoftext|> b<|endoftext|>c <|ENDOFTEXT|>",
    "almost special tokens": "<start_of_text <start of text> start_of_text> <<end_of_text>>",
    "special token with a long s": "<ſtart_of_text>",
    "end of word mark": "a</w>b </w> &lt;/w&gt;",
    "mojibake": "cafÃ© naÃ¯ve â€œquotedâ€\x9d donâ€™t ðŸ˜€ schÃ¶n Ã‚Â£5 l’humanitÃ©",
    "mojibake twice": "cafÃƒÂ© Ã¢â‚¬Å“xÃ¢â‚¬Â",
    "ligatures": "ﬁne ﬂight eﬃcient waﬄe ﬅ Ǉ ĳ œuvre Æsop",
    "full width": "ＦＵＬＬ　ｗｉｄｔｈ！１２３ ﾊﾝｶｸ",
    "accents": "Crème Brûlée naïve façade Ångström Übergröße",
    "combining accents": "cafe\u0301 n\u0303 a\u030a o\u0308\u0301 \u0301alone Z\u0351\u036b",
    "iota below, of no class when case is ignored": "\u0345 a\u0345b 1\u0345 !\u0345! ᾳ",
    "turkish i": "İSTANBUL ISPARTA ıspanak i̇",
    "sharp s": "STRASSE straße STRAẞE ﬆ",
    "sigma": "ΣΊΣΥΦΟΣ σς ΟΔΟΣ. Σ ΟΔΟΣ-ΑΒ",
    "kelvin and other doubles": "\u212a \u212b \u2126 µ μ",
    "title case letters": "ǅ ǈ ǋ ᾼ",
    "cyrillic": "Съешь же ещё этих МЯГКИХ французских булок",
    "chinese": "一只猫在沙发上。两只狗！",
    "japanese": "ソファの上の猫、カフェｶﾞ",
    "korean": "소파 위의 고양이 \u1112\u1161\u11ab",
    "arabic": "قطة على الأريكة ١٢٣ \u200fﷺ",
    "hebrew": "חָתוּל עַל הַסַּפָּה",
    "devanagari": "सोफे पर एक बिल्ली १२३ क्षत्रिय",
    "thai": "แมวบนโซฟา น้ำ ๑๒๓",
    "tamil": "பூனை நௌ",
    "digits": "0123456789 3.14159 1e-5 1,000,000 007",
    "other digits": "٣٤ ४५ ๖๗ 𝟘𝟙𝟚 ⅷ Ⅻ ¼ ½ ① ⑩ ㊿",
    "superscripts": "x² y³ H₂O 10⁻⁹ m⁴",
    "mathematical letters": "𝓱𝓮𝓵𝓵𝓸 𝔴𝔬𝔯𝔩𝔡 𝖙𝖊𝖝𝖙 ℂℝ ∑∫√∞≠≤",
    "emoji": "I ❤️ NY 😀😃😄 👍🏽 ☺︎ ☺️ 🙂text🙂",
    "emoji joined": "👨‍👩‍👧‍👦 👩🏾‍🚀 🏳️‍🌈 ❤️‍🔥 a‍b",
    "flags": "🇩🇪🇫🇷🇯🇵 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇩",
    "keycaps": "1️⃣ #️⃣ *⃣",
    "punctuation": "!!! ??? ... --- ___ #tag @user $5 50% a_b-c/d\\e|f~g^h [i] {j} (k) <l>",
    "underscores": "a_photo_of_a_cat __init__",
    "address": "https://example.com/a?b=c&d=e#f name@example.com C:\\dir",
    "byte order mark": "\ufefftext",
    "unassigned and private": "\u0378 \ue000 \uf8ff \U0010ffff \ufffe \uffff \U000e0001",
    "replacement character": "a\ufffdb",
    "surrogates": "a\ud800b \udfff \ud83d\ude00 \ude00\ud83d",
    "direction marks": "\u202eabc\u202c \u2066def\u2069 soft\u00adhyphen",
    "camel case": "iPhone MacBook eBay NASA mRNA",
    "long word": "a" * 10_000,
    "long word of two letters": "ab" * 5_000,
    "long punctuation": "!?" * 5_000,
    "long digits": "7" * 10_000,
    "long blanks": "a" + " " * 10_000 + "b",
    "long emoji": "😀" * 10_000,
    "long text": "A very long caption, isn't it? " * 320,
}

_ALPHABETS = [
    range(0x20, 0x7F),
    range(0x00, 0x250),
    range(0x300, 0x370),
    range(0x370, 0x780),
    range(0x900, 0xE80),
    range(0x2000, 0x2C00),
    range(0x3000, 0x3100),
    range(0xD7F0, 0xE010),
    range(0xFB00, 0x10000),
    range(0x1F1E0, 0x1FA00),
    range(0x0, 0x110000),
]
_FRAGMENTS = [
    *["&amp;", "&lt;", "&#", ";", "'s", "'LL", "’t", " ", "  ", "\n", "_", "Ã©", "â€™"],
    *["<start_of_text>", "<End_of_text>", "<|endoftext|>", "\u200d", "\ufe0f"],
]


def random_texts(count: int, seed: int = 0) -> list[str]:
    """Return texts of up to 40 pieces of a few scripts each, surrogates and controls included."""
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        alphabets = rng.sample(_ALPHABETS, 3)
        pieces = [
            rng.choice(_FRAGMENTS) if rng.random() < 0.2 else chr(rng.choice(rng.choice(alphabets)))
            for _ in range(rng.randint(1, 40))
        ]
        text = "".join(pieces)
        if rng.random() < 0.2:
            text = text.encode(errors="ignore").decode("cp1252", errors="ignore")
        texts.append(text)
    return texts
