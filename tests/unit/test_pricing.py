from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from textwrap import dedent

import pytest

from domain.catalogue.file import CATALOGUE_FILE, parse_catalogue
from domain.catalogue.pricing import Catalogue, ServiceRole, Usage, rate
from domain.errors import (
    AmountOutOfRange,
    InvalidConfiguration,
    InvalidInput,
    NoPrice,
    UnknownMeter,
    UnknownService,
)
from domain.money import exact_micros

MOMENT = datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """The price list that the product comes with."""
    return parse_catalogue(CATALOGUE_FILE.read_text(encoding="utf-8"))


def usage(service: str, model: str = "", **quantities: str | int) -> Usage:
    measures = {name.replace("_", "-"): Decimal(value) for name, value in quantities.items()}
    return Usage(service, MOMENT, measures, model)


def units(amount: str) -> Decimal:
    return exact_micros(Decimal(amount))


# ── The worked examples of the reference product ──────────────────────────────────────────────


def test_inference_is_exact_by_the_token(catalogue: Catalogue) -> None:
    call = usage("ai-inference", "llama-3.1-8b-instruct", input_tokens=13_394, output_tokens=127)
    rated = rate(catalogue, call, "USD")
    assert rated.exact_micros == units("0.002233759")
    assert [(line.meter, line.billed_quantity, line.exact_micros) for line in rated.lines] == [
        ("input-tokens", Decimal(13_394), units("0.002210010")),
        ("output-tokens", Decimal(127), units("0.000023749")),
    ]
    assert [line.price.price for line in rated.lines] == [Decimal("0.165"), Decimal("0.187")]


def test_fine_tuning_is_rounded_up_to_a_quarter_of_an_hour(catalogue: Catalogue) -> None:
    job = usage("model-fine-tuning", "h100", gpu_time=8 * 60, gpus=1)
    rated = rate(catalogue, job, "USD")
    assert rated.lines[0].billed_quantity == 15 * 60
    assert rated.exact_micros == units("1.375")


def test_model_hub_adds_up_blocks_of_five_minutes(catalogue: Catalogue) -> None:
    blocks = [usage("model-hub", storage_time=5, gigabytes=5)] * 3
    blocks += [usage("model-hub", storage_time=5, gigabytes=7)] * 9
    total = sum(rate(catalogue, block, "USD").exact_micros for block in blocks)
    assert total == units("0.00507")


def test_a_container_pays_for_gpu_and_disk(catalogue: Catalogue) -> None:
    # The vendor's own page prints 1.1615 for this example: it rounds the first term to 1.155
    # and then adds 0.0065 for a disk that costs 0.065.
    half_an_hour = usage(
        "gpu-container", "h100", gpu_time=1800, gpus=1, disk_time=1800, disk_gigabytes=1000
    )
    rated = rate(catalogue, half_an_hour, "USD")
    assert [line.exact_micros for line in rated.lines] == [units("1.155"), units("0.065")]
    assert rated.exact_micros == units("1.22")


# ── Rounding and minimums ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("seconds", "billed"), [("0", 0), ("0.001", 900), ("900", 900), ("900.5", 1800), ("901", 1800)]
)
def test_time_is_rounded_up_before_gpus_multiply_it(
    catalogue: Catalogue, seconds: str, billed: int
) -> None:
    job = usage("model-fine-tuning", "h100", gpu_time=seconds, gpus=8)
    assert rate(catalogue, job, "USD").lines[0].billed_quantity == billed * 8


@pytest.mark.parametrize(("seconds", "billed"), [("0", "0"), ("0.4", "1"), ("1.5", "1.5")])
def test_a_container_runs_a_second_or_not_at_all(
    catalogue: Catalogue, seconds: str, billed: str
) -> None:
    run = usage("gpu-container", "h100", gpu_time=seconds, gpus=2)
    assert rate(catalogue, run, "USD").lines[0].billed_quantity == Decimal(billed) * 2


def test_a_call_without_output_pays_for_its_input_only(catalogue: Catalogue) -> None:
    call = usage("ai-inference", "llama-3.1-8b-instruct", input_tokens=1, output_tokens=0)
    assert rate(catalogue, call, "USD").exact_micros == Decimal("0.165")


def test_an_endless_quotient_is_rounded_half_to_even_at_the_twelfth_decimal() -> None:
    listed = small_catalogue("price = { USD = 1 }", price_per="3_000_000")
    assert rate(listed, usage("s", price=1), "USD").exact_micros == Decimal("0.333333333333")
    assert rate(listed, usage("s", price=2), "USD").exact_micros == Decimal("0.666666666667")
    for price, amount in [("5e-18", "0"), ("15e-18", "2e-12"), ("25e-18", "2e-12")]:
        halves = small_catalogue(f"price = {{ USD = {price} }}", price_per="10")
        assert rate(halves, usage("s", price=1), "USD").exact_micros == Decimal(amount)


