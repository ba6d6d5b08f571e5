"""The demo's people, and its accounts with their credit."""

from __future__ import annotations

from dataclasses import dataclass

from domain.actors import MemberRole, StaffRole

PASSWORD = "try-the-demo-portal"  # noqa: S105 - shown to everyone who starts the demo
DAYS = 92


@dataclass(frozen=True, slots=True)
class Person:
    """Someone who signs in: a member of staff, or of wallets (by name, each with a role)."""

    email: str
    display_name: str
    staff_role: StaffRole | None = None
    memberships: tuple[tuple[str, MemberRole], ...] = ()

    @property
    def role(self) -> str:
        """The person's role, in a few words for the list of sign-ins."""
        if self.staff_role is not None:
            return f"staff, {self.staff_role}"
        return ", ".join(f"{role} of {wallet}" for wallet, role in self.memberships)


@dataclass(frozen=True, slots=True)
class Credit:
    """Credit granted `days_ago`, in currency units; valid for `valid_days` where that is set."""

    days_ago: int
    kind: str
    amount: int
    source: str
    services: tuple[str, ...] | None = None
    valid_days: int | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Wallet:
    """An account, and how lively it is: about `bursts` stretches of use on a working day."""

    name: str
    site: str
    country: str
    currency: str
    bursts: int
    credits: tuple[Credit, ...]


_VIETNAM = Wallet(
    name="Demo Vietnam",
    site="vn",
    country="VN",
    currency="VND",
    bursts=9,
    credits=(
        Credit(92, "top_up", 3_000_000, "vnpay", origin="payment-vn-1"),
        Credit(88, "voucher", 500_000, "voucher", ("ai-inference",), 21, "XINCHAO"),
        Credit(85, "plan", 1_300_000, "plan", None, 30, "plan-1"),
        Credit(55, "plan", 1_300_000, "plan", None, 30, "plan-2"),
        Credit(47, "top_up", 3_000_000, "stripe", origin="payment-vn-2"),
        Credit(25, "plan", 1_300_000, "plan", None, 30, "plan-3"),
        Credit(20, "adjustment", 200_000, "support", None, 90, "slow-answers"),
        Credit(16, "top_up", 4_000_000, "vnpay", origin="payment-vn-3"),
        Credit(8, "voucher", 800_000, "voucher", ("model-fine-tuning", "gpu-vm"), 11, "GPUVN"),
    ),
)
JAPAN = Wallet(
    name="Demo Japan",
    site="jp",
    country="JP",
    currency="JPY",
    bursts=8,
    credits=(
        Credit(92, "top_up", 20_000, "stripe", origin="payment-jp-1"),
        Credit(80, "voucher", 3_000, "voucher", None, 30, "YOUKOSO"),
        Credit(58, "top_up", 20_000, "stripe", origin="payment-jp-2"),
        Credit(30, "adjustment", 2_500, "support", None, 60, "outage"),
        Credit(24, "top_up", 30_000, "bank", origin="payment-jp-3"),
        Credit(4, "voucher", 6_000, "voucher", ("gpu-container",), 9, "CONTAINER"),
    ),
)
GLOBAL = Wallet(
    name="Demo Global",
    site="global",
    country="SG",
    currency="USD",
    bursts=14,
    credits=(
        Credit(92, "voucher", 50, "voucher", None, 45, "WELCOME50"),
        Credit(91, "top_up", 150, "stripe", origin="payment-usd-1"),
        Credit(78, "plan", 40, "plan", None, 30, "plan-1"),
        Credit(60, "top_up", 200, "paypal", origin="payment-usd-2"),
        Credit(48, "plan", 40, "plan", None, 30, "plan-2"),
        Credit(33, "top_up", 200, "stripe", origin="payment-usd-3"),
        Credit(18, "plan", 40, "plan", None, 30, "plan-3"),
        Credit(14, "adjustment", 25, "support", None, 120, "outage"),
        Credit(9, "voucher", 80, "voucher", ("ai-inference", "ai-notebook"), 14, "NOTEBOOK80"),
        Credit(5, "top_up", 150, "paypal", origin="payment-usd-4"),
    ),
)
EUROPE = Wallet(
    name="Demo Europe",
    site="global",
    country="DE",
    currency="EUR",
    bursts=4,
    credits=(
        Credit(70, "top_up", 70, "stripe", origin="payment-eur-1"),
        Credit(62, "voucher", 20, "voucher", ("gpu-vm",), 25, "GPUVM20"),
        Credit(40, "top_up", 40, "stripe", origin="payment-eur-2"),
    ),
)
WALLETS = (_VIETNAM, JAPAN, GLOBAL, EUROPE)
PEOPLE = (
    Person(
        "owner.vn@demo.example",
        "Owner, Vietnam",
        memberships=((_VIETNAM.name, MemberRole.OWNER),),
    ),
    Person("owner.jp@demo.example", "Owner, Japan", memberships=((JAPAN.name, MemberRole.OWNER),)),
    Person("owner@demo.example", "Owner, Global", memberships=((GLOBAL.name, MemberRole.OWNER),)),
    Person(
        "owner.eu@demo.example", "Owner, Europe", memberships=((EUROPE.name, MemberRole.OWNER),)
    ),
    Person("billing@demo.example", "Billing", memberships=((GLOBAL.name, MemberRole.BILLING),)),
    Person(
        "reader@demo.example",
        "Reader",
        memberships=((GLOBAL.name, MemberRole.READER), (EUROPE.name, MemberRole.READER)),
    ),
    Person("support@demo.example", "Support", StaffRole.SUPPORT),
    Person("finance@demo.example", "Finance", StaffRole.FINANCE),
    Person("controller@demo.example", "Finance, second person", StaffRole.FINANCE),
    Person("admin@demo.example", "Administrator", StaffRole.ADMIN),
)
INVITED = "newcomer@demo.example"
"""Who is invited into the global wallet, and has not signed up yet."""
FINANCE = ("finance@demo.example", "controller@demo.example")
"""Who proposes the demo's campaigns, and who approves them."""
SIGN_INS = tuple((person.email, person.role) for person in PEOPLE)
"""Address and role of everyone; all have the same password."""
