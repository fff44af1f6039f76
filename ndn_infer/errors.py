"""The one error tree: what can go wrong, whose fault it is, and what the user should do next.

Owns: the exceptions that users see; a unit may derive a narrower one. Must not know: anything else of this package.

    NdnInferError
    |- UsageError            exit 2   the user's input cannot be served as it stands
    |  |- ConfigError                 a configuration file, key, flag or variable is wrong
    |  |- PromptError                 empty prompt
    |  |  `- PromptTooLong            prompt beyond the context length
    |  `- BadName                     a text or byte string is not a name of this namespace
    |- NetworkError          exit 3   the network did not answer
    |  |- NoForwarder                 nothing listens where the client configuration points
    |  |- AddressTaken                a socket path or port belongs to somebody else
    |  |- Timeout                     no Data within the deadline
    |  |- Nacked                      the network refused; carries the Nack reason
    |  |- RegistrationRefused         the forwarder refused a prefix
    |  `- FetchIncomplete             an object could not be completed; says which segments are missing
    |- TrustError            exit 4   bytes arrived, and must not be believed
    |  |- BadSignature                the signature does not verify
    |  |- DigestMismatch              the bytes are not those of the signed manifest
    |  |- KeyRevoked                  the operator's deny list names this key
    |  |- RevocationsUnknown          no valid deny list can be had, and the configuration wants one
    |  |- KeyNotAllowed               no rule of the trust schema lets this key sign this name
    |  |- StaleDenial                 a signed "there is none" from another time
    |  |- StaleVersion                a version older than one that was seen before
    |  |- CertificateExpired          outside the validity period
    |  |- CertificateUnavailable      a certificate of the chain is not available
    |  `- MissingKey                  we have no key that may sign this name
    |- ModelError            exit 5   models and their cache
    |  |- UnknownModel
    |  |- DamagedCache
    |  `- EngineUnavailable           torch or another optional package is not installed
    |- CallError             exit 6   a producer understood the call and answered with an error
    |  `- Busy                        it has as much to do as it takes on; another may be free
    |- StorageError          exit 7   disk full, read-only, or not permitted
    |  `- StoreFull                   an object cannot be kept: the store or its disk has no room
    |- PolicyError           exit 8   a policy is demanded, and under it nothing (more) may be shown
    |  |- Blocked                     a rule of the policy is hit
    |  `- Unjudged                    there is no valid verdict: no guard, or none that must be believed
    |- BadPacket                      bytes from the network are not what the specification allows
    `- BadRecord                      verified bytes do not decode as the record their name promises
"""

from __future__ import annotations

from collections.abc import Mapping


class NdnInferError(Exception):
    """Base of everything this package raises on purpose.

    `str(error)` is one line for a person. `hint` is one line that says what to do next ("" when there is nothing to
    add). `exit_code` is the status with which a command ends. `kind` names the error for `--json` and for the wire.
    """

    exit_code = 1
    default_hint = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint or self.default_hint

    @property
    def kind(self) -> str:
        return type(self).__name__


class UsageError(NdnInferError):
    exit_code = 2


class ConfigError(UsageError):
    default_hint = "run 'ndn-infer config' to see every key, its value and where the value came from"


class PromptError(UsageError):
    pass


class PromptTooLong(PromptError):
    default_hint = "shorten the prompt, or choose a model with a longer context"


class BadName(UsageError):
    default_hint = "run 'ndn-infer names' for the kinds of names with examples"


class NetworkError(NdnInferError):
    exit_code = 3


class NoForwarder(NetworkError):
    default_hint = "start one with 'ndn-infer up', or point NDN_CLIENT_TRANSPORT or client.conf at NFD or NDNd"


class AddressTaken(NetworkError):
    default_hint = "stop the process that holds it, or choose another socket or port"


class Timeout(NetworkError):
    default_hint = "is a producer of this name running? 'ndn-infer status' lists producers and routes"


