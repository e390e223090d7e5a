"""
What keeps card data out and payer data sealed.

`guard` refuses and redacts card data, `text` checks every text that comes in,
`secret` holds credentials that no log or traceback can show, `sealed` encrypts
payer data. Nothing here knows payments, the database or the provider.
Next: `guard`.
"""

from orchestrator.privacy.guard import REMOVED, redact_card_data, refuse_card_data, refuse_card_field
from orchestrator.privacy.sealed import LoadedKey, Sealer, load_or_create_key_file
from orchestrator.privacy.secret import Secret, is_reference, resolve_secret
from orchestrator.privacy.text import checked_text
from orchestrator.privacy.vault import FieldVault

__all__ = [
    "REMOVED",
    "FieldVault",
    "LoadedKey",
    "Sealer",
    "Secret",
    "checked_text",
    "is_reference",
    "load_or_create_key_file",
    "redact_card_data",
    "refuse_card_data",
    "refuse_card_field",
    "resolve_secret",
]
