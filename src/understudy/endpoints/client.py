"""An OpenAI-compatible endpoint as a teacher of texts. Retries and rate limits are the SDK's, limits on money ours.

The key comes from an environment variable and goes nowhere but into the SDK: it takes part in no hash, and is struck
out of whatever a server says before that is shown.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from understudy.endpoints.asked import Answer, Failure, Job, Keep, Limits, Sampling
from understudy.endpoints.budget import Budget
from understudy.endpoints.crowd import Crowd
from understudy.endpoints.replies import NotAsked, is_about_context, read_reply
from understudy.errors import TeacherError, UsageError
from understudy.extras import require

NO_KEY = "none"
_REFUSED_AT_FIRST = 3  # requests that a server refuses before it has answered any
_LEAST_IN_A_ROW = 5  # failures in a row after which a server that did answer counts as gone


class RequestsRefused(TeacherError):
    """The server takes none of the requests: a parameter that it does not know, say."""


class OutOfBudget(BaseException):
    """The next try would pass a limit. No Exception: the SDK would take one for a lost connection and try again."""


def base_url(said: str) -> str:
    """The URL without its last slash.

    Raises:
        UsageError: no http(s) URL, or one that carries credentials or a query.
    """
    try:
        parts = urlsplit(said)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        whole = False
    if not whole:
        raise UsageError(f"--teacher {said.rpartition('@')[2]} is no URL such as https://HOST/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            f"--teacher: the URL of {parts.hostname} carries credentials or a query; put the key into an environment "
            "variable (--key-env), and name scheme, host and path only"
        )
    return said.rstrip("/")


def find_key(variable: str, url: str) -> str:
    """The key in an environment variable; a server on this machine needs none, nor does one for which "none" is said.

    Raises:
        TeacherError: the variable is not set, or holds what cannot be sent.
    """
    if variable == NO_KEY:
        return NO_KEY
    key = os.environ.get(variable, "").strip()
    if key and not re.fullmatch(r"[!-~]+", key):
        raise TeacherError(f"{variable} holds no key: it has blanks or letters that no key has")
    if key:
        return key
    if is_here(url):
        return NO_KEY
    host = urlsplit(url).hostname
    raise TeacherError(f"{host} needs a key: set {variable}, name another variable with --key-env, or --key-env none")


def is_here(url: str) -> bool:
    """Whether a URL leads to this machine.

    >>> is_here("http://127.0.0.1:8000/v1"), is_here("https://api.example.org/v1")
    (True, False)
    """
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_openai(url: str) -> bool:
    """Whether a URL is of the house whose accounts the SDK knows from the environment.

    >>> is_openai("https://api.openai.com/v1"), is_openai("https://openai.com.example.org/v1")
    (True, False)
    """
    return f".{urlsplit(url).hostname or ''}".endswith(".openai.com")


class Endpoint:
    """A `Teacher` behind a base URL."""

    def __init__(
        self, url: str, model: str, sampling: Sampling, limits: Limits, budget: Budget, *, key_env: str
    ) -> None:
        self.model, self.identity = model, f"{base_url(url)}\n{model}"
        self.where = urlsplit(url).netloc
        self.budget = budget
        self.requests = 0
        self.notes: list[str] = []
        self.stopped: str | None = None
        self._key = find_key(key_env, url)
        self._key_env, self._sampling, self._limits = key_env, sampling, limits
        self._lock = threading.Lock()
        self._now = threading.local()
        self._limit_name = "max_tokens"
        if url.startswith("http://") and not is_here(url) and self._key != NO_KEY:
            self.notes.append(f"{self.where} is asked over plain http: key and prompts travel unencrypted")
        self._sdk = require("openai", package="openai", why="an endpoint as a teacher (the extra understudy[endpoint])")
        self._client = self._sdk.OpenAI(
            api_key=self._key,
            base_url=base_url(url),
            max_retries=limits.retries,
            timeout=limits.timeout,
            http_client=self._sdk.DefaultHttpxClient(event_hooks={"request": [self._count], "response": [self._came]}),
        )
        if not is_openai(url):  # the SDK would tell any address what the environment says of an account there
            self._client.organization = self._client.project = None
        self._crowd: Crowd[tuple[Job, Keep], Answer | Failure] = Crowd(self._work, limits.concurrency)

    def answers(self, jobs: Sequence[Job], keep: Keep) -> Iterator[tuple[Job, Answer | Failure]]:
        """See `Teacher`. One request at a time until the first answer, so that a wrong key or URL costs one request."""
        waiting, proven, bad = deque(jobs), False, 0
        while True:
            width = self._limits.concurrency if proven else 1
            while waiting and not self.stopped and self._crowd.flying < width and self.budget.admits(waiting[0]):
                self.budget.begin(waiting[0])
                self._crowd.start((waiting.popleft(), keep))
            if not self._crowd.flying:
                break
            (job, _), said = self._crowd.next()
            self.budget.end(job, said)
            if isinstance(said, OutOfBudget):
                self.stopped = str(said)
                continue
            if isinstance(said, BaseException):
                raise said
            answered = isinstance(said, Answer)
            proven = proven or answered
            bad = 0 if answered or (isinstance(said, Failure) and said.kind == "context") else bad + 1
            yield job, said
            if isinstance(said, Failure):
                self._despair(said, proven, bad)
        if waiting and not self.stopped:
            self.stopped = f"--max-cost {self._limits.max_cost:g}"
        self._crowd.close()

    def finish(self) -> None:
        """See `Teacher`."""
        while self._crowd.flying:
            (job, _), said = self._crowd.next()
            self.budget.end(job, said)
        self._crowd.close()

    def _despair(self, said: Failure, proven: bool, bad: int) -> None:
        """Raises a TeacherError where it is no use to go on."""
        if not proven and (said.kind == "transient" or bad >= _REFUSED_AT_FIRST):
            kind = RequestsRefused if said.kind == "refused" else TeacherError
            raise kind(f"{self.where} gives no answer: {said.why}")
        if bad >= max(_LEAST_IN_A_ROW, 2 * self._limits.concurrency):
            raise TeacherError(f"{self.where} stopped answering, {bad} requests in a row: {said.why}")

    def _count(self, request: Any) -> None:
        """Called by the SDK's HTTP client before each try, retries included."""
        with self._lock:
            # a try that nobody answered may be billed, so this one needs room beside it
            fits = not getattr(self._now, "waiting", False) or self.budget.lose(self._now.job)
            if self._limits.max_requests is not None and self.requests >= self._limits.max_requests:
                raise OutOfBudget(f"--max-requests {self._limits.max_requests}")
            if not fits:
                raise OutOfBudget(f"--max-cost {self._limits.max_cost:g}")
            self.requests += 1
        self._now.waiting = True

    def _came(self, response: Any) -> None:
        """Called before the body is read: of an answer it may yet break off, and have been billed."""
        self._now.waiting = response.status_code < 400

    def _work(self, asked: tuple[Job, Keep]) -> Answer | Failure:
        job, keep = asked
        said = self._ask(job)
        if isinstance(said, Answer):
            keep(job, said)
        return said

    def _ask(self, job: Job) -> Answer | Failure:
        sdk, name = self._sdk, self._limit_name
        try:
            began = time.perf_counter()
            answer = read_reply(self._post(job, name), self.model)
            return replace(answer, seconds=time.perf_counter() - began)
        except NotAsked as error:
            return Failure("transient", f"it answered 200 without what was asked: {self._clean(error)}", True)
        except sdk.APITimeoutError:
            return Failure("transient", f"no reply within {self._limits.timeout:g} s", True)
        except sdk.APIConnectionError as error:
            cause = error.__cause__
            sent = self._now.waiting and type(cause).__name__ != "ConnectError"  # httpx's: nobody was there
            what = "the connection broke" if sent else "cannot connect"
            return Failure("transient", f"{what}: {self._clean(cause or error)}", sent)
        except (sdk.AuthenticationError, sdk.PermissionDeniedError) as error:
            said = "no key was given" if self._key == NO_KEY else f"the key in {self._key_env} is not accepted"
            raise TeacherError(f"{self.where} refuses ({error.status_code}): {said}") from None
        except sdk.NotFoundError as error:
            raise TeacherError(self._not_found(error)) from None
        except sdk.RateLimitError as error:
            if error.code == "insufficient_quota":
                raise TeacherError(f"{self.where}: {self._clean(error)}; the account has no money left") from None
            return Failure("transient", f"rate limit after {self._limits.retries} retries: {self._clean(error)}")
        except sdk.APIStatusError as error:
            if error.status_code >= 500 or error.status_code in (408, 409):
                return Failure("transient", f"error {error.status_code} of the server: {self._clean(error)}")
            return self._refused(job, error, name)

    def _post(self, job: Job, limit_name: str) -> str:
        sent = self._sampling.parameters(job.sample)
        sent[limit_name] = sent.pop("max_tokens")
        self._now.job, self._now.waiting = job, False
        reply = self._client.chat.completions.with_raw_response.create(
            model=self.model, messages=[dict(message) for message in job.messages], **sent
        )
        self._now.waiting = False
        return reply.http_response.text

    def _refused(self, job: Job, error: Any, name: str) -> Answer | Failure:
        """A request that the server will not take: too long, or a parameter that it does not know."""
        why = self._clean(error)
        if is_about_context(error.code, why):
            return Failure("context", why)
        if name == "max_tokens" and "max_completion_tokens" in why:
            with self._lock:
                if self._limit_name == "max_tokens":
                    self._limit_name = "max_completion_tokens"
                    self.notes.append("the server wants --max-tokens as max_completion_tokens")
            return self._ask(job)
        return Failure("refused", f"it refuses the request ({error.status_code}): {why}")

    def _not_found(self, error: Any) -> str:
        """A wrong model and a wrong path are both 404; the list of models tells them apart."""
        try:
            names = [str(model.id) for model in self._client.models.list()]
        except Exception:  # any reply at all may come from a wrong path
            names = []
        except OutOfBudget:
            names = []
        if not names:
            return (
                f"{self.where} knows no such address or model (404): wanted a base URL such as https://HOST/v1, and a "
                f'model that it serves, got "{self.model}"'
            )
        near = difflib.get_close_matches(self.model, names, n=1)
        hint = f'did you mean "{near[0]}"? ' if near else ""
        return f'{self.where} has no model "{self.model}": {hint}it serves {", ".join(sorted(names)[:8])}'

    def _clean(self, error: BaseException) -> str:
        """The first line of what a server or the SDK said, shortened, without the key."""
        body = getattr(error, "body", None)
        text = body.get("message") if isinstance(body, dict) else None
        text = text if isinstance(text, str) and text.strip() else str(error)
        if self._key != NO_KEY:
            text = text.replace(self._key, "[key]")
        first = next(iter(text.strip().splitlines()), "") or type(error).__name__
        return first if len(first) <= 200 else first[:197] + "..."
