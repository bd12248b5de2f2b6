"""Sentence pairs from TMX, XLIFF (1.2 and 2) and PO files, by lxml and translate-toolkit (extra `files`)."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from typing import Any

from optical_jax.config import DataConfig
from optical_jax.data.files.lines import open_bytes
from optical_jax.data.text.languages import ENGLISH, find_language, language_key
from optical_jax.data.text.pairs import HEADER, Line, PairFile, pair_line
from optical_jax.errors import ConfigError, DataError

LANG = "{http://www.w3.org/XML/1998/namespace}lang"
CODES = {"bpt", "ept", "ph", "it", "ut", "x", "bx", "ex", "sc", "ec", "cp"}
"""Elements within a text that hold formatting; other elements within it hold text."""
UNFINISHED = {
    "new", "needs-adaptation", "needs-l10n", "needs-review-adaptation", "needs-review-l10n",
    "needs-review-translation", "needs-translation",
}  # fmt: skip
"""States of an XLIFF target that is not a translation yet."""
FUZZY, UNTRANSLATED, OBSOLETE, OTHER = "fuzzy", "untranslated", "obsolete", "other_languages"
"""Reasons for leaving units out."""
CHARSET = re.compile(rb"charset=([\w.:-]+)")


def read_tmx(file: PairFile, cfg: DataConfig, notes: list[str]) -> Iterator[Line]:
    """Every unit of a translation memory, which may have other languages than English and the file's.

    data.score_column and data.document_column name properties of a unit (<prop type="...">).

    Raises:
      ConfigError: lxml is missing.
      DataError: not XML, or no unit has both languages.
    """
    asked = {"score": cfg.score_column, "document": cfg.document_column}
    languages: dict[str, None] = {}
    taken: set[tuple[str, str]] = set()
    for _, unit in _elements(file, ("tu",), events=("end",)):
        where = f"{file.name}:{unit.sourceline}"
        texts: dict[str, Any] = {}
        for variant in _children(unit, "tuv"):
            for segment in _children(variant, "seg")[:1]:
                texts.setdefault(variant.get(LANG) or variant.get("lang") or "", segment)
        languages |= dict.fromkeys(texts)
        english, foreign = (find_language(code, list(texts)) for code in (ENGLISH, file.language))
        if english is None or foreign is None:
            yield Line(where, left_out=OTHER)
            continue
        taken.add((english, foreign))
        if _is_empty(texts[english]) or _is_empty(texts[foreign]):
            yield Line(where, left_out=UNTRANSLATED)
            continue
        values = {prop.get("type"): prop.text for prop in _children(unit, "prop")}
        more = {field: values.get(name) for field, name in asked.items() if name}
        yield _pair(where, texts[english], texts[foreign], more)
    if not taken:
        raise DataError(
            f"{file.name}: no unit in {ENGLISH} and {file.language}; languages in the file: {_listed(languages)}"
            + ("; write LANG=FILE with one of them" if languages else "")
        )
    if len(languages) > 2 or taken != {(ENGLISH, file.language)}:
        pairs = ", ".join(f"{english} and {foreign}" for english, foreign in sorted(taken))
        notes.append(f"{file.name}: languages taken {pairs} (of {_listed(languages)})")


def read_xliff(file: PairFile, cfg: DataConfig, notes: list[str]) -> Iterator[Line]:
    """Every unit of an XLIFF file (1.2 or 2), English in its source or its target.

    Raises:
      ConfigError: lxml is missing, or a column is asked for.
      DataError: not XML, no unit, or the file is of other languages.
    """
    _check_no_columns(file, cfg)
    english_first, codes = True, ("", "")
    units = 0
    for event, element in _elements(file, ("file", "xliff", "trans-unit", "segment"), events=("start", "end")):
        name = _name(element)
        if event == "start":
            if name in ("file", "xliff"):
                source = element.get("source-language") or element.get("srcLang") or codes[0]
                target = element.get("target-language") or element.get("trgLang") or codes[1]
                codes = source, target
                english_first = _english_first(file, *codes) if name == "file" or target else True
            continue
        if name not in ("trans-unit", "segment"):
            continue
        units += 1
        where = f"{file.name}:{element.sourceline}"
        source, target = _children(element, "source")[:1], _children(element, "target")[:1]
        if not target or _is_empty(target[0]):
            yield Line(where, left_out=UNTRANSLATED)
        elif target[0].get("state") in UNFINISHED:
            yield Line(where, left_out=FUZZY)
        elif not source:
            yield Line(where, fault="no source")
        else:
            sides = (source[0], target[0]) if english_first else (target[0], source[0])
            yield _pair(where, *sides, {})
    if not units:
        raise DataError(f"{file.name}: no unit of XLIFF in it")
    if not english_first:
        notes.append(f"{file.name}: English is the target, {codes[0]} the source")


def _english_first(file: PairFile, source: str, target: str) -> bool:
    keys = [language_key(code) if code else "" for code in (source, target)]
    if keys[0] in ("", ENGLISH) and keys[1] in ("", language_key(file.language)):
        return True
    if keys[1] in ("", ENGLISH) and keys[0] == language_key(file.language):
        return False
    raise DataError(
        f"{file.name}: from {source or '?'} to {target or '?'}, not {ENGLISH} and {file.language}; write "
        "LANG=FILE with the language that it is in"
    )


def read_po(file: PairFile, cfg: DataConfig, notes: list[str]) -> Iterator[Line]:
    """Every message of a gettext catalogue (PO): its English id, and its translation.

    A message with plural forms gives two pairs: singular with the first form, plural with the last; in a language with
    one form, the plural alone.

    Raises:
      ConfigError: translate-toolkit is missing, or a column is asked for.
      DataError: not a PO file, or not of its encoding.
    """
    _check_no_columns(file, cfg)
    try:
        from translate.storage.pypo import pofile
    except ImportError:
        raise ConfigError(f"{file.name}: .po needs translate-toolkit; pip install 'optical_jax[files]'") from None
    # The first line raises what is wrong with the file.
    next(file.lines(""))
    with open_bytes(file.path) as plain:
        named = CHARSET.search(plain.read(1 << 16))
    declared = named[1].decode("ascii") if named else ""
    encoding = cfg.encoding or ("" if declared.lower() in ("", "charset", "utf-8", "utf8", "ascii") else declared)
    lines = []
    try:
        for number, text, fault in file.lines(encoding):
            if fault:
                raise DataError(f"{file.name}:{number}: {fault}")
            lines.append(text)
    except LookupError:
        raise DataError(f"{file.name}: {declared} is not an encoding; add --data.encoding") from None
    if encoding:
        notes.append(f"{file.name}: read as {encoding}")
    # The toolkit reads what cannot be decoded as Latin-1, so it is given UTF-8.
    content = "\n".join(lines).encode()
    try:
        store = pofile.parsestring(CHARSET.sub(b"charset=UTF-8", content, count=1))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # PoParseError, a ValueError, and what the toolkit lets through of damaged files.
        raise DataError(f"{file.name}: not a PO file that can be read ({error!s:.200})") from error
    language = store.gettargetlanguage()
    if language and language_key(language) != language_key(file.language):
        notes.append(f"{file.name}: its header says that it is in {language}")
    for unit in store.units:
        where = f"{file.name}:{unit.line_number}"
        forms = [str(text) for text in getattr(unit.target, "strings", [unit.target])]
        reasons = {
            HEADER: unit.isheader(),
            OBSOLETE: unit.isobsolete(),
            FUZZY: unit.isfuzzy(),
            UNTRANSLATED: not all(form.strip() for form in forms),
        }
        if reason := next((reason for reason, holds in reasons.items() if holds), ""):
            yield Line(where, left_out=reason)
            continue
        ids = [str(text) for text in getattr(unit.source, "strings", [unit.source])]
        of_forms = [(ids[-1], forms[-1])] if len(ids) > 1 else []
        if len(ids) == 1 or len(forms) > 1:
            of_forms.insert(0, (ids[0], forms[0]))
        for english, foreign in of_forms:
            yield pair_line(where, {"english": english, "foreign": foreign})


# ---- XML ---------------------------------------------------------------------------------------------------------


def _elements(file: PairFile, names: tuple[str, ...], events: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Elements of an XML file as they are read, each forgotten after its end. Entities are not expanded."""
    try:
        from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError:
        raise ConfigError(
            f"{file.name}: .{file.ending} needs translate-toolkit; pip install 'optical_jax[files]'"
        ) from None
    line = 0
    try:
        with open_bytes(file.path) as plain:
            tags = [f"{{*}}{name}" for name in names]
            for event, element in etree.iterparse(
                plain, events=events, tag=tags, resolve_entities=False, load_dtd=False, no_network=True, huge_tree=False
            ):
                line = element.sourceline
                yield event, element
                if event == "end":
                    element.clear()
                    parent = element.getparent()
                    while parent is not None and element.getprevious() is not None:
                        del parent[0]
    except etree.XMLSyntaxError as error:
        raise DataError(f"{file.name}:{error.lineno or line}: not XML that can be read ({error.msg:.200})") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{file.name}: broken gzip after line {line} ({error}); fetch the file again") from error


