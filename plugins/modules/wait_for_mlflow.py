#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: wait_for_mlflow
short_description: Wait until an MLflow server is ready, or say why it cannot be
version_added: 0.1.0
description:
  - Waits until the current revision of an MLflow Deployment is rolled out, every one of its pods
    answers, the version is that of the image, a search reaches the database, and the database's
    schema is what the image needs.
  - Ends as soon as a failure is certain and says which container, what its log says and what to
    do, as M(mlops.mlflow.wait_for_rollout) does.
  - Reaches each pod through a port-forward of the API server, unless O(url) is given.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.wait
  - mlops.mlflow.lease
options:
  name:
    description: The name of the Deployment.
    type: str
    default: mlflow
  namespace:
    description: Its namespace.
    type: str
    required: true
  image:
    description:
      - The image that every pod must run.
      - If not given, any image will do.
    type: str
  version:
    description:
      - The version that every pod must answer with.
      - If not given, the one that the tag of MLflow's own image names, or of a mirror of it. The
        tag of any other image need not be MLflow's version, and none is expected.
    type: str
  migration_job:
    description:
      - The name of the Job that migrates the database. It is waited for together with the
        Deployment, and a schema that is behind is not a failure before it has ended.
    type: str
  definition:
    description:
      - What else has to be ready, such as the database that was applied together with the server,
        as in O(mlops.mlflow.wait_for_rollout#module:definition). What fails for the want of another
        one is no failure before that is ready.
    type: list
    elements: dict
    default: []
  url:
    description:
      - Ask the server at this address instead of each pod. Its host must be one that MLflow allows.
    type: str
  username:
    description: The name of an MLflow user, where the server asks for one (basic authentication).
    type: str
    aliases: []
  password:
    description: That user's password.
    type: str
  credentials_secret:
    description:
      - The name of a Secret in O(namespace) with the user and the password, under
        C(admin-username) and C(admin-password), instead of O(username) and O(password). They pass
        through nothing but this module.
    type: str
  credentials_from:
    description: The same, where they are in Secrets of other names or keys.
    type: dict
    suboptions:
      username:
        description: Where the user is, as C(secret) and C(key).
        type: dict
        required: true
      password:
        description: Where the password is, as C(secret) and C(key).
        type: dict
        required: true
  ca_cert:
    description:
      - A file with the certificates of the authorities that vouch for O(url).
      - For the API server's certificate, use O(ssl_ca_cert).
    type: path
    aliases: []
  ssl_ca_cert:
    description:
      - A file with the certificates of the authorities that vouch for the Kubernetes API server,
        which other modules call O(ca_cert). Can also be given in E(K8S_AUTH_SSL_CA_CERT).
    type: path
  schema:
    description:
      - V(at_head) asks the schema helper in the server's pod whether the database is migrated to
        the revision of the image, and takes nothing less.
      - V(any) does not ask.
    type: str
    choices: [at_head, any]
    default: at_head
notes:
  - O(username), O(password) and O(ca_cert) are for MLflow here, not for Kubernetes as in other
    modules. Kubernetes itself takes no user and password any more; a token is O(api_key).
  - "Besides what M(mlops.mlflow.wait_for_rollout) needs, the account needs C(get) and C(create) on
    C(pods/portforward) unless O(url) is given, and on C(pods/exec) unless O(schema=any)."
seealso:
  - module: mlops.mlflow.wait_for_rollout
  - name: MLflow tracking server
    description: What the server is.
    link: https://mlflow.org/docs/latest/self-hosting/architecture/tracking-server/
"""

EXAMPLES = r"""
- name: Wait until MLflow serves
  mlops.mlflow.wait_for_mlflow:
    namespace: mlflow-production

- name: Wait for a migration and the new version in one task
  mlops.mlflow.wait_for_mlflow:
    namespace: mlflow-production
    image: ghcr.io/mlflow/mlflow:v3.17.2-full
    migration_job: mlflow-migration-3-17-2
    timeout: 1800

- name: Wait for a server with basic authentication behind an ingress
  mlops.mlflow.wait_for_mlflow:
    namespace: mlflow-production
    url: https://mlflow.example.com
    ca_cert: /etc/ssl/example-ca.pem
    username: admin
    password: "{{ mlflow_admin_password }}"

- name: Wait for an MLflow that something else deployed
  mlops.mlflow.wait_for_mlflow:
    name: tracking
    namespace: data-science
    schema: any
"""

RETURN = r"""
ready:
  description: Whether everything that was waited for is ready.
  returned: always
  type: bool
  sample: true
elapsed:
  description: How long the wait took, in seconds.
  returned: always
  type: float
  sample: 12.31
requests:
  description: How many requests were sent to the Kubernetes API.
  returned: always
  type: int
  sample: 10
resources:
  description: What can be said about each object, in the order in which they were given.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: The object's kind.
      type: str
      sample: Deployment
    name:
      description: The object's name.
      type: str
      sample: mlflow
    namespace:
      description: The object's namespace.
      type: str
      sample: mlflow-development
    status:
      description: V(ready), V(progressing) or V(failed).
      type: str
      sample: ready
    message:
      description: What it is doing, or what is wrong with it.
      type: str
      sample: 2 of 2 available
    ready_after:
      description: After how many seconds it became ready, or null if it is not.
      type: float
      sample: 11.8
timeline:
  description: What happened while waiting, in order.
  returned: always
  type: list
  elements: dict
  contains:
    at:
      description: Seconds since the wait began.
      type: float
      sample: 3.02
    object:
      description: What it happened to.
      type: str
      sample: Deployment/mlflow
    event:
      description: What happened.
      type: str
      sample: 1 of 2 available · mlflow-7c9f5d-x2x7k pulling image
msg:
  description:
    - One line that says how it ended. For a failure, the reason, the object and container, the line
      of the log that explains it, and what to do.
  returned: always
  type: str
  sample: "ready: Deployment/mlflow"
failure:
  description: Why it is not ready, or null.
  returned: always
  type: dict
  contains:
    reason:
      description: One of the names listed with O(tolerances), or V(timeout).
      type: str
      sample: crash_loop
    kind:
      description: The kind of the object that is at fault, such as a pod of what was waited for.
      type: str
      sample: Pod
    name:
      description: The name of that object.
      type: str
      sample: mlflow-7c9f5d-x2x7k
    container:
      description: The container at fault, or null.
      type: str
      sample: mlflow
    message:
      description: What is wrong.
      type: str
      sample: container mlflow of pod mlflow-7c9f5d-x2x7k ended with exit code 1, restarted 2 times
    hint:
      description: What to do about it, in one line.
      type: str
      sample: "Read the whole log: kubectl -n mlflow logs mlflow-7c9f5d-x2x7k -c mlflow --previous"
    events:
      description:
        - The last events about the objects concerned, the oldest first.
        - When the time was up, what is not as it should be in their conditions comes before.
      type: list
      elements: str
    logs:
      description: The last lines that the container wrote, of its previous instance if that ended.
      type: list
      elements: str
server:
  description: The server, as far as it is known.
  returned: always
  type: dict
  contains:
    version:
      description: The version that it answers with, or null.
      type: str
      sample: 3.17.2
    image:
      description: The image that its pods run, or null.
      type: str
      sample: ghcr.io/mlflow/mlflow:v3.17.2-full
    url:
      description: The address that was asked, or null if the pods were.
      type: str
    pods:
      description: The names of the pods of the current revision.
      type: list
      elements: str
http:
  description: What each pod answered (one entry if O(url) is given).
  returned: always
  type: list
  elements: dict
  contains:
    pod:
      description: The pod's name.
      type: str
    health:
      description: The HTTP status of C(/health), or null.
      type: int
    version:
      description: The answer of C(/version), or null.
      type: str
    search:
      description: The HTTP status of a search for experiments, which reads the database, or null.
      type: int
    seconds:
      description: How long the pod took for all of it.
      type: float
schema:
  description:
    - The schema helper's verdict on each database (C(tracking), and C(auth) with basic
      authentication), or null if it was not asked.
  returned: always
  type: dict
  sample: {"tracking": {"state": "at_head", "current": "dc11669786a5", "head": "dc11669786a5"}}