# ── Which price holds ─────────────────────────────────────────────────────────────────────────

DATED = """
    [services.s]
    name = "S"
    role = "agent"
    supplier = "Model Maker"
    [services.s.meters.a]
    name = "A"
    unit = "call"
    price_per = 1
    price_unit = "call"
    [services.s.meters.b]
    name = "B"
    unit = "call"
    price_per = 1
    price_unit = "call"
    [services.s.models]
    m = "M"

    [[prices]]
    service = "s"
    valid_from = 2024-01-01T00:00:00Z
    a = { USD = 1, JPY = 100 }
    b = { USD = 2 }
    [[prices]]
    service = "s"
    valid_from = 2025-01-01T09:00:00+09:00
    a = { USD = 3 }
    [[prices]]
    service = "s"
    model = "m"
    valid_from = 2024-06-01T00:00:00Z
    a = { USD = 5 }
"""


@pytest.mark.parametrize(
    ("model", "meter", "instant", "price"),
    [
        ("", "a", "2024-01-01T00:00:00+00:00", 1),
        ("", "a", "2024-12-31T23:59:59.999999+00:00", 1),
        ("", "a", "2025-01-01T00:00:00+00:00", 3),
        ("", "a", "2025-01-01T08:59:59+09:00", 1),
        ("", "b", "2026-01-01T00:00:00+00:00", 2),  # left out of the newer block
        ("m", "a", "2024-05-31T23:59:59+00:00", 1),
        ("m", "a", "2024-06-01T00:00:00+00:00", 5),
        ("m", "a", "2026-01-01T00:00:00+00:00", 5),  # the model's own beats a newer general one
        ("m", "b", "2026-01-01T00:00:00+00:00", 2),
        ("other", "a", "2026-01-01T00:00:00+00:00", 3),
    ],
)
def test_the_latest_price_that_has_begun(model: str, meter: str, instant: str, price: int) -> None:
    listed = parse_catalogue(dedent(DATED))
    occurred_at = datetime.fromisoformat(instant)
    found = listed.price_at("s", model, meter, "USD", instant=occurred_at)
    rated = rate(listed, Usage("s", occurred_at, {meter: Decimal(1)}, model), "USD")
    assert found.price == price
    assert rated.lines[0].price is found
    assert rated.exact_micros == price * 1_000_000


def test_where_there_is_no_price() -> None:
    listed = parse_catalogue(dedent(DATED))
    before = datetime(2023, 12, 31, 23, 59, 59, tzinfo=UTC)
    since = datetime(2024, 1, 1, tzinfo=UTC)
    for meter, currency, instant in [
        ("a", "USD", before),
        ("b", "JPY", since),
        ("a", "EUR", since),
    ]:
        with pytest.raises(NoPrice) as refusal:
            rate(listed, Usage("s", instant, {meter: Decimal(1)}), currency)
        assert (refusal.value.meter, refusal.value.currency) == (meter, currency)
        with pytest.raises(NoPrice):
            listed.price_at("s", "", meter, currency, instant=instant)


def test_unknown_services_and_meters(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownService):
        rate(catalogue, usage("ai-painting", brush_strokes=1), "USD")
    with pytest.raises(UnknownMeter) as refusal:
        rate(catalogue, usage("ai-inference", input_tokens=1, images=1), "USD")
    assert refusal.value.meter == "images"
    with pytest.raises(UnknownMeter):
        catalogue.price_at("model-hub", "", "gigabytes", "USD", instant=MOMENT)


def test_hardware_has_no_general_price(catalogue: Catalogue) -> None:
    with pytest.raises(NoPrice):
        rate(catalogue, usage("gpu-vm", "abacus", gpu_time=1, gpus=1), "USD")


# ── Usage that makes no sense ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("quantity", "reason"),
    [
        ("-1", "negative"),
        ("NaN", "not_a_number"),
        ("sNaN", "not_a_number"),
        ("Infinity", "not_a_number"),
        ("1e19", "out_of_range"),
        ("1e999999", "out_of_range"),
        ("1e-13", "too_many_decimals"),
        ("1e-999999", "too_many_decimals"),
    ],
)
@pytest.mark.parametrize("measure", ["gpu-time", "gpus"])
def test_quantities_that_measure_nothing(
    catalogue: Catalogue, measure: str, quantity: str, reason: str
) -> None:
    quantities = {"gpu-time": Decimal(1), "gpus": Decimal(1)} | {measure: Decimal(quantity)}
    with pytest.raises(InvalidInput) as refusal:
        rate(catalogue, Usage("gpu-vm", MOMENT, quantities, "h100"), "USD")
    assert refusal.value.reason == reason
    assert refusal.value.values["measure"] == measure


