"""Whether a certificate is one that SNS signs with. Fetching it is sns_fetch.py's work.

AWS serves the certificate alone, without those between it and a root, so its chain cannot be followed from the file.
What vouches for it is then the TLS connection it came over: to SNS's own host, checked against this machine's roots.
"""

import functools
import ssl
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import (
    Certificate,
    DNSName,
    NameOID,
    load_der_x509_certificate,
    load_pem_x509_certificates,
)
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from app.domain.errors import Forged, SourceError
from app.sources.sns_place import Place

ISSUER: Final = "Amazon"
SMALLEST_KEY: Final = 2048
LARGEST_KEY: Final = 8192  # a larger one costs more to check than any signature is worth

Roots = Callable[[], Sequence[Certificate]]
"""Give the certificates that a chain may end in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """A key that may sign, and until when."""

    key: RSAPublicKey
    until: datetime


def certify(pem: bytes, place: Place, *, now: datetime, roots: Roots) -> Certified:
    """Give the key of a certificate that came from a place. Raises Forged, and SourceError without any root."""
    try:
        leaf, *between = load_pem_x509_certificates(pem)
        key = leaf.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise Forged("What SigningCertURL leads to is not a certificate.") from None
    if not isinstance(key, RSAPublicKey) or not SMALLEST_KEY <= key.key_size <= LARGEST_KEY:
        raise Forged(f"The certificate's key is not one of RSA with at least {SMALLEST_KEY} bits.")
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise Forged("The certificate is not valid at this time.")
    if not place.is_chosen:
        subject = _check_subject(leaf, place)
        _check_issuer(leaf, key)
        if between:
            _check_chain(leaf, between, subject=subject, now=now, roots=roots())
    return Certified(key=key, until=leaf.not_valid_after_utc)


@functools.cache
def system_roots() -> Sequence[Certificate]:
    """Give this machine's own roots; one that cannot be read is left out."""
    found: list[Certificate] = []
    with warnings.catch_warnings():
        # Old roots have serial numbers that would be refused in new ones.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        for each in ssl.create_default_context().get_ca_certs(binary_form=True):
            try:
                found.append(load_der_x509_certificate(each))
            except ValueError:
                continue
    return tuple(found)


def _check_subject(leaf: Certificate, place: Place) -> str:
    names = [str(each.value) for each in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(names) != 1 or names[0] not in place.subjects:
        raise Forged(f"The certificate is not one of {' or '.join(sorted(place.subjects))}.")
    return names[0]


def _check_issuer(leaf: Certificate, key: RSAPublicKey) -> None:
    if leaf.issuer == leaf.subject or _is_signed_by(leaf, key):
        raise Forged("The certificate is signed by itself.")
    organisations = [each.value for each in leaf.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if organisations != [ISSUER]:
        raise Forged("The certificate was not issued by Amazon.")


def _is_signed_by(leaf: Certificate, key: RSAPublicKey) -> bool:
    """Tell whether a certificate was made with its own key, whatever issuer it names."""
    padding, algorithm = leaf.signature_algorithm_parameters, leaf.signature_hash_algorithm
    if not isinstance(padding, PKCS1v15 | PSS) or algorithm is None:
        return False
    try:
        key.verify(leaf.signature, leaf.tbs_certificate_bytes, padding, algorithm)
    except InvalidSignature:
        return False
    return True


def _check_chain(
    leaf: Certificate,
    between: Sequence[Certificate],
    *,
    subject: str,
    now: datetime,
    roots: Sequence[Certificate],
) -> None:
    if not roots:
        raise SourceError("This machine has no root certificates, so no chain can be checked.")
    verifier = PolicyBuilder().store(Store(list(roots))).time(now).build_server_verifier(DNSName(subject))
    try:
        verifier.verify(leaf, list(between))
    except VerificationError as error:
        raise Forged("The certificate's chain does not lead to a root that this machine trusts.") from error