"""

import base64
import re
import typing as t
import urllib.parse

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    AUTH_ARG_SPEC,
    Api,
    ApiError,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import DEPLOYMENT, JOB
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.module import Module
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.redact import Redactor
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.migration import (
    what_it_waits_for,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.readiness import (
    MlflowCheck,
    Server,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.progress import (
    progress_from_environment,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.engine import (
    CheckResult,
    Engine,
    Seen,
    api_message,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.options import (
    WAIT_ARG_SPEC,
    Show,
    connect,
    fail,
    find_targets,
    finish,
    run,
    wait_options,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import Target


def argument_spec() -> dict[str, t.Any]:
    """Return the module's options; three of kubernetes.core's mean MLflow's here."""
    return {
        **AUTH_ARG_SPEC,
        **WAIT_ARG_SPEC,
        "name": {"type": "str", "default": "mlflow"},
        "namespace": {"type": "str", "required": True},
        "image": {"type": "str"},
        "version": {"type": "str"},
        "migration_job": {"type": "str"},
        "definition": {"type": "list", "elements": "dict", "default": []},
        "url": {"type": "str"},
        "username": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "credentials_secret": {"type": "str", "no_log": False},
        "credentials_from": {
            "type": "dict",
            "no_log": False,
            "options": {
                "username": {"type": "dict", "required": True},
                "password": {"type": "dict", "required": True, "no_log": False},
            },
        },
        "ca_cert": {"type": "path"},
        "ssl_ca_cert": {"type": "path"},
        "schema": {"type": "str", "choices": ["at_head", "any"], "default": "at_head"},
    }