def _name(element: Any) -> str:
    """Local name of an element; empty for comments and entities."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _children(element: Any, name: str) -> list[Any]:
    return [child for child in element if _name(child) == name]


def _pair(where: str, english: Any, foreign: Any, more: dict[str, Any]) -> Line:
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

    for side in (english, foreign):
        if (entity := next(iter(side.iter(etree.Entity)), None)) is not None:
            return Line(where, fault=f"the entity {entity.text}, which is not expanded; write its text")
    if missing := [field for field, value in more.items() if value is None]:
        return Line(where, fault=f"no property for data.{missing[0]}_column in this unit")
    return pair_line(where, {"english": _plain(english), "foreign": _plain(foreign), **more})


def _is_empty(element: Any) -> bool:
    """Whether an element has no text, and no entity that may stand for one."""
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

    return not _plain(element).strip() and next(element.iter(etree.Entity), None) is None


def _plain(element: Any) -> str:
    """Text of an element without the formatting in it."""
    parts = [element.text or ""]
    for child in element:
        if _name(child) and _name(child) not in CODES:
            parts.append(_plain(child))
        parts.append(child.tail or "")
    return "".join(parts)


def _check_no_columns(file: PairFile, cfg: DataConfig) -> None:
    for field in ("score", "document"):
        if value := getattr(cfg, f"{field}_column"):
            raise ConfigError(f"data.{field}_column={value}: {file.name} has no columns; leave it empty")


def _listed(languages: dict[str, None]) -> str:
    return ", ".join(sorted(language or "(none)" for language in languages)) or "none"
