"""The one comment of a pull request: made once, edited from then on. Python's own HTTP client, GitHub's REST API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from qcompiler.review.summary import MARKER

_PAGE = 100
_SECONDS = 30


def put_comment(body: str, number: int, environment: Mapping[str, str], *, new: bool) -> str:
    """Write the comment that begins with MARKER; "" where that worked, else why not.

    Args:
        environment: GITHUB_API_URL, GITHUB_REPOSITORY and GITHUB_TOKEN.
        new: Make it where there is none; else it is only brought up to date.
    """
    token = environment.get("GITHUB_TOKEN", "")
    if not token:
        return "there is no token"
    root = f"{environment.get('GITHUB_API_URL', 'https://api.github.com')}/repos/{environment['GITHUB_REPOSITORY']}"
    try:
        known = _find(f"{root}/issues/{number}/comments", token)
        if known is None and new:
            _call("POST", f"{root}/issues/{number}/comments", token, {"body": body})
        elif known is not None:
            _call("PATCH", f"{root}/issues/comments/{known}", token, {"body": body})
    except urllib.error.HTTPError as error:  # pull requests from forks have tokens that may only read
        return f"GitHub answers {error.code} {error.reason}; `permissions: pull-requests: write` lets it"
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        return f"GitHub cannot be reached: {error}"
    return ""


def _find(url: str, token: str) -> int | None:
    page = 1
    while True:
        comments = _call("GET", f"{url}?per_page={_PAGE}&page={page}", token)
        for item in comments:
            if str(item.get("body", "")).startswith(MARKER):
                return int(item["id"])
        if len(comments) < _PAGE:
            return None
        page += 1


def _call(method: str, url: str, token: str, document: Mapping[str, str] | None = None) -> Any:
    data = None if document is None else json.dumps(document).encode()
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json",
               "X-GitHub-Api-Version": "2022-11-28", "Content-Type": "application/json"}  # fmt: skip
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
        return json.loads(answer.read() or b"null")
