"""What front and desk have to know alike: the table of routes, the contracts, and how callers are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ondol.clock import SystemClock
from ondol.contracts.aws import AwsContract
from ondol.contracts.aws_json import AwsJsonContract
from ondol.contracts.web import COMMAND_RUNTIME, WebContract
from ondol.core.catalog import Index
from ondol.dialects.aws.auth import Verifier
from ondol.dialects.aws.credentials import Credentials
from ondol.dialects.aws.dialect import AwsFront
from ondol.dialects.native.dialect import NativeDialect
from ondol.dialects.plain.dialect import PlainDialect
from ondol.dialects.prometheus.dialect import PrometheusDialect
from ondol.http.messages import Request
from ondol.http.table import Table
from ondol.model.functions import Configuration
from ondol.node.orders import Orders
from ondol.runtimes import executed
from ondol.runtimes.choice import Choice, Family, Finder, Provided
from ondol.runtimes.clients import JAVA, RUBY
from ondol.runtimes.interpreters import Interpreter, Interpreters
from ondol.runtimes.managed import ManagedVersions, finders
from ondol.runtimes.nodejs import NodejsVersions

DIALECTS = (AwsFront, PlainDialect, NativeDialect, PrometheusDialect)
TABLE = Table([route for dialect in DIALECTS for route in dialect.routes])
CONTRACTS = {
    contract.name: contract for contract in (AwsContract(AwsJsonContract), WebContract(), WebContract(COMMAND_RUNTIME))
}


def _nobody(_: Request) -> str:
    return ""


def choice_of(orders: Orders) -> Choice:
    """Which of the languages found on this machine runs what."""
    interpreters = Interpreters(Interpreter(**each) for each in orders.interpreters)
    managed = managed_of(orders)
    others: Mapping[Family, Finder] = {
        Family.PROVIDED: Provided(),
        Family.NODE: nodejs_of(orders),
        Family.JAVA: managed[JAVA],
        Family.RUBY: managed[RUBY],
    }
    return Choice(interpreters, orders.settings.runtime_substitute, others)


def nodejs_of(orders: Orders) -> NodejsVersions:
    """Which Node.js runs what."""
    found = Interpreters(Interpreter(**each) for each in orders.interpreters)
    return NodejsVersions(found, orders.settings.runtime_substitute)


def managed_of(orders: Orders) -> Mapping[str, ManagedVersions]:
    """Which Java and which Ruby run what."""
    found = Interpreters(Interpreter(**each) for each in orders.interpreters)
    return finders(found, orders.settings.runtime_substitute)


def describing(choice: Choice) -> Callable[[Configuration], str]:
    """What runs a configuration, and in which way where that is not the usual one, for people."""

    def describe(configuration: Configuration) -> str:
        described = choice.describe(configuration.runtime)
        python = configuration.contract == "aws" and choice.interpreter(configuration.runtime) is not None
        why = executed.why(configuration.variables) if python else ""
        return f"{described}, executed for {why}" if why else described

    return describe


def verifier_of(orders: Orders, index: Index, credentials: Credentials, caller: Callable[[Request], str] = _nobody) -> Verifier:
    """Both processes know everyone alike. `caller` gives the environment that a request comes from."""
    settings = orders.settings
    return Verifier(
        keys=index.key,
        credentials=credentials,
        clock=SystemClock(),
        account=settings.account,
        region=settings.region,
        open=settings.open,
        caller=caller,
    )
