# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where MLflow, SQLAlchemy, libpq, boto3 and Kubernetes print a password, and how they spell it."""

from __future__ import annotations

import base64
import html
import json
import shlex
import textwrap
from collections.abc import Callable
from urllib.parse import quote, quote_plus

Place = Callable[[str], str]


def _in_base64(before: str, after: str = "") -> Place:
    return lambda p: base64.b64encode(f"{before}{p}{after}".encode()).decode()


# The spellings of a value: in any text, whatever stands around it.
SPELLINGS: dict[str, Place] = {
    "plain": lambda p: p,
    "url": lambda p: quote(p, safe=""),
    "url, slashes kept": quote,
    "url, plus": quote_plus,
    "url, lower case": lambda p: "".join(f"%{byte:02x}" for byte in p.encode()),
    "url, in part": lambda p: "".join(
        quote(c, safe="") if number % 2 else f"%{ord(c):02X}" if c.isascii() else quote(c)
        for number, c in enumerate(p)
    ),
    "url, twice": lambda p: quote(quote(p, safe=""), safe=""),
    "json": json.dumps,
    "json, unicode": lambda p: json.dumps(p, ensure_ascii=False),
    "json in json": lambda p: json.dumps(json.dumps({"x": p})),
    "json of Go": lambda p: (
        json.dumps(p).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    ),
    "repr": repr,
    "repr of bytes": lambda p: repr(p.encode()),
    "repr of a repr": lambda p: repr(repr(p)),
    "ini": lambda p: p.replace("%", "%%"),
    "url in an ini": lambda p: quote(p, safe="").replace("%", "%%"),
    "shell": shlex.quote,
    "shell, backslash": lambda p: "'" + p.replace("'", "'\\''") + "'",
    "html": html.escape,
    "html, twice": lambda p: html.escape(html.escape(p)),
    "xml, numbers": lambda p: "".join(f"&#{ord(c)};" for c in p),
    "sql": lambda p: "'" + p.replace("'", "''") + "'",
    "csv": lambda p: '"' + p.replace('"', '""') + '"',
    "libpq": lambda p: "'" + p.replace("\\", "\\\\").replace("'", "\\'") + "'",
    "base64": _in_base64(""),
    "base64, user:password": _in_base64("admin:"),
    "base64, second place": _in_base64("u:", "@db"),
    "base64, third place": _in_base64("ab:", "@db/mlflow"),
    "base64 for URLs": lambda p: base64.urlsafe_b64encode(f"x:{p}?".encode()).decode(),
    "base64 in lines": lambda p: base64.encodebytes(f"{'x' * 50}{p}{'y' * 20}".encode()).decode(),
    "base64 of a url": lambda p: base64.b64encode(
        f"postgresql://u:{quote(p, safe='')}@db/m".encode()
    ).decode(),
    "base64 of json": lambda p: base64.b64encode(json.dumps({"k": p}).encode()).decode(),
    "base64 in a url": lambda p: quote(base64.b64encode(f"a:{p}".encode()).decode(), safe=""),
    "hexadecimal": lambda p: p.encode().hex(),
    "wrapped": lambda p: p[: len(p) // 2] + "\n        " + p[len(p) // 2 :],
    "wrapped, backslash": lambda p: p[:3] + "\\\n" + p[3:],
    "wrapped in a frame": lambda p: p[:4] + " │\n│ " + p[4:],
    "wrapped url": lambda p: "\n".join(textwrap.wrap(quote(p, safe=""), 7)),
}

# Where it can be told from the form alone, for a password that is spelt as the place wants it.
FORMS: dict[str, Place] = {
    "SQLAlchemy URL": lambda p: f"cannot open 'postgresql+psycopg2://mlflow:{quote(p)}@db/mlflow'",
    "URL, not quoted": lambda p: f'"postgresql://mlflow:{p}@db:5432/mlflow" is not valid',
    "URL in JSON": lambda p: json.dumps({"uri": f"postgresql://u:{quote(p)}@db/m"}).replace(
        "/", "\\/"
    ),
    "URL of an INI": lambda p: (
        f"database_uri = postgresql://u:{quote(p, safe='').replace('%', '%%')}@db/auth"
    ),
    "URL in the query of a URL": lambda p: (
        "https://h/x?next=" + quote(f"postgresql://u:{quote(p, safe='')}@db/m", safe="")
    ),
    "query of a URL": lambda p: f"postgresql://db/m?user=u&password={quote(p, safe='')}&sslmode=x",
    "libpq": lambda p: f"host=db user=u password={SPELLINGS['libpq'](p)} dbname=m",
    "environment": lambda p: f"HOME=/root\nPGPASSWORD={p}\nPATH=/bin",
    "environment, exported": lambda p: f"declare -x PGPASSWORD={json.dumps(p)}",
    "environment in Python": lambda p: f"environ({ {'HOME': '/', 'PGPASSWORD': p}!r})",
    "JSON": lambda p: json.dumps({"user": "u", "password": p, "port": 1}),
    "JSON, compact": lambda p: json.dumps({"password": p, "a": "b"}, separators=(",", ":")),
    "JSON in JSON": lambda p: json.dumps({"message": json.dumps({"password": p, "a": 1})}),
    "dict": lambda p: repr({"user": "u", "password": p, "port": 1}),
    "keyword": lambda p: f"connect(host='h', password={p!r}, port=1)",
    "YAML, double quotes": lambda p: f"user: u\npassword: {json.dumps(p)}\nport: 1",
    "YAML, single quotes": lambda p: f"user: u\npassword: {SPELLINGS['sql'](p)}\nport: 1",
    "YAML, plain": lambda p: f"user: u\n  database-password: x{p}\nport: 1",
    "INI": lambda p: f"[mlflow]\nadmin_password = x{p}\nadmin_username = a",
    "env of a pod, JSON": lambda p: json.dumps(
        [{"name": "DB_PASSWORD", "value": p}, {"name": "A"}]
    ),
    "env of a pod, repr": lambda p: repr([{"name": "DB_PASSWORD", "value": p, "value_from": None}]),
    "env of a pod, value first": lambda p: json.dumps({"value": p, "name": "DB_PASSWORD"}),
    "kubectl describe": lambda p: f"    Environment:\n      PGPASSWORD:  x{p}\n      A:  b",
    "statement": lambda p: f"[SQL: ALTER ROLE mlflow PASSWORD {SPELLINGS['sql'](p)}]",
    "statement, E": lambda p: f"ALTER ROLE x ENCRYPTED PASSWORD E{SPELLINGS['libpq'](p)};",
    "parameters": lambda p: f"[parameters: {('admin', p, True)!r}]\n(Background on this error)",
    "parameters, named": lambda p: f"[parameters: { ({'name': 'admin', 'x': p})!r}]",
    "echo": lambda p: f"INFO sqlalchemy.engine.Engine [generated in 0.0003s] {('admin', p)!r}",
    "row": lambda p: f"DETAIL:  Failing row contains (1, admin, {p}, t).",
    "host of a driver": lambda p: f'could not translate host name "{quote(p)}@db" to address: x',
    "boto3": lambda p: f"Credentials(access_key='AK', secret_key={p!r}, token=None)",
    "boto3, bytes": lambda p: repr({"X-Amz-Security-Token": p.encode(), "a": b"b"}),
    "basic": lambda p: "Authorization: Basic " + base64.b64encode(f"admin:{p}".encode()).decode(),
    "Secret in YAML": lambda p: (
        f"kind: Secret\ndata:\n  uri: {base64.b64encode(p.encode()).decode()}\ntype: Opaque"
    ),
    "Secret in JSON": lambda p: json.dumps({"kind": "Secret", "stringData": {"uri": p}}),
    "refused by the API server": lambda p: (
        f"spec.containers[0].env[2].value: Invalid value: {json.dumps(p)}: must be shorter"
    ),
}
