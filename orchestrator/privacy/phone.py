"""
Telephone numbers in E.164, as the provider's texts need them.

`phonenumbers` (Google's metadata) has its home here. Next: `sealed`.
"""

import phonenumbers

from orchestrator.domain.errors import InvalidInput

_FIX = "write it in E.164, like +447700900123"


def checked_phone_number(field: str, value: str) -> str:
    """
    Give the number in E.164 (ITU-T: `+`, country code, at most 15 digits).

    Args:
        field: The field's name, for the error.
        value: The number, with its country code; spaces and dashes are removed.

    Raises:
        InvalidInput: No country code, or a number that can't exist.
    """
    try:
        number = phonenumbers.parse(value, None)
    except phonenumbers.NumberParseException:
        raise InvalidInput(field, "is not a telephone number with its country code", _FIX) from None
    if not phonenumbers.is_possible_number(number):
        raise InvalidInput(field, "can't exist with this country code and length", _FIX)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