class Nacked(NetworkError):
    """The network answered with a Nack. `reason` is the NDNLPv2 NackReason number (50, 100, 150) or 0."""

    default_hint = "no route: start a producer for this name; 'ndn-infer status' lists producers and routes"

    def __init__(self, message: str, *, reason: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class RegistrationRefused(NetworkError):
    """The forwarder answered a rib/register command with an error. `code` is its NFD status code."""

    def __init__(self, message: str, *, code: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class FetchIncomplete(NetworkError):
    """`missing` holds the segment numbers that did not arrive, `contents` the verified contents of those that could:
    another try need not fetch them again."""

    def __init__(
        self, message: str, *, missing: tuple[int, ...] = (), contents: Mapping[int, bytes | memoryview] | None = None,
        hint: str = "",
    ) -> None:  # fmt: skip
        super().__init__(message, hint=hint)
        self.missing = missing
        self.contents = contents or {}


class TrustError(NdnInferError):
    exit_code = 4


class BadSignature(TrustError):
    default_hint = "this Data was altered on its way, or signed with another key than the one it names"


class DigestMismatch(TrustError):
    default_hint = "this segment was altered on its way; it was not used"


class KeyNotAllowed(TrustError):
    default_hint = "the trust schema (schemas/ndn-infer.lvs) says which key may sign which name"


class LeftOut(TrustError):
    """Whoever answered has a proven fault (docs/audit.md), and is not asked until that is over."""


class KeyRevoked(TrustError):
    default_hint = "the operator revoked this key; its owner needs a new one: 'ndn-infer keys issue'"


class RevocationsUnknown(TrustError):
    default_hint = "trust.revocations is 'required': the operator signs a list with 'ndn-infer keys revoke'"


class StaleDenial(TrustError):
    default_hint = "possible replay of an old answer; retried past caches"


class StaleVersion(TrustError):
    default_hint = "possible replay of a record that its signer has replaced since; it was not used"


class CertificateExpired(TrustError):
    default_hint = "ask the operator of that node for a new certificate: 'ndn-infer keys issue'"


class CertificateUnavailable(TrustError):
    default_hint = "the producer must serve its certificates; is it running?"


class MissingKey(TrustError):
    default_hint = "make keys with 'ndn-infer keys init', or import those that your operator issued"


class ModelError(NdnInferError):
    exit_code = 5


class UnknownModel(ModelError):
    default_hint = "run 'ndn-infer models list' for the models that can be used here"


class DamagedCache(ModelError):
    default_hint = "run 'ndn-infer models prepare MODEL --force' to make it again"


class EngineUnavailable(ModelError):
    default_hint = "install the engine: pip install 'ndn-infer[engine,rag]'"


class CallError(NdnInferError):
    """A producer's signed error answer. `code` is stable and machine readable ("unknown-function", ...);
    `retry_after_s` is when asking again makes sense, by a producer that is busy (0: it does not say); `offered` what
    the producer offers instead, where a request asks for something else ("wrong-engine")."""

    exit_code = 6

    def __init__(
        self, message: str, *, code: str = "failed", hint: str = "", retry_after_s: float = 0.0, offered: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.retry_after_s = retry_after_s
        self.offered = offered


class Busy(CallError):
    default_hint = "try again later, or start another producer of this function"

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message, code="busy", hint=hint, retry_after_s=retry_after_s)


class StorageError(NdnInferError):
    exit_code = 7
    default_hint = "check the path, its permissions and the free space there (paths.cache_dir, paths.data_dir)"


class StoreFull(StorageError):
    default_hint = "give the store more room (producer.store_disk_mib), or remove pinned objects"


class PolicyError(NdnInferError):
    exit_code = 8


class Blocked(PolicyError):
    """`rules`: ids of those that are hit."""

    def __init__(self, message: str, *, rules: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.rules = rules


class Unjudged(PolicyError):
    default_hint = "'ndn-infer status' shows whether a guard runs; start one with 'ndn-infer produce --functions guard'"


class ChildFailed(NdnInferError):
    """A process of the network ended before it was ready; carries its own last words and exit status."""

    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = status if 0 < status < 126 else 1


class BadPacket(NdnInferError):
    pass


class BadRecord(NdnInferError):
    pass