def credentials_from(params: dict[str, t.Any]) -> dict[str, dict[str, str]]:
    """Return where the user and the password are, if they are in Secrets."""
    name = params["credentials_secret"]
    if name:
        return {part: {"secret": name, "key": f"admin-{part}"} for part in ("username", "password")}
    return params["credentials_from"] or {}


def read_credentials(
    module: Module, api: Api, namespace: str, where: dict[str, dict[str, str]]
) -> tuple[str, str]:
    """Return MLflow's user and password, which so pass through nothing but this module."""
    option = "credentials_secret" if module.params["credentials_secret"] else "credentials_from"
    secrets: dict[str, dict[str, t.Any]] = {}
    for name in dict.fromkeys(str(reference.get("secret")) for reference in where.values()):
        try:
            secrets[name] = api.get(f"/api/v1/namespaces/{namespace}/secrets/{name}", "secrets")
        except ApiError as error:
            fail(module, f"{option}: {api_message(error)}", **MlflowCheck.nothing())
    found = {}
    for part, reference in where.items():
        name, key = str(reference.get("secret")), str(reference.get("key"))
        try:
            text = str((secrets[name].get("data") or {})[key])
            found[part] = base64.b64decode(text, validate=True).decode()
        except (KeyError, ValueError):
            fail(
                module,
                f"{option}: Secret {name} in namespace {namespace} has no usable key {key}.",
                **MlflowCheck.nothing(),
            )
    # As if it had been given as an option: blanked out of whatever the module returns.
    module.no_log_values.add(found["password"])
    return found["username"], found["password"]


def wrong_url(url: str) -> str:
    """Return what is wrong with the address of a server; empty if nothing is.

    The address itself is not repeated: it may hold a password.
    """
    if not url:
        return ""
    try:
        found = urllib.parse.urlsplit(url)
        port, host = found.port, found.hostname
    except ValueError as error:
        return f"is no address of a server: {str(error).partition(':')[0]}"
    if found.scheme not in ("http", "https"):
        return "must start with http:// or https://"
    if not host or re.search(r"[\s\x00-\x1f]", url) or port == 0:
        return "names no host and port that a server could have"
    if found.username is not None or found.password is not None:
        return "must not hold a user and a password: give them as username and password"
    if found.query or found.fragment:
        return "must end with the path under which MLflow is: no query, no fragment"
    return ""


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_together=[("username", "password")],
        mutually_exclusive=[("username", "credentials_secret", "credentials_from")],
    )
    params = module.params
    nothing = MlflowCheck.nothing()
    wrong = wrong_url(params["url"] or "")
    if wrong:
        fail(module, f"url: {wrong}.", **nothing)
    options = wait_options(module, **nothing)
    connection = {
        **params,
        "username": None,
        "password": None,
        "ca_cert": params["ssl_ca_cert"],
    }
    api = connect(module, connection, **nothing)
    username, password = params["username"] or "", params["password"] or ""
    where = credentials_from(params)
    if where:
        username, password = read_credentials(module, api, params["namespace"], where)
        options = options._replace(secrets=(*options.secrets, password))
    server = Server(
        image=params["image"] or "",
        version=params["version"] or "",
        url=(params["url"] or "").rstrip("/"),
        username=username,
        password=password,
        ca_cert=params["ca_cert"] or "",
        schema=params["schema"],
    )
    targets = find_targets(module, api, params["definition"], params["namespace"])
    if params["migration_job"]:
        targets.append(Target(JOB, params["namespace"], params["migration_job"]))
    # The last one, for the check to take it for MLflow, whatever else is a Deployment.
    targets.append(Target(DEPLOYMENT, params["namespace"], params["name"]))
    check = MlflowCheck(api, server)
    of_jobs = what_it_waits_for(api)

    def learn(seen: Seen) -> CheckResult | None:
        return check.meanwhile(seen) or of_jobs(seen)

    facts: t.Mapping[str, t.Any] = {}

    def wait(progress: Show | None) -> dict[str, t.Any]:
        nonlocal facts
        engine = Engine(api, targets, options, check, progress, learn=learn)
        result = engine.run()
        facts = Redactor(options.secrets).within(engine.facts)
        return result

    result = run(module, connection, wait, progress_from_environment(), **nothing)
    finish(module, {**nothing, **facts, **result})


if __name__ == "__main__":
    main()
