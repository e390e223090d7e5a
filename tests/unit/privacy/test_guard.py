"""What the guard finds, what it lets through, and what it says."""

import random
import uuid

import pytest

from orchestrator.domain.errors import InvalidInput
from orchestrator.privacy import guard
from orchestrator.privacy.cards import card_like_groups, is_card_number
from orchestrator.privacy.guard import REMOVED, redact_card_data, refuse_card_data, refuse_card_field

VISA, MASTERCARD, AMEX, DINERS = "4111111111111111", "5555555555554444", "378282246310005", "30569309025904"
MASTERCARD_2, DISCOVER, JCB = "2223003122003222", "6011111111111117", "3530111333300000"
MAESTRO_19, VISA_13, UNIONPAY = "6759649826438453003", "4222222222222", "6212345678901232"

CARDS = [
    *(VISA, MASTERCARD, AMEX, DINERS, MASTERCARD_2, DISCOVER, JCB, VISA_13, UNIONPAY, MAESTRO_19),
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "4111.1111.1111.1111",
    "4111\u00a01111\u20111111\u22121111",
    "4111 - 1111 - 1111 - 1111",
    "4111\u200b1111\u200b1111\u200b1111",
    "4111+1111+1111+1111",
    "4111%201111%201111%201111",
    "3782 822463 10005",
    "3056 930902 5904",
    "41111111 11111111",
    "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
    "41 11 11 11 11 11 11 11",
    "\u0664\u0661\u0661\u0661 \u0661\u0661\u0661\u0661 \u0661\u0661\u0661\u0661 \u0661\u0661\u0661\u0661",
    "\uff14\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11",
    f"card{VISA}please",
    f"ref 12 {VISA[:4]} 1111 1111 1111",
    f"https://host/path?x=1&y={VISA}",
    f"1+{VISA}",
    f"+{VISA}",
    f"ValueError('{VISA}')",
    f"0000{VISA} {VISA}",
]
CODES = [
    *("cvv: 123", "CVV 1234", "cvc=123", "cvc2: 999", "CVV2=0123", "cvn 123", "csc: 1234", "cv2 123"),
    *("the cvv is 123", "security code: 123", "card security code number 1234", "Security_Code=123"),
    *("verification value - 123", "card verification number 123", "cvv_123", "<cvv>123</cvv>", "cvv: 1 2 3"),
]
KEYED = [
    *('{"cvv": 123}', '{"cvv":"12"}', "{'cvc': 'M'}", r"{\"securityCode\":\"abc\"}", '{"pan" : "41"}'),
    *('{"card_number": "************1111"}', '{"GlobalPCI|CardNumber":"x"}', '{"payer.cardCvv":"1"}', '{"pin": 1}'),
    *("a=1&pan=41", "cardNumber=x", "https://h/?cvv=1", '{"cardExpiry":"12/30"}', '{"track2Data": "x"}'),
]
TRACKS = [
    "%B4111111111111111^PAYER/A^3012101000000000?",
    "B4111111111111111^PAYER/A ^3012101?",
    ";4111111111111111=30121010000000000000?",
    ";1234567890123456=30121010000000000000?",
    "4111111111111111=3012101",
    "4111111111111111D3012101",
]
HARMLESS = [
    *("", "A. Payer", "12.40", "INV-1001", "2026-11-24T16:00:00.123456Z", "2026-11-24 16:00:00", "192.168.100.200"),
    "4111111111111112",  # wrong check digit
    "1111111111111117",  # right check digit, nobody's prefix
    "9184120223296183904003",  # 22 digits, as request ids of gateways have: whole runs, no windows
    f"00{VISA}0000",
    "+4915112345678",  # a phone number
    "+49 1511 2345 678",
    "00491511234567",
    "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    "aaaaaaaa-4111-1111-1111-1111aaaaaaaa",
    "0.4111111111111111",
    "4111 1111 1111",
    "41111 1111 11111 11",
    "cvv",
    "cvv: yes",
    "our cvv policy of 20261124",
    "security code 12345",
    "the frying pan: 300 degrees",
    '{"pan": null, "cvv": "", "cardLast4": "1111", "cvvResult": "M", "company": "x"}',
    "span=300&company=x",
    "GB29 NWBK 6016 1331 9268 19",
    "DE89 3704 0044 0532 0130 00",
    f"cvv: {REMOVED}",
]


@pytest.mark.parametrize("text", [*CARDS, *CODES, *KEYED, *TRACKS])
def test_card_data_is_refused_without_being_repeated(text):
    with pytest.raises(InvalidInput) as caught:
        refuse_card_data("note", f"before {text}")
    assert caught.value.field == "note"
    assert text not in str(caught.value)
    assert not any(character.isdigit() for character in str(caught.value))


@pytest.mark.parametrize("text", [*CARDS, *CODES, *KEYED, *TRACKS])
def test_card_data_is_redacted_for_good(text):
    redacted = redact_card_data(f"before {text} after")
    assert REMOVED in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")
    assert redact_card_data(redacted) == redacted
    refuse_card_data("note", redacted)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_card_data_passes_unchanged(text):
    refuse_card_data("note", text)
    assert redact_card_data(text) == text


