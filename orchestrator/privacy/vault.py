"""
The collected fields of a payment as one sealed value.

The adapter between `ports.Vault` and `sealed`: owns how fields become bytes and
what they are bound to. Next: `store`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn

from orchestrator.domain.errors import IntegrityViolated
from orchestrator.privacy.sealed import VERSION_BYTE, Sealer


class FieldVault:
    """
    Seals a payment's fields together and compares contents by keyed digest.

    Args:
        sealer: The keys.
    """

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def seal(self, fields: Mapping[str, str], *, payment_id: str) -> bytes:
        """Encrypt the fields, bound to their payment; nothing of them can be read without the key."""
        plaintext = json.dumps(dict(fields), ensure_ascii=False, separators=(",", ":")).encode()
        return self._sealer.seal(plaintext, bound_to=_place(payment_id))

    def unseal(self, sealed: bytes, *, payment_id: str) -> dict[str, str]:
        """
        Decrypt what `seal` gave, in the same order.

        Raises:
            ConfigurationError: The key it was sealed with is not given.
            IntegrityViolated: It was altered, or is another payment's.
        """
        fields = json.loads(self._sealer.unseal(sealed, bound_to=_place(payment_id)))
        if not isinstance(fields, dict):
            raise IntegrityViolated(f"{payment_id}: the sealed value holds no fields")
        return fields

    def reseal(self, sealed: bytes, *, payment_id: str) -> bytes:
        """
        Give the same fields sealed with the current key; raises as `unseal`.

        The bytes inside stay as they are: nothing is parsed.
        """
        place = _place(payment_id)
        return self._sealer.seal(self._sealer.unseal(sealed, bound_to=place), bound_to=place)

    @property
    def key_ids(self) -> Sequence[str]:
        """The ids of all keys, the current one last."""
        return self._sealer.key_ids

    def header(self, key_id: str = "") -> bytes:
        """Give how values sealed with this key begin; without one, how all of them do."""
        return self._sealer.header(key_id) if key_id else VERSION_BYTE

    def __reduce__(self) -> NoReturn:
        raise TypeError("a FieldVault is not pickled: the bytes would hold its keys")

    def digest(self, content: bytes) -> str:
        """Give the keyed digest of a submit's content."""
        return self._sealer.digest(content)

    def same_content(self, content: bytes, digest: str) -> bool:
        """
        Tell whether the digest was made of this content, under the current or a retired key.

        Raises:
            ConfigurationError: The digest's key is not given.
        """
        return self._sealer.same_content(content, digest)


def _place(payment_id: str) -> str:
    """Name table and row, and so the one column that is sealed; see docs/decisions/0021-payer-data.md."""
    return f"payer_data/{payment_id}"
