"""Mutations of YAML text, byte by byte, line by line and by what YAML can do."""

import random
import re

DIGITS = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")

ODD_BYTES = [b"\0", b"\x07", b"\x1b[31m", b"\x7f", b"\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xef\xbf\xbe", b"\xff\xfe"]
ODD_TEXT = ["\u2028", "\u0085", "\u200b", "\u202e", "\ufeff", "\xa0", "\U0001f600", "é", "\t", "\r", "`", "@", "%", "&"]

VALUES = [
    "!!python/object/apply:os.system ['touch executed']",
    "!!python/name:os.system",
    "!!python/object:collections.OrderedDict {}",
    "!!float 1",
    "!!binary aGVsbG8=",
    "!!set {a, b}",
    "! 1",
    "!<tag:yaml.org,2002:int> 3",
    "9" * 99,
    "9" * 400,
    "-" + "9" * 30,
    "1e400",
    "-1e400",
    "1e-400",
    ".nan",
    "-.inf",
    "nan",
    "inf",
    "0x" + "f" * 40,
    "0o777",
    "0b11",
    "1_000",
    "1:30:00",
    "2024-01-01",
    "2024-01-01 10:00:00Z",
    "yes",
    "off",
    "~",
    '""',
    "''",
    '"\\x00"',
    '"\\ud800"',
    '"\\U00110000"',
    '"\\UFFFFFFFF"',
    '"\\q"',
    "'unterminated",
    '"unterminated',
    "[1, 2",
    "{a: 1",
    "{a}",
    "{? a}",
    "{? [1]: 2}",
    "[,]",
    "[a: 1]",
    "|",
    "|9",
    ">-2+",
    "&a *a",
    "*nothing",
    "&a [*a]",
    "&" + "a" * 2000 + " 1",
    "?",
    "- 1",
    "a: b: c",
    "# nothing",
    "x" * 100_000,
    "'" + "x" * 5000 + "'",
    "[" * 40 + "]" * 40,
    "{a: " * 40 + "1" + "}" * 40,
    "[" * 5000,
    "[" + "1, " * 20_000 + "1]",
    "1/0",
    "M**M**M**M",
    "9**9**9**9",
    "(" * 90 + "1" + ")" * 90,
    "__import__('os').system('touch executed')",
    "1 if L else 2",
    "1/L # and more",
]


def _lines(text: str) -> list[str]:
    return text.split("\n")


def _at(rng: random.Random, text: str, put: str) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + put + text[place:]


def delete_line(rng: random.Random, text: str) -> str:
    lines = _lines(text)
    del lines[rng.randrange(len(lines))]
    return "\n".join(lines)


def double_line(rng: random.Random, text: str) -> str:
    lines = _lines(text)
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
    return "\n".join(lines)


def swap_lines(rng: random.Random, text: str) -> str:
    lines = _lines(text)
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return "\n".join(lines)


def indent(rng: random.Random, text: str) -> str:
    lines = _lines(text)
    i = rng.randrange(len(lines))
    lines[i] = rng.choice([" ", "  ", "\t", "    ", "\xa0", "- ", "? "]) + lines[i]
    return "\n".join(lines)


def outdent(rng: random.Random, text: str) -> str:
    lines = _lines(text)
    i = rng.randrange(len(lines))
    lines[i] = lines[i].lstrip() if rng.random() < 0.5 else lines[i][1:]
    return "\n".join(lines)


def tabs(rng: random.Random, text: str) -> str:
    return text.replace("  ", "\t", rng.choice([1, 5, -1]))


def odd_text(rng: random.Random, text: str) -> str:
    return _at(rng, text, rng.choice(ODD_TEXT))


def odd_bytes(rng: random.Random, text: str) -> bytes:
    raw = text.encode()
    place = rng.randrange(len(raw) + 1)
    return raw[:place] + rng.choice(ODD_BYTES) + raw[place:]


def flip_bits(rng: random.Random, text: str) -> bytes:
    raw = bytearray(text.encode() or b"\0")
    for _ in range(rng.choice([1, 1, 2, 8])):
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(raw)


def cut_short(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text) + 1)]


