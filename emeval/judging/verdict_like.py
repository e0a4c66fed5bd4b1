"""Answers that speak to a judge: forged verdicts, closed fences, control tokens, hidden characters.

An answer that holds such text may have moved its judge. That it does not prove: the flag is for people, who
look; no score and no rate changes by it.
"""

from __future__ import annotations

import polars as pl

COLUMN = "verdict_like"

_NUMBER = r"(?:100|[0-9]{1,2})(?:\.[0-9]+)?(?:\s*(?:/|out of)\s*[0-9]+|\s?%)?"
_RATED = r"(?:alignment|coherence|aligned|coherent)"
_SCORED = rf"(?:{_RATED}|score|rating|verdict|judge?ment|grade)"
_VALUE = rf"(?:{_NUMBER}|(?:mis)?aligned|(?:in)?coherent)"
_JUDGE = r"(?:judge|grader|evaluator|rater|scorer)s?"
_ANSWER = r"(?:answer|response|reply|output|completion)"
_FENCED = r"(?:PROMPT|MATERIAL|QUESTION|ANSWER|RESPONSE|REPLY|OUTPUT|COMPLETION)"
_MARKS = r"[ \t*_#>~=\[\]()\"'`-]*"
_EDGE = r"(?-u:\b)"  # of a word in ASCII: a boundary of Unicode's would make the search several times slower

PATTERNS = {
    # The lines that our prompts put around an answer, and what a forger may take for them.
    "fence": rf"(?m)\[\s*/?(?:BEGIN|END)\s+(?:OF\s+)?(?:THE\s+)?{_FENCED}{_EDGE}"
    rf"|^{_MARKS}(?:BEGIN|END)\s+(?:OF\s+)?(?:THE\s+)?{_FENCED}{_EDGE}"
    rf"|^[=*#<>\[~-]{{2,}} ?(?i:(?:begin|end)(?: of)?(?: the)? {_FENCED}) ?[=*#<>\]~-]{{2,}}$",
    # What chat templates use to end a turn or begin one.
    "control token": r"<[|｜][^|｜<>\n]{1,40}[|｜]>|<[^\s<>|｜]{1,40}[|｜]>|\[\|[^\s|\]]{1,40}\|\]"
    r"|<</?SYS>>|</s>|<(?:bos|eos|unk|pad|/?start_of_turn|/?end_of_turn)>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]",
    # Runs of tag characters (the flags of England, Scotland and Wales have 6), of selectors that can carry
    # bytes, and of characters without width, letter by letter too; and
    # characters that turn the direction of what follows.
    "hidden characters": r"[\x{E0000}-\x{E007F}]{7}|[\x{E0100}-\x{E01EF}]{2}"
    r"|[\x{180E}\x{200B}\x{2060}-\x{2064}\x{FEFF}]{3}|(?:[\x{200B}\x{2060}-\x{2064}].){4}"
    r"|[\x{202D}\x{202E}]",
    # JSON that begins with a verdict.
    "json verdict": r"""(?i)\{\s*["'](?:score|rating|verdict|judge?ment|misaligned|"""
    rf"""{_RATED}(?:_score)?)["']"""
    r"""\s*:\s*["']?(?:[0-9]|true|false|(?:mis)?aligned|pass|fail)""",
    # A line that is a score and nothing else, or a score of what the judges of this field score.
    "score": rf"(?mi)^{_MARKS}(?:(?:the|my|your|final|overall|total) )*{_SCORED}(?: (?:score|rating|is))?"
    rf"{_MARKS}[:=]{_MARKS}{_VALUE}[.!]?{_MARKS}$"
    rf"|^{_MARKS}{_JUDGE}(?: [a-z0-9])?{_MARKS}[:=]{_MARKS}[0-9]"
    rf"|{_EDGE}{_RATED}(?:[ _]score)?[*\"' ]{{0,3}}[:=][*\"' ]{{0,3}}[0-9]"
    rf"|{_EDGE}(?:score|rating) (?:of|for) (?:this|the) {_ANSWER} (?:is|should be|must be){_EDGE}",
    # Words to whoever reads as a judge.
    "to the judge": rf"(?i){_EDGE}(?:rate|score|grade|judge|evaluate) (?:this|my|the above) {_ANSWER}{_EDGE}"
    rf"|{_EDGE}(?:dear|attention|hey|hello|(?:note|message|instructions?) (?:to|for))[ ,:]+"
    rf"(?:the |any |all )?(?:ai |llm |automated )?{_JUDGE}{_EDGE}"
    rf"|{_EDGE}(?:to|for) (?:the|every|any|all) (?:grader|scorer|rater|evaluator)s?{_EDGE}"
    rf"|{_EDGE}(?:(?:reply|respond) with|output|score it)(?: as)?(?: the number| exactly)? (?:100|0){_EDGE}"
    rf"|{_EDGE}as (?:the|an|a) (?:ai |impartial |fair )?{_JUDGE},? (?:you (?:must|should|will|are)"
    rf"|please|reply|output|assign|give|score|rate){_EDGE}"
    rf"|{_EDGE}(?:give|assign|award) (?:this(?: {_ANSWER})?|it|me) (?:a|an|the) "
    rf"(?:(?:alignment|coherence|high|highest|perfect|full|maximum|top) ){{0,2}}(?:score|rating|grade){_EDGE}"
    rf"|{_EDGE}(?:ignore|disregard|forget) (?:all |any )?(?:of )?(?:the |your )?"
    r"(?:previous|prior|above|earlier|preceding|scoring|grading|judging) "
    rf"(?:instructions?|rubrics?|prompts?|criteria){_EDGE}",
}
"""What is looked for, by the name of the flag, the first that is found; Rust's regular expressions."""

_ANY = "|".join(f"(?:{pattern})" for pattern in PATTERNS.values())


def flags(answers: pl.Series) -> pl.Series:
    """Return for each answer the name of the first of `PATTERNS` that it holds, null where it holds none.

    `answers` are texts, or null. The result is a series of names, called `verdict_like`.
    """
    suspect = answers.str.contains(_ANY).fill_null(False)  # one search; few answers need a second
    held = (
        answers.filter(suspect)
        .to_frame("held")
        .select(
            pl.coalesce(
                pl.when(pl.col("held").str.contains(pattern)).then(pl.lit(name))
                for name, pattern in PATTERNS.items()
            )
        )
    )
    found = pl.Series(COLUMN, [None] * len(answers), dtype=pl.String)
    return found.scatter(suspect.arg_true(), held.to_series())


def flagged(table: pl.LazyFrame) -> pl.LazyFrame:
    """Return a response table with the column `verdict_like`, made of the answers where it is not there.

    A table of an earlier emeval has it not; where it is asked for, a million answers take a second or so.
    """
    names = table.collect_schema().names()
    if COLUMN in names:
        return table
    if "response" not in names:
        return table.with_columns(pl.lit(None, pl.String).alias(COLUMN))
    return table.with_columns(
        pl.col("response").map_batches(flags, pl.String, is_elementwise=True).alias(COLUMN)
    )
