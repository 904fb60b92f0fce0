"""Query texts that a careless cache or client would change or confuse."""

TEXTS = [
    *("cats & dogs", "cats", "cats &", "100%", "100%25", "a+b", "a b", "a%20b", "a%2Bb", "a  b"),
    *("#1", "?query=x", "x=1&skip=0", "a;b", '"quoted"', "it's", "back\\slash", "/", "", " "),
    *("café", "cafe\u0301", "ＣＡＦÉ", "Straße", "STRASSE", "strasse", "İ", "i̇", "ﬁ", "fi"),
    *(
        "🎬",
        "👨‍👩‍👧",
        "中文",
        "\u202e",
        "a\tb",
        "a\nb",
        "a\u00a0b",
        "a\u200bb",
        "0",
        "None",
        "null",
    ),
    "x" * 200,
    "🎬" * 200,
]
