# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that nobody told us, known by the form in which texts have them.

A form says where a value begins: after a telling name, in an address, in a header, in a statement.
Where it ends depends on what stands around it, which is read here character by character: a
password may hold a quote, a comma, an @ or a blank itself.
"""

from __future__ import annotations

import base64
import binascii
import re
import typing as t

MASK = "********"

# How far a value is followed; longer ones are no password, and a log may hold anything.
_FURTHEST = 20000
_ADDRESS = 2000
_LOOK_BACK = 400

# --- The end of a value ---------------------------------------------------------------------------

_QUOTE = re.compile(r"""(?P<slashes>\\*)(?P<mark>["'`]|&(?:quot|apos|#0*39|#0*34|#x27|#x22);)""")
_OPENING = re.compile(r"(?:[bBuUrRfFEeNn]|[uU]&)?(?=\\*[\"'`]|&(?:quot|apos|#))")
# What may follow a closing quote. A quote before anything else belongs to the value.
_AFTER_QUOTE = re.compile(r"""\s|[,;:)\]}>&|.?<]|\\|["'`]|-H|$""")


def _closes(text: str, found: re.Match[str], level: int, start: int) -> bool:
    """Say whether a quote ends the value that was opened with `level` backslashes."""
    before = len(found["slashes"])
    if before % (2 * (level + 1)) != level:
        return False
    return _AFTER_QUOTE.match(text, found.end()) is not None


def quoted_end(text: str, start: int) -> tuple[int, int, int] | None:
    """Return where the content of a quoted value begins and ends, and where its quote ends.

    None if no quote begins here. A value that is not closed ends with its line.
    """
    prefix = _OPENING.match(text, start)
    opening = _QUOTE.match(text, prefix.end()) if prefix else None
    if opening is None:
        return None
    mark, level = opening["mark"], len(opening["slashes"])
    begin = at = opening.end()
    line = _line_end(text, begin)
    limit = min(_continued(text, line, mark), begin + _FURTHEST)
    while True:
        found = _QUOTE.search(text, at, limit)
        if found is None:
            return begin, line, line
        at = found.end()
        if found["mark"] != mark or not _closes(text, found, level, begin):
            continue
        # Doubled, as in SQL and YAML; two at the very beginning are an empty value.
        if level == 0 and text.startswith(mark, at) and found.start() > begin:
            at += len(mark)
            continue
        return begin, found.start("mark") - level, at


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


_FURTHER_IN = re.compile(r"\n[ \t]+(?![\w.-]+:(?:\s|$))[^\n]*")


def _continued(text: str, line: int, mark: str) -> int:
    """Return where the lines end in which a quoted value of YAML may go on."""
    end = line
    for _number in range(3):
        more = _FURTHER_IN.match(text, end)
        if more is None:
            break
        end = more.end()
    return end


def _opened_before(text: str, start: int) -> str:
    """Return the quote that is open where a name begins, on its line; empty if none is."""
    begin = max(text.rfind("\n", 0, start) + 1, start - _LOOK_BACK)
    opened = ""
    for mark in re.findall(r"(?<!\w)[\"'](?=[\w\[{(-])|[\"'](?!\w)|[\"']", text[begin:start]):
        if not opened:
            opened = mark
        elif opened == mark:
            opened = ""
    return opened


# The next setting of a connection string, or of a query.
_NEXT_SETTING = re.compile(
    r";\s*(?:uid|user(?: id)?|username|server|data source|host|port|database|initial catalog|driver"
    r"|encrypt|sslmode|endpointsuffix|blobendpoint|accountname|trusted_connection|timeout)\s*=",
    re.IGNORECASE,
)
_IN_QUERY = re.compile(r"(?:[^\s&\"'<>`)\\]|\\(?![nrt\"']))+")
_WORD = re.compile(r"(?:\\\s|\S)+")
_TRAILING = re.compile(r"[,;)\]}>]+$")


def _word_end(text: str, start: int, name_at: int) -> int:
    """Return where a value without quotes ends that stands in a line among others."""
    before = text[name_at - 1 : name_at]
    if before and before in "?&":
        found = _IN_QUERY.match(text, start)
        return found.end() if found else start
    found = _WORD.match(text, start, start + _FURTHEST)
    if found is None:
        return start
    end = found.end()
    opened = _opened_before(text, name_at)
    if opened:
        closing = re.compile(rf"\\*{opened}(?=[\s,;:)\]}}]|\\|$)").search(text, start, end)
        if closing:
            end = closing.start()
    following = _NEXT_SETTING.search(text, start, end)
    if following:
        end = following.start()
    word = _TRAILING.sub("", text[start:end])
    return start + len(word) if word else end


# --- Names that announce a secret -----------------------------------------------------------------

# The first are said of a value only; the others are also words of everyday.
_STRONG = r"pass(?:word|wd|phrase)|passwd|pwd"
_WEAK = (
    r"secret|token|api[_-]?key|access[_-]?key|private[_-]?key|account[_-]?key|secret[_-]?key"
    r"|credential|authorization|cookie|session[_-]?(?:key|id)|encryption[_-]?key|signing[_-]?key"
    r"|signature|tls\.key|sshkey|dockerconfigjson|dockercfg|(?<![a-z])sig(?![a-z])|(?<![a-z])pass(?![a-z])"
)
_NAME = rf"(?<![\w.-])(?>[\w.-]*?(?:{_STRONG}|{_WEAK})[\w.-]*+)"
_KEY = re.compile(
    rf"(?P<name>{_NAME})(?P<close>\\*[\"']\]?|&(?:quot|apos|#0*3[49]|#x2[27]);)?"
    r"(?P<sep>[ \t]*(?:=>|:=|[:=])[ \t]*|\s*[:=]\s*(?=\\*[\"']))",
    re.IGNORECASE,
)
# What such a name says something about, without being it.
_ABOUT = re.compile(
    r"[_.-]?(?:file|path|dir|name|names|ref|refs|type|mode|count|length|policy|seconds|ttl|expiry"
    r"|expiration|expires|class|provider|template|scheme|method|manager|store|version|generation"
    r"|authentication|request|requests|review|url|uri|rotation|enabled|required|optional|format"
    r"|domain|(?:tls|pull|credentials|external)[_-]?secrets?|algorithm|encryption|function|audience|audiences|projection|issuer)$|secrets$",
    re.IGNORECASE,
)
_REALLY = re.compile(rf"(?:{_STRONG}|{_WEAK})s?$", re.IGNORECASE)
# Words that Kubernetes and Postgres write after a telling name, and that explain a failure.
_PROSE = re.compile(
    r"(?:(?:not|no|is|was|are|were|be|been|has|have|had|does|do|did|it|its|the|a|an|this|that|these"
    r"|there|to|too|for|in|of|on|at|as|with|without|from|by|if|when|while|must|should|shall|can"
    r"|cannot|could|couldn't|can't|may|might|will|would|wrong|incorrect|empty|missing|invalid"
    r"|required|expired|expected|unexpected|unknown|unauthorized|unauthorised|forbidden|denied"
    r"|failed|fails|failure|error|unable|please|use|used|set|unset|given|got|only|least|most|all"
    r"|authentication|contains|exceeds|request|refused|rejected|revoked|malformed|unsupported"
    r"|what|which|who|whose|see|run|try|check|change|changed|create|give|add|put|make|then|so"
    r"|because|but|and|or|after|before|kubectl|ok|yes|none|null|nil|true|false|undefined|optional|redacted)(?![\w/+=@%-])"
    r"|\"?[\w.-]+\"? (?:not found|is forbidden|already exists))",
    re.IGNORECASE,
)
_NO_VALUE = re.compile(
    r"(?:none|null|nil|true|false|undefined|optional|\*{3,}|<[\w ./'\"-]*>|\[?redacted\]?"
    r"|FILE|VALUE|%s|%\(\w+\)s|\{\w*\}"
    r"|\$\([A-Za-z_][\w.-]{2,}\)|\$\{[A-Za-z_][\w.-]{2,}\}|\{\{[^{}]*\}\}|(?:…|\.{3})(?:\s+#.*)?|)$",
    re.IGNORECASE,
)
# kubectl describe: where a value comes from instead of the value
_SET_TO = re.compile(r"<set to the key [^>]*>|<\w+>")
# max_tokens=4096
_COUNTED = re.compile(r"tokens$", re.IGNORECASE)
_ENVIRONMENT = re.compile(r"(?:export |declare -x |set |env )?[A-Z][A-Z0-9_]*$")
_RANDOM = re.compile(r"(?=\S*\d)(?=\S*[A-Za-z])[\w+/=.~-]{16,}")


def _is_about(name: str) -> bool:
    return bool(_ABOUT.search(name)) and not re.search(rf"(?:{_STRONG})$", name, re.IGNORECASE)


# Nothing on this line, a block of YAML, or an object.
_NOT_HERE = re.compile(r"\s|\{|[|>][+-]?\d?[ \t]*(?:\n|$)")


class _Place(t.NamedTuple):
    """A telling name in a text, and where its value begins."""

    text: str
    name: str
    name_at: int
    start: int
    equals: bool
    quoted_name: bool

    @property
    def line_before(self) -> str:
        """What stands before the name on its line."""
        return self.text[self.text.rfind("\n", 0, self.name_at) + 1 : self.name_at]

    @property
    def first(self) -> bool:
        """Whether the name begins its line, as in YAML, INI and listings of an environment."""
        return re.fullmatch(r"[\s-]*(?:export |declare -x |set )?", self.line_before) is not None

    @property
    def strong(self) -> bool:
        """Whether the name is said of a value only."""
        if re.search(_STRONG, self.name, re.IGNORECASE):
            return True
        return self.name.isupper() and self.first

    def line(self) -> int:
        """Return where the line ends, without a comment or blanks."""
        end = _line_end(self.text, self.start)
        return self.start + len(self.text[self.start : end].rstrip())


def _mask_values(text: str) -> str:
    """Mask what follows a telling name."""
    parts: list[str] = []
    done = 0
    for found in _KEY.finditer(text):
        if found.start() < done:
            continue
        place = _Place(
            text,
            found["name"],
            found.start(),
            found.end(),
            "=" in found["sep"],
            bool(found["close"]),
        )
        if _is_about(place.name):
            continue
        span = _value_span(place)
        if span and span[1] > span[0] and not _NO_VALUE.match(text[span[0] : span[1]]):
            parts += [text[done : span[0]], MASK]
            done = span[1]
    parts.append(text[done:])
    return "".join(parts)


def _value_span(place: _Place) -> tuple[int, int] | None:
    """Return where the value of a telling name begins and ends; None for what is no value."""
    text, start = place.text, place.start
    if start >= len(text) or _NOT_HERE.match(text, start):
        return None
    if _COUNTED.search(place.name) and text[start].isdigit():
        return None
    if _SET_TO.match(text, start) or text.endswith("--from-file=", 0, place.name_at):
        return None
    quoted = quoted_end(text, start)
    if quoted:
        if _ends_here(place):
            return None
        whole = place.equals or place.quoted_name or _announces_text(place, quoted)
        return quoted[:2] if whole else None
    if place.quoted_name:
        return _member_span(place)
    if place.equals:
        return _assigned_span(place)
    return _told_span(place)


def _ends_here(place: _Place) -> bool:
    """Say whether the quote after a name closes one that was open before: 'Password: '.

    psql writes the value of a variable as :'name', which is none either.
    """
    text, start = place.text, place.start
    if place.quoted_name:
        return False
    if text[start - 1] == ":" and text[start - 2 : start - 1] == " ":
        return True
    return text[start] in "\"'" and _opened_before(text, place.name_at) == text[start]


def _announces_text(place: _Place, quoted: tuple[int, int, int]) -> bool:
    """Say whether name: "value" is one, and no sentence about a name in quotes."""
    content = place.text[quoted[0] : quoted[1]]
    rest = place.text[quoted[2] : _line_end(place.text, quoted[2])]
    if _PROSE.match(content):
        return False
    if place.strong:
        return True
    if re.match(r"\s+[a-z]", rest):
        return False
    return len(content) >= 4 and re.match(r"\s*(?:[,;})\]].*)?$", rest) is not None


def _member_span(place: _Place) -> tuple[int, int] | None:
    """Return the span of a bare value of a JSON object or a dictionary."""
    text, start = place.text, place.start
    if text.startswith("[", start):
        end = text.find("]", start, _line_end(text, start))
        return (start + 1, end) if end > start + 1 and "{" not in text[start:end] else None
    found = re.compile(r"[^\s,}\])]+(?=\s*(?:[,}\])\n]|$))").match(text, start)
    if found is None or re.match(r"[\w.]+\(|\{", found[0]):
        return None
    return found.span()


def _assigned_span(place: _Place) -> tuple[int, int] | None:
    """Return the span of the value in name=value, without quotes."""
    text, start = place.text, place.start
    spaced = text[start - 1] in " \t"
    if place.first and (spaced or _ENVIRONMENT.match(place.name)):
        words = text[start : place.line()]
        # A command may follow in a shell: PGPASSWORD=... psql
        return start, start + len(words)
    return start, _word_end(text, start, place.name_at)


def _told_span(place: _Place) -> tuple[int, int] | None:
    """Return the span of the value in name: value, without quotes."""
    text, start = place.text, place.start
    if _PROSE.match(text, start) and not (place.first and _ENVIRONMENT.match(place.name)):
        return None
    tight = text[start - 1] == ":"
    if not _REALLY.search(place.name) and not (place.first and place.strong):
        return None
    if re.fullmatch(r"[\w.-]*?(?<![A-Za-z])pass", place.name, re.IGNORECASE):
        # A test may pass: only as a key is it the short word for a password.
        return (start, place.line()) if place.first and _is_last_word(text, start) else None
    if place.strong:
        if tight and (
            place.line_before.endswith("/")
            or re.match(r"\d{1,5}(?:/|\s|$)", text[start : start + 8])
        ):
            return None
        if place.first:
            return start, place.line()
        return start, _word_end(text, start, place.name_at)
    if tight:
        return None
    # The name is common in prose: only what ends the line, or looks random.
    opened = _opened_before(text, place.name_at)
    header = re.compile(rf"[^\s'\"]+(?={opened})").match(text, start) if opened else None
    if header:
        return header.span()
    if _is_last_word(text, start) and not _resembles_name(text[start : place.line()]):
        return start, start + len(_TRAILING.sub("", text[start : place.line()]))
    random = _RANDOM.match(text, start)
    return random.span() if random and not _IDENTITY.match(random[0]) else None


def _is_last_word(text: str, start: int) -> bool:
    return re.compile(r"\S+[ \t]*$", re.MULTILINE).match(text, start) is not None


_IDENTITY = re.compile(r"(?:sha\d+[:-])?[0-9a-f]{64}$|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def _resembles_name(word: str) -> bool:
    """Say whether a word is one of those that name an object, and not a value."""
    return re.fullmatch(r"[(){}\[\]'\"]*|[a-z]+(?:-[a-z]+)+", word) is not None


# --- Addresses ------------------------------------------------------------------------------------

_SCHEME = re.compile(
    r"(?<![A-Za-z0-9+.-])(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*+):(?:\\*/){2}", re.IGNORECASE
)
# Here an @ after the first slash is a part of the path.
_WEB = frozenset(
    [
        "http",
        "https",
        "ws",
        "wss",
        "ftp",
        "s3",
        "s3a",
        "gs",
        "gcs",
        "file",
        "oci",
        "git+https",
        "git+http",
    ]
)
# Here what stands before an @ is a place, and no secret.
_CONTAINERS = frozenset(
    ["abfs", "abfss", "wasb", "wasbs", "hdfs", "docker-pullable", "docker-image"]
)
_DIGEST = re.compile(r"sha\d+:[0-9a-f]{6,}")
_HOST_AND_PORT = re.compile(r"(?:\[[^\]]*\]|[^\s:/?#@]*)(?::\d{0,5})?(?=[/?#\s,;)\]}\"'>]|$)")
_PORT = re.compile(r"(?:\d{1,5}(?=[/?#\s,;:)\]}\"'>.…\\]|$)|[\s$\{<%\"']|$)")
_TOKEN = re.compile(r"(?=[^:]*\d)(?=[^:]*[a-zA-Z])[^\s:/@'\"]{12,}$")


def _region_end(text: str, start: int, scheme_at: int) -> int:
    """Return where an address ends: with the quote that it stands in, or with the word."""
    before = text[max(0, scheme_at - 8) : scheme_at]
    opened = re.search(r"\\*[\"'`]$", before)
    limit = min(len(text), start + _ADDRESS)
    if opened:
        quoted = quoted_end(text, scheme_at - len(opened[0]))
        if quoted:
            return min(quoted[1], limit)
    found = re.compile(r"\S*").match(text, start, limit)
    end = found.end() if found else start
    if before.endswith("<"):
        closing = text.rfind(">", start, end)
        return closing if closing > 0 else end
    return end


def _last_at(text: str, start: int, end: int) -> int:
    """Return where the last @ is that does not begin a digest; -1 if there is none."""
    at = text.rfind("@", start, end)
    while at >= 0 and _DIGEST.match(text, at + 1):
        at = text.rfind("@", start, at)
    return at


def _userinfo(text: str, found: re.Match[str]) -> tuple[int, int] | None:
    """Return the span of what is secret in an address that begins with a scheme."""
    start, scheme = found.end(), found["scheme"].lower()
    end = _region_end(text, start, found.start())
    at = _last_at(text, start, end)
    web = scheme in _WEB
    if at >= 0 and (not web or not _HOST_AND_PORT.match(text, start, end)):
        colon = text.find(":", start, at)
        if colon >= 0:
            return (colon + 1, at) if colon + 1 < at else None
        token = scheme not in _CONTAINERS and _TOKEN.match(text[start:at])
        return (start, at) if token else None
    if web or at >= 0:
        return None
    return _cut_off(text, start, end)


def _cut_off(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Return the span of a password whose address has a blank in it, or was cut off."""
    user = re.compile(r"[^\s:/?#@\[\"']*:").match(text, start, end)
    if user is None or _PORT.match(text, user.end()):
        return None
    line = min(_line_end(text, end), end + 200)
    at = _last_at(text, end, line)
    return user.end(), at if at >= 0 else end


# Kubernetes and shells put the value there only when they run it.
_REFERENCE = re.compile(r"(?:\$\([A-Za-z_]\w{2,}\)|\$\{[A-Za-z_]\w{2,}\})$")


def _mask_addresses(text: str) -> str:
    parts: list[str] = []
    done = 0
    for found in _SCHEME.finditer(text):
        if found.start() < done:
            continue
        span = _userinfo(text, found)
        if span and span[0] >= done and not _REFERENCE.match(text, *span):
            parts += [text[done : span[0]], MASK]
            done = span[1]
    parts.append(text[done:])
    return "".join(parts)


# user:password@host, without a scheme
_BARE = re.compile(
    r"(?P<user>(?<![^\s\"'`(=<\[,])(?!(?:mailto|user|group|email|from|owner|serviceaccount|domain):)"
    r"[A-Za-z_][\w.+-]*(?://[\w.+-]+)?:(?!\\*/))(?P<value>\S+)@(?!sha\d+:)(?=[A-Za-z0-9\[*$])",
    re.IGNORECASE,
)


def _mask_bare(found: re.Match[str]) -> str:
    if "://" in found["value"] or ":\\/" in found["value"] or "@sha" in found["value"]:
        return found[0]
    return f"{found['user']}{MASK}@"


# --- Everything else ------------------------------------------------------------------------------

_Rule = tuple[re.Pattern[str], "str | t.Callable[[re.Match[str]], str]"]


def _rule(pattern: str, replacement: str = r"\1" + MASK, flags: int = re.IGNORECASE) -> _Rule:
    return re.compile(pattern, flags), replacement


_BEFORE: tuple[_Rule, ...] = (
    _rule(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*KEY-----|\Z)", MASK, re.DOTALL),
    # The end of a key whose beginning a log does not show any more, and a part from its middle.
    _rule(
        r"(?:(?:^|(?<=\\n)|(?<=[\"' ]))(?=[a-z]*[A-Z0-9+/])[A-Za-z0-9+/=]{4,}"
        r"(?:\s*\n|\\+n)[ \t]*){1,200}"
        r"-----END [A-Z ]*PRIVATE KEY-----",
        MASK,
        re.MULTILINE,
    ),
    _rule(
        r"(?:^[ \t]*(?=[^\n]*[A-Z])(?=[^\n]*[a-z])[A-Za-z0-9+/]{64}[ \t]*(?:\n|\Z)){2,}"
        r"(?:[ \t]*[A-Za-z0-9+/]+={0,2}[ \t]*$)?",
        MASK + "\n",
        re.MULTILINE,
    ),
    # What SQLAlchemy and Postgres say of the values of a statement.
    _rule(r"(\[parameters: ).*[\])}](?=\])"),
    _rule(
        r"(\[(?:generated in|cached since|raw sql|no key|insertmanyvalues|dialect )[^\]\n]*\]\s*)"
        r"[(\[{].*"
    ),
    _rule(r"(Failing row contains \().*(?=\))"),
    _rule(r"(\bCOPY \S+, line \d+(?:, column \S+)?: \").*(?=\")"),
    _rule(
        r"(\bKey \([^)\n]*(?:pass|secret|token|key_hash|credential)[^)\n]*\)=\().*(?=\) )",
    ),
    # Hashes of passwords: MLflow's, Postgres' and what is common.
    _rule(r"\b((?:scrypt|pbkdf2)(?::[\w-]+){1,4}\$)[^\s'\",)]+"),
    _rule(r"(SCRAM-SHA-256\$)[^\s'\",)]+"),
    _rule(r"(\$(?:2[aby]|argon2(?:id?|d)|[156y])\$)[^\s'\",)]+"),
    _rule(r"(['\"])md5[0-9a-f]{32}(?=['\"])"),
    # ALTER ROLE x PASSWORD 'value', whole or cut off on the left as Postgres shows it
    _rule(
        r"(\b(?:password|identified by)\s+(?:E|U&|N|B)?)"
        r"'(?:[^'\\]|''|\\.|'(?![\s;,)\]]|$))*(?:'|$)",
        r"\1'" + MASK + "'",
    ),
    _rule(r"(\bpassword\s+)(\$\w*\$).*?(?:\2|$)"),
    _rule(r"(^LINE \d+: \.\.\.(?:P?A?S?S?W?O?R?D)?\s*E?').*", flags=re.MULTILINE),
    # What drivers make of a password with an @, a colon or a slash that is not quoted: they take
    # its rest for the host, the port or the database, and name that.
    _rule(
        r"((?:host ?name|host|server at|resolve|address|database|endpoint|port|name)\s*[=:]?\s*"
        r"\\*[\"'])[^\n\s]*@(?=[^@\n\s]*\\*[\"'])",
        r"\1" + MASK + "@",
    ),
    _rule(r"(base 10: \\*['\"])[^\n]*@"),
    _rule(
        r"((?:cast to integer value as|invalid port number:|invalid integer value|port must be)\s+"
        r"\\*['\"])(?!-?\d+\\*['\"])[^\n]*?(?=\\*['\"](?:[\s.,;)]|\\|$))"
    ),
    _rule(
        r"((?:\\*\" after|encoded token:|URI query parameter:|encoded value:|interpolation key"
        r"|followed by '%' or '\(', found:"
        r"|in URI:|connection option) \\*['\"])(?![a-z_]+\\*['\"])[^\n]*?"
        r"(?=\\*['\"](?:[\s.,;)]|\\|$))"
    ),
    # An API server that refuses a value says which.
    _rule(
        r"((?:\.value|data\[[^\]\n]*\]): Invalid value: \\*\")[^\n]*?(?=\\*\"(?:[\s.,;:)]|\\|$))"
    ),
)

_AUTHORIZATION = r"authorization\\*[\"'`]?\s*[:=]\s*(?:b?\\*[\"'`])?"
_AFTER: tuple[_Rule, ...] = (
    # Headers of HTTP, in all schemes; those that have parts end with the line.
    _rule(rf"({_AUTHORIZATION}(?:bearer|basic|token|apikey|negotiate)\s+)[^\s\\'\"]+"),
    _rule(rf"({_AUTHORIZATION}(?:digest|aws4-hmac-sha256|aws)\s).*"),
    _rule(
        r"\b(bearer|basic)\s+(?!realm\b)(?:(?=[\w.~+/=-]+(?-i:[A-Z0-9=]))[\w.~+/=-]{6,}"
        r"|[\w.~+/=-]{20,})",
        r"\1 " + MASK,
    ),
    _rule(r"((?<![\w-])(?:set-)?cookie:\s+(?!\*{8}))(?=[^\s=;]+=)[^\n\"']+"),
    # Tokens that are known by their shape.
    _rule(r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?", MASK, 0),
    _rule(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", MASK, 0),
    _rule(
        r"(?<![\w+/=.-])(?=(?:[^\s]{0,39}?\d){3})(?=(?:[^\sA-Z]{0,39}[A-Z]){4})"
        r"(?=(?:[^\sa-z]{0,39}[a-z]){4})[A-Za-z0-9+/]{40}(?![\w+/=.-])",
        MASK,
        0,
    ),
    _rule(r"\b(?:gh[pousr]|github_pat|glpat|xox[abp])[-_][\w-]{10,}", MASK, 0),
    _rule(r"\b(?:sk-[\w-]{20,}|hf_\w{20,}|dapi[0-9a-f]{32}\b|AIza[\w-]{30,})", MASK, 0),
    # What is typed: --password value, -u user:value, also as a list of arguments
    _rule(rf"((?=--){_NAME})\s+(?!-)\S+", r"\1 " + MASK),
    _rule(
        rf"((?=--){_NAME}[\"'],\s*)([\"'])(?:\\.|(?!\2[,\]\s]).)*(?=\2)",
        r"\1\2" + MASK,
    ),
    _rule(r"((?<=\s)(?:-u|--user)[ =]?['\"]?[^\s:'\"/]+:)(?!//)(?!\*{8})[^\s'\"]+", flags=0),
    # <SecretAccessKey>value<
    _rule(r"(<" + _NAME + r">)[^<]+"),
    # password: | and the lines that follow, further in
    _rule(
        r"^(?P<indent>[ \t-]*)(" + _NAME + r"\s*:\s*[|>][+-]?\d?[ \t]*\n)"
        r"(?:(?P=indent)[ \t]+\S.*(?:\n|\Z))+",
        r"\g<indent>\2\g<indent>  " + MASK + "\n",
        re.IGNORECASE | re.MULTILINE,
    ),
    # The same forms as they stand inside the query of a URL.
    _rule(
        r"(%3A%2F%2F(?:(?!%3A)[^\s'\"&]){0,200}%3A)[^\s'\"&]{1,200}?(%40)",
        r"\1" + MASK + r"\2",
    ),
    _rule(
        r"(" + _NAME + r"(?:%22|%27)?(?:%3A|%3D)(?:%20|\+)*(?:%22|%27)?)"
        r"(?:(?!%22|%27|%26|%3B|%2C|%20|%7D)[^\s&'\"])+"
    ),
)

# A pod's environment: the name and then the value, or the value first.
_PAIR = re.compile(
    r"\bname\\*[\"']?\s*:\s*\\*[\"']?(?P<name>"
    + _NAME
    + r")\\*[\"']?,?\s*\\*[\"']?\bvalue\\*[\"']?"
    r"\s*:[ \t]*",
    re.IGNORECASE,
)
_PAIR_REVERSED = re.compile(
    r"(\bvalue\\*[\"']?\s*:\s*\\*[\"'])((?:(?!\\*[\"']\s*,)[^\n]){1,2000})"
    r"(?=\\*[\"']\s*,\s*\\*[\"']?name\\*[\"']?\s*:\s*\\*[\"']?" + _NAME + ")",
    re.IGNORECASE,
)
_BARE_PAIR_END = re.compile(r"[, ]\s*ValueFrom:|[}\n]|$")


def _mask_pairs(text: str) -> str:
    parts: list[str] = []
    done = 0
    for found in _PAIR.finditer(text):
        if found.start() < done or _is_about(found["name"]):
            continue
        quoted = quoted_end(text, found.end())
        ending = None if quoted else _BARE_PAIR_END.search(text, found.end())
        start, end = quoted[:2] if quoted else (found.end(), ending.start() if ending else 0)
        if end > start and not _NO_VALUE.match(text[start:end]):
            parts += [text[done:start], MASK]
            done = end
    parts.append(text[done:])
    return _PAIR_REVERSED.sub(r"\1" + MASK, "".join(parts))


# The data of a Secret, in YAML and in JSON: each value of it is one, whatever its name.
_SECRET_KIND = re.compile(r"^\s*kind:\s*Secret\s*$|\"kind\":\s*\"Secret\"", re.MULTILINE)
_SECRET_DATA = re.compile(
    r"^(?P<indent>[ \t]*)(?:data|stringData):[ \t]*\n"
    r"(?P<lines>(?:(?P=indent)[ \t]+\S.*(?:\n|\Z))+)",
    re.MULTILINE,
)
_SECRET_OBJECT = re.compile(r"\"(?:data|stringData)\":\s*\{(?:[^{}\"]|\"(?:[^\"\\]|\\.)*\")*\}")


def _mask_secret_objects(text: str) -> str:
    if not _SECRET_KIND.search(text):
        return text
    parts = re.split(r"(^---[ \t]*\n)", text, flags=re.MULTILINE)
    return "".join(_mask_data(part) if _SECRET_KIND.search(part) else part for part in parts)


def _mask_data(text: str) -> str:
    def block(found: re.Match[str]) -> str:
        lines = re.sub(
            r"^([ \t]+[\w.-]+:[ \t]*).+$", r"\1" + MASK, found["lines"], flags=re.MULTILINE
        )
        whole = found[0]
        return whole[: len(whole) - len(found["lines"])] + lines

    text = _SECRET_DATA.sub(block, text)
    return _SECRET_OBJECT.sub(
        lambda found: re.sub(r"(:\s*)\"(?:[^\"\\]|\\.)*\"", rf'\1"{MASK}"', found[0]), text
    )


# Base64 of a text in which one of the forms is: a Secret's data, a header.
_BLOB = re.compile(r"(?<![\w+/=-])[A-Za-z0-9+/_-]{20,}={0,2}(?![\w+/=])")


def _mask_blob(found: re.Match[str]) -> str:
    blob = found[0].rstrip("=")
    if len(blob) > _FURTHEST:
        return found[0]
    try:
        data = base64.b64decode(
            blob.translate(str.maketrans("-_", "+/")) + "=" * (-len(blob) % 4), validate=True
        )
        inner = data.decode()
    except (binascii.Error, ValueError):
        return found[0]
    if not inner.isprintable() and not re.fullmatch(r"[\x20-\x7e\s]+", inner):
        return found[0]
    return MASK if _mask_text(inner) != inner else found[0]


def _mask_text(text: str) -> str:
    for pattern, replacement in _BEFORE:
        text = pattern.sub(replacement, text)
    text = _mask_secret_objects(text)
    text = _mask_addresses(text)
    text = _BARE.sub(_mask_bare, text)
    for pattern, replacement in _AFTER[:4]:
        text = pattern.sub(replacement, text)
    text = _mask_pairs(text)
    text = _mask_values(text)
    for pattern, replacement in _AFTER[4:]:
        text = pattern.sub(replacement, text)
    return text


def mask_forms(text: str) -> str:
    """Return the text with everything masked that has the form of a secret."""
    return _BLOB.sub(_mask_blob, _mask_text(text))