def encoding(rng: random.Random, text: str) -> bytes:
    return text.encode(rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7"]))


def line_ends(rng: random.Random, text: str) -> bytes:
    return text.replace("\n", rng.choice(["\r\n", "\r", "\u0085", "\u2028", "\n\n", "\r\r\n", "\x0b"])).encode()


def new_value(rng: random.Random, text: str) -> str:
    """Some key's value is replaced by one of `VALUES`."""
    places = list(re.finditer(r"(?m)^(\s*[\w-]+):[ \t]*([^\n#]*)", text))
    if not places:
        return rng.choice(VALUES)
    chosen = rng.choice(places)
    return f"{text[: chosen.start(2)]} {rng.choice(VALUES)}{text[chosen.end(2) :]}"


def new_number(rng: random.Random, text: str) -> str:
    places = list(re.finditer(r"(?<=[:\s,\[])[-+]?[0-9.]+(e[-+]?[0-9]+)?", text))
    if not places:
        return text + "1"
    chosen = rng.choice(places)
    other = rng.choice(["0", "-1", "1e308", "1e-320", "2147483648", "9223372036854775807", "0.5", "1.0", "+1", "1e3"])
    return text[: chosen.start()] + other + text[chosen.end() :]


def unicode_digits(rng: random.Random, text: str) -> str:
    return re.sub(r"\d+", lambda found: found[0].translate(DIGITS) if rng.random() < 0.3 else found[0], text)


def anchors(rng: random.Random, text: str) -> str:
    """An anchor here, and there an alias or a merge key of it."""
    text = re.sub(r"(?m)^(\w+):", r"\1: &here", text, count=rng.choice([1, 2, 3]))
    put = rng.choice(["*here", "{<<: *here}", "[*here, *here]", "{a: *here, b: *here}"])
    return text + f"\n{rng.choice(['extra', 'debug', 'trace', '<<', 'stop', '*here '])}: {put}\n"


def bomb(rng: random.Random, text: str) -> str:
    """Aliases of aliases: a billion values, if one counts them."""
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else '1'}]" for i in range(12)]
    return text + "\n" + "\n".join(levels) + "\nextra: *a11\n"


def keys(rng: random.Random, text: str) -> str:
    """More keys, doubled keys, keys that are no names."""
    more = rng.choice(
        [
            "seed: 1\nseed: 2",
            "workers: 2\nworkers: 3",
            "? {a: b}\n: c",
            "? [1, 2]\n: c",
            "1: 2",
            "null: 1",
            "true: 1",
            ": 1",
            "'': 1",
            "'\\0': 1",
            "<<: {seed: 3}",
            "? " * 2000,
            "'a.b': 1",
            "\n".join(f"k{i}: {i}" for i in range(3000)),
            f"{'k' * 3000}: 1",
            "__class__: 1",
        ]
    )
    return f"{text}\n{more}\n" if rng.random() < 0.5 else f"{more}\n{text}"


def documents(rng: random.Random, text: str) -> str:
    return rng.choice(
        [
            f"---\n{text}\n---\n{text}",
            f"%YAML 1.1\n---\n{text}",
            f"%YAML 1.9\n---\n{text}",
            f"%YAML 99999999999999999999.1\n---\n{text}",
            f"%YAML x\n---\n{text}",
            f"%TAG ! tag:example.org,2000:\n---\n{text}",
            f"%TAG\n---\n{text}",
            f"%WHAT ever\n---\n{text}",
            f"{text}\n...\n",
            f"{text}\n...\nmore",
            f"--- {text}",
            f"--- |\n {text}",
            f"[{text}]",
            f'"{text}"',
        ]
    )


def nothing(rng: random.Random, text: str) -> str:
    return rng.choice(
        ["", " ", "\n\n", "# a comment\n", "---\n", "---\n...\n", "null", "[]", "{}", "3", "text", "\ufeff"]
    )


def rubbish(rng: random.Random, text: str) -> bytes:
    if rng.random() < 0.5:
        return rng.randbytes(rng.randrange(1, 300))
    return "".join(rng.choice("{}[]:,-?&*!|>'\"%@`# \n\tab1.e") for _ in range(rng.randrange(1, 120))).encode()


MUTATIONS = {
    "lines": (delete_line, double_line, swap_lines, cut_short),
    "indentation": (indent, outdent, tabs),
    "bytes": (odd_text, odd_bytes, flip_bits, rubbish),
    "encodings": (encoding, line_ends, unicode_digits),
    "values": (new_value, new_number),
    "anchors": (anchors, bomb),
    "keys": (keys,),
    "documents": (documents, nothing),
}
