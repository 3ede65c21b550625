"""Makes text.txt: English prose in lower case, from the documentation inside Python itself.

The topics of pydoc_data.topics differ from version to version of Python, which is why the result is shipped and its
version written into it. Kept are whole sentences of plain words; code, tables, headings and sentences with code in them
go. A sentence that occurs in several topics is kept once, and one that shares six words in a row with a held-out topic
is left out of the others.

    python3.11 make_text.py
"""

import re
import sys
import textwrap
from pathlib import Path
from pydoc_data.topics import topics

SYMBOLS = " abcdefghijklmnopqrstuvwxyz.,'-"
# Long enough to measure on, and about things that the others speak of, too.
HELD_OUT = ("execmodel", "with", "strings", "typesmapping", "exceptions", "objects")
HEAD = """\
English prose from the documentation of Python {version} (pydoc_data.topics), in lower case, without code, tables and
headings; made by make_text.py, which says what was left out and changed.
Copyright (c) 2001-2023 Python Software Foundation; All Rights Reserved. Licence: PSF License Version 2, see
https://docs.python.org/3.11/license.html and README.md in this folder.
"""


def sentences(topic):
    """The sentences of a topic that are prose, in lower case and in the symbols above."""
    for paragraph in re.split(r"\n\s*\n", topic):
        lines = paragraph.splitlines()
        if any(re.search(r"::=|>>>|\s\|\s|\+--|^\s*[*=~-]{3,}$|  +\S.*   ", line) for line in lines):
            continue  # grammar, sessions, tables, underlined headings
        words = " ".join(" ".join(lines).split())
        words = re.sub(r"^(\* |\d+\. |Note: |Changed in version [\d.]+: |New in version [\d.]+: )+", "", words)
        words = re.sub(r"- (?=[a-z])", "-", words)  # a word that was broken at its hyphen
        words = re.sub(r" ?\[\d+\]", "", words)  # footnotes
        words = re.sub(r" ?\((?:[^()]|\([^()]*\))*\)(?=[ .,;:])", "", words)  # remarks in brackets
        for sentence in re.split(r"(?<=[.:]) (?=[A-Z])", words):
            plain = plainly(sentence)
            if plain:
                yield plain


def plainly(sentence):
    """The sentence in the symbols, or None if it is none of plain words."""
    if not re.match(r"[A-Z][a-z]*\b", sentence) or not re.search(r"[a-z][.:]$", sentence):
        return None
    s = re.sub(r"\*+([^*]+)\*+", r"\1", sentence)  # emphasis
    s = re.sub(r"[“”‘]|’(?!s\b|t\b)", '"', s)
    s = re.sub(r'"+_*([A-Za-z]+)_*(\(\))?"+', r"\1", s)  # a name of letters only may stay, without its signs
    s = s.replace("’", "'").replace(" — ", ", ").replace("–", "-").replace(";", ",").replace(":", ".")
    s = s.replace(" -- ", ", ").replace("e.g.", "for example").replace("i.e.", "that is").lower()
    if set(s) - set(SYMBOLS) or len(s.split()) < 5 or re.search(r"\b[b-hj-z]\b(?!')|\w\.\w|\.\.|(?<!\w)-|-(?!\w)", s):
        return None  # signs, letters as variables, names with dots
    return re.sub(r"'(?![st]\b)", "", s)


def runs(words, length=6):
    """All runs of so many words in a row."""
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def main():
    seen, text, count = set(), HEAD.format(version=sys.version.split()[0]), {"train": 0, "held_out": 0}
    held_out_runs = set()
    for name in sorted(topics, key=lambda name: (name not in HELD_OUT, name)):  # the held-out topics first
        split = "held_out" if name in HELD_OUT else "train"
        fresh = [s for s in dict.fromkeys(sentences(topics[name])) if s not in seen]
        if split == "held_out":
            held_out_runs |= runs(" ".join(fresh).split())
        else:
            fresh = [s for s in fresh if not runs(s.split()) & held_out_runs]
        seen.update(fresh)
        count[split] += sum(len(s) + 1 for s in fresh)
        if fresh:
            text += f"\n# {split}: {name}\n{textwrap.fill(' '.join(fresh), 110, break_on_hyphens=False)}\n"
    target = Path(__file__).with_name("text.txt")
    target.write_text(text, encoding="ascii")
    print(f"{target}: {count} characters, Python {sys.version.split()[0]}, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
