"""One tree of errors: what happened, where, what to do. Every class has a stable `code`."""

from __future__ import annotations


class RegraftError(Exception):
    """An expected failure, told to the user in one message.

    Args:
        what: what happened, in one sentence without a full stop.
        where: the reference, file, member or option that it happened at.
        hint: what to do about it, ending in the command to run where there is one.
    """

    code = "error"

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class UsageError(RegraftError):
    """The call itself makes no sense: an unknown verb, option or value."""

    code = "usage"


class InternalError(RegraftError):
    """A fault in Regraft, not in its input."""

    code = "internal"


class ReferenceSyntaxError(RegraftError):
    """A reference that cannot be parsed, or a scheme that does not exist."""

    code = "reference-syntax"


class AmbiguousReference(RegraftError):
    """A reference that fits several files; the message lists them."""

    code = "reference-ambiguous"


class UntrustedReference(RegraftError):
    """A reference that may come from the user only (`py:`), met in a card, claim, package or form."""

    code = "reference-untrusted"


class NotFound(RegraftError):
    """There is nothing at that path, package, version or revision."""

    code = "not-found"


class AccessDenied(RegraftError):
    """Something is there, and we may not read it."""

    code = "access-denied"


class NetworkFailure(RegraftError):
    """A server refused, broke off or answered nonsense."""

    code = "network"


class Offline(RegraftError):
    """`--offline` forbids the network and the cache does not hold what is needed."""

    code = "offline"


class DigestMismatch(RegraftError):
    """Bytes are not the bytes that were declared or scanned."""

    code = "digest-mismatch"


class Damaged(RegraftError):
    """Content that its own format forbids: truncated, inconsistent, out of bounds.

    Judging verbs record it as an inconclusive finding; it never aborts a package.
    """

    code = "damaged"


class Implausible(Damaged):
    """Counts or sizes that no writer writes and no cut leaves: they are there to overflow a parser."""

    code = "implausible"


class LimitExceeded(Damaged):
    """Content beyond a bound on bytes, depth, counts or time (see `package.limits`)."""

    code = "limit"


class Bomb(LimitExceeded):
    """Content that expands a thousandfold and more: it is there to fill memory or disk."""

    code = "bomb"


class Unsupported(RegraftError):
    """A capability that this member (format, runtime, converter) does not have."""

    code = "unsupported"


class Crashed(Unsupported):
    """The process in which something ran died, hung or ran out of memory; `what` names the signal."""

    code = "crashed"


class BadFeeds(RegraftError):
    """Arrays that do not fit the inputs of a model: missing, unknown, wrong dtype, rank or size, or NaN."""

    code = "feeds"


class MissingExtra(RegraftError):
    """An optional dependency is not installed; the hint is the command that installs it."""

    code = "missing-extra"

    def __init__(self, package: str, *, extra: str, where: str = "") -> None:
        super().__init__(
            f"this needs the package {package}, which is not installed",
            where=where,
            hint=f"pip install 'regraft[{extra}]'",
        )
        self.extra = extra


class MissingEnvironment(RegraftError):
    """A Python environment of its own, in which a runtime or converter lives, was not made yet."""

    code = "missing-environment"

    def __init__(self, name: str, *, where: str = "") -> None:
        super().__init__(
            f"this needs the environment {name}, which was not made yet",
            where=where,
            hint=f"regraft doctor --environment {name}",
        )


class StoreError(RegraftError):
    """The store cannot be read or written: read-only, full, or not a store."""

    code = "store"


class StoreVersionError(StoreError):
    """The store was written by a newer Regraft."""

    code = "store-version"


class PolicyError(RegraftError):
    """A policy file that cannot be understood."""

    code = "policy"


class PermitRefused(RegraftError):
    """The scan evidence does not permit what was asked for: loading, or running the package's code."""

    code = "permit-refused"


class PlanError(RegraftError):
    """A plan (`reuse.yaml`) that cannot be understood, or whose parts do not fit together."""

    code = "plan"


def error_of(code: str, what: str, *, where: str = "", hint: str = "") -> RegraftError:
    """The error that another process has told of by its code; an `Unsupported` for a code that nobody knows."""
    waiting: list[type[RegraftError]] = [RegraftError]
    while waiting:
        kind = waiting.pop()
        if kind.code == code:
            break
        waiting += kind.__subclasses__()
    else:
        kind = Unsupported
    error = kind.__new__(kind, what)
    RegraftError.__init__(error, what, where=where, hint=hint)
    return error


def harmless(text: str) -> str:
    """What another process said, as it may stand in a message: what steers a terminal or the direction of text, and
    line breaks, become spaces."""
    import unicodedata

    return "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)