@pytest.mark.parametrize(
    ("text", "kind"),
    [(VISA, "card number"), ("cvv: 123", "security code"), (";1234567890123456=3012?", "track"), ("pan=1", "a name")],
)
def test_a_refusal_names_the_kind(text, kind):
    with pytest.raises(InvalidInput, match=kind):
        refuse_card_data("note", text)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"{VISA}|12|2030|123", REMOVED),
        (f"paid with {VISA} 12/30 123, thanks", f"paid with {REMOVED}, thanks"),
        (f"{VISA} {AMEX}", f"{REMOVED} {REMOVED}"),
        ('{"cvv": "123", "amount": "12.40"}', f'{{"cvv": "{REMOVED}", "amount": "12.40"}}'),
        ("cvv=12&amount=1240", f"cvv={REMOVED}&amount=1240"),
        (";4111111111111111=30121010000000000000?x", f"{REMOVED}x"),
        ("cvv 123 456", f"cvv {REMOVED} 456"),
    ],
)
def test_redaction_takes_what_belongs_to_the_card_and_leaves_the_rest(text, left):
    assert redact_card_data(text) == left


@pytest.mark.parametrize(
    "name",
    [
        *(
            "cardNumber",
            "card_number",
            "Card Number",
            "CARDNO",
            "pan",
            "PAN",
            "primaryAccountNumber",
            "creditCardNumber",
        ),
        *("cvv", "CVV2", "cvc", "card.cvc2", "GlobalPCI|SecurityCode", "cardVerificationValue", "csc", "cvNumber"),
        *(
            "track1",
            "track2Data",
            "pin",
            "pinBlock",
            "expiryDate",
            "cardExpiry",
            "expirationMonth",
            "payer_card_number",
        ),
    ],
)
def test_fields_named_for_card_data_are_refused(name):
    with pytest.raises(InvalidInput) as caught:
        refuse_card_field(name)
    assert caught.value.field == name


@pytest.mark.parametrize(
    "name",
    [
        *("cardholderName", "cardholderPostCode", "cardholder Address", "merchantTxnRef", "amount", "CallGuid"),
        *(
            "CustomerPhoneNumber",
            "PCIPal|DtmfFallbackNumber",
            "cardLast4",
            "cardType",
            "company",
            "Postcode",
            "pinCode",
        ),
    ],
)
def test_fields_of_the_call_plan_are_accepted(name):
    refuse_card_field(name)


def test_random_ids_are_hardly_ever_taken_for_cards():
    source = random.Random(2026)
    ids = [str(uuid.UUID(int=source.getrandbits(128), version=4)) for _ in range(20_000)]
    ids += [source.randbytes(32).hex() for _ in range(5_000)]
    ids += [str(source.randrange(10**21, 10**22)) for _ in range(5_000)]
    wrongly = [text for text in ids if redact_card_data(text) != text]
    assert len(wrongly) <= len(ids) // 1000


def test_the_letter_that_parts_a_track_is_also_a_digit_of_digests():
    digest = "51bd73211fa8494b3bebbc4111111111111111d1234ca05ed76fd6371dfc9d41"
    assert redact_card_data(f"hash {digest}") == f"hash {digest}"
    assert redact_card_data("track 4111111111111111D25121011234567890") == f"track {REMOVED}"


@pytest.mark.parametrize(
    "text", ["4 " * 20_000, "4111 " * 5_000, '"' * 20_000, "cvv " * 5_000, "1" * 50_000, "=" * 9_000]
)
def test_redaction_of_hostile_texts_ends(text):
    assert redact_card_data(redact_card_data(text)) == redact_card_data(text)


@pytest.mark.parametrize(
    ("digits", "verdict"),
    [(VISA, True), (MAESTRO_19, True), (VISA_13, True), (AMEX, True), (AMEX + "0", False), ("0" * 16, False)],
)
def test_a_card_number_needs_issuer_length_and_check_digit(digits, verdict):
    assert is_card_number(digits) is verdict


@pytest.mark.parametrize(
    ("lengths", "stretches"),
    [
        ([16], {(0, 1)}),
        ([4, 4, 4, 4], {(0, 4)}),
        ([2, 4, 6, 5], {(1, 4)}),
        ([22], set()),
        ([4, 4, 4], set()),
        ([1] * 15, {(0, 15)}),
        ([1] * 20, set()),
        ([2] * 7, {(0, 7)}),
        ([5, 5, 5], set()),
    ],
)
def test_only_whole_groups_in_the_shape_of_a_card_are_looked_at(lengths, stretches):
    assert set(card_like_groups(lengths)) == stretches


def test_a_text_that_goes_on_making_finds_is_dropped_whole(monkeypatch):
    monkeypatch.setattr(guard, "_ROUNDS", 1)
    assert redact_card_data(f"before {VISA} after") == REMOVED