@pytest.mark.parametrize("quantity", [1.0, 1, True, "1"], ids=repr)
def test_a_quantity_is_a_decimal(catalogue: Catalogue, quantity: object) -> None:
    quantities = {"input-tokens": quantity}
    with pytest.raises(TypeError):
        rate(catalogue, Usage("ai-inference", MOMENT, quantities), "USD")  # type: ignore[arg-type]


@pytest.mark.parametrize("quantities", [{}, {"gpus": 1}])
def test_usage_measures_something(catalogue: Catalogue, quantities: dict[str, int]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        rate(catalogue, usage("gpu-vm", "h100", **quantities), "USD")
    assert refusal.value.reason == "empty"


def test_a_meter_that_is_multiplied_needs_its_factor(catalogue: Catalogue) -> None:
    with pytest.raises(InvalidInput) as refusal:
        rate(catalogue, usage("model-hub", storage_time=5), "USD")
    assert (refusal.value.reason, refusal.value.values) == ("missing", {"measure": "gigabytes"})


def test_a_moment_has_a_zone(catalogue: Catalogue) -> None:
    naive = Usage("ai-inference", MOMENT.replace(tzinfo=None), {"input-tokens": Decimal(1)})
    with pytest.raises(InvalidInput) as refusal:
        rate(catalogue, naive, "USD")
    assert refusal.value.field == "occurred_at"


def test_more_than_the_ledger_holds(catalogue: Catalogue) -> None:
    with pytest.raises(AmountOutOfRange):
        rate(catalogue, usage("gpu-vm", "h100", gpu_time=10**18, gpus=10**18), "VND")
    listed = small_catalogue("price = { USD = 9_000_000 }", price_per="1")
    assert rate(listed, usage("s", price=10**6), "USD").exact_micros == 9 * 10**18
    with pytest.raises(AmountOutOfRange):
        rate(listed, usage("s", price=2 * 10**6), "USD")


def test_lines_that_are_too_much_together() -> None:
    listed = parse_catalogue(dedent(DATED))
    since = datetime(2024, 1, 1, tzinfo=UTC)
    parts = {"a": Decimal(6 * 10**12), "b": Decimal(3 * 10**12)}
    for meter, quantity in parts.items():
        alone = rate(listed, Usage("s", since, {meter: quantity}), "USD")
        assert alone.exact_micros == 6 * 10**18
    with pytest.raises(AmountOutOfRange):
        rate(listed, Usage("s", since, parts), "USD")


def test_more_digits_than_arithmetic_carries() -> None:
    listed = small_catalogue("price = { USD = 1e18 }", price_per='3e-18\ntimes = "n"')
    with pytest.raises(AmountOutOfRange):
        rate(listed, usage("s", price=10**18, n=10**18), "USD")


def test_made_up_models_take_no_memory(catalogue: Catalogue) -> None:
    general = catalogue.tariff("ai-inference", "", "USD")
    assert catalogue.tariff("ai-inference", "made-up", "USD") is general
    assert catalogue.tariff("ai-inference", "deepseek-v3", "USD") is not general


# ── The catalogue file ────────────────────────────────────────────────────────────────────────


def test_the_services_in_the_order_of_the_file(catalogue: Catalogue) -> None:
    assert [(service.slug, service.name) for service in catalogue.services.values()] == [
        ("ai-inference", "AI Inference"),
        ("model-fine-tuning", "Model Fine-tuning"),
        ("model-hub", "Model Hub"),
        ("gpu-container", "GPU Container"),
        ("gpu-vm", "GPU VM"),
        ("ai-notebook", "AI Notebook"),
    ]


def test_whatever_has_a_price_has_it_in_every_currency_since_2023(catalogue: Catalogue) -> None:
    opening = datetime(2023, 1, 1, tzinfo=UTC)
    priced = {(price.service, price.model, price.meter) for price in catalogue.prices}
    assert {meter for _service, _model, meter in priced} == {
        meter.slug for service in catalogue.services.values() for meter in service.meters
    }
    for service, model, meter in priced:
        for currency in ("VND", "JPY", "USD", "EUR"):
            found = catalogue.price_at(service, model, meter, currency, instant=opening)
            assert found.model == model


def test_every_listed_model_has_a_price(catalogue: Catalogue) -> None:
    priced = {(price.service, price.model) for price in catalogue.prices}
    for service in catalogue.services.values():
        assert {(service.slug, model) for model in service.models} <= priced


def test_a_call_without_a_model_has_a_price(catalogue: Catalogue) -> None:
    for model in ("", "a-model-nobody-lists"):
        call = usage("ai-inference", model, input_tokens=4808, output_tokens=10)
        assert rate(catalogue, call, "USD").exact_micros == 4808 * Decimal("0.5") + 15


def test_instants_of_the_file_are_in_utc() -> None:
    prices = parse_catalogue(dedent(DATED)).prices
    assert {price.valid_from.utcoffset() for price in prices} == {timedelta(0)}


def test_an_agent_names_its_supplier() -> None:
    service = parse_catalogue(dedent(DATED)).service("s")
    assert (service.role, service.supplier) == (ServiceRole.AGENT, "Model Maker")
    assert service.models == {"m": "M"}


@pytest.mark.parametrize(
    ("before", "after", "where"),
    [
        ('role = "agent"', 'role = "broker"', "services.s"),
        ('role = "agent"', 'role = "principal"', "services.s"),
        ('supplier = "Model Maker"', "", "services.s"),
        ('name = "S"', "", "services.s"),
        ('name = "S"', 'name = ""', "services.s"),
        ('name = "S"', 'name = "S"\n    colour = "red"', "services.s"),
        ("[services.s.meters.a]", "[services.s.meters.A]", "services.s.meters.A"),
        ("[services.s.meters.a]", "[services.s.meters.model]", "services.s.meters.model"),
        ('unit = "call"', 'unit = "call"\n    times = "b"', "services.s"),
        ('unit = "call"', 'unit = "call"\n    times = "No Slug"', "services.s.meters.a"),
        ('unit = "call"', 'unit = "call"\n    minimum = 0', "services.s.meters.a"),
        ('unit = "call"', 'unit = "call"\n    round_up_to = -1', "services.s.meters.a"),
        ("price_per = 1", "price_per = 0", "services.s.meters.a"),
        ("price_per = 1", "price_per = true", "services.s.meters.a"),
        ("price_per = 1", 'price_per = "1"', "services.s.meters.a"),
        ("price_per = 1", "", "services.s.meters.a"),
        ("a = { USD = 1, JPY = 100 }", "a = { USD = -1 }", "prices, block 1.a"),
        ("a = { USD = 1, JPY = 100 }", "a = { USD = nan }", "prices, block 1.a"),
        ("a = { USD = 1, JPY = 100 }", "a = { USD = 1e99 }", "prices, block 1.a"),
        ("a = { USD = 1, JPY = 100 }", "a = { BTC = 1 }", "prices, block 1.a"),
        ("a = { USD = 1, JPY = 100 }", "a = {}", "prices, block 1.a"),
        ("a = { USD = 1, JPY = 100 }", "a = 1", "prices, block 1.a"),
        ("a = { USD = 1, JPY = 100 }", "c = { USD = 1 }", "prices, block 1.c"),
        ("a = { USD = 3 }", "", "prices, block 2"),
        ("2025-01-01T09:00:00+09:00", "2025-01-01T09:00:00", "prices, block 2"),
        ("2025-01-01T09:00:00+09:00", "2025-01-01", "prices, block 2"),
        ("2025-01-01T09:00:00+09:00", "0001-01-01T00:00:00+09:00", "prices, block 2"),
        ("2025-01-01T09:00:00+09:00", "2024-01-01T09:00:00+09:00", "prices, block 2"),
        ('model = "m"', 'model = "n"', "prices, block 3"),
        ('service = "s"', 'service = "t"', "prices, block 1"),
        ("[services.s]", "services = 1\n[other.s]", "file"),
        ("[services.s]", "[services.s", "file"),
        ("[services.s]", "[extra]\n    x = 1\n    [services.s]", "file"),
    ],
)
def test_a_doubtful_file_is_refused_at_the_place(before: str, after: str, where: str) -> None:
    assert before in DATED
    text = dedent(DATED.replace(before, after, 1))
    with pytest.raises(InvalidConfiguration) as refusal:
        parse_catalogue(text)
    assert refusal.value.where == where


def small_catalogue(prices: str, *, price_per: str) -> Catalogue:
    return parse_catalogue(
        dedent(f"""
            [services.s]
            name = "S"
            role = "principal"
            [services.s.meters.price]
            name = "Price"
            unit = "piece"
            price_per = {price_per}
            price_unit = "pieces"
            [[prices]]
            service = "s"
            valid_from = 2023-01-01T00:00:00Z
            {prices}
        """)
    )
