"""The context object that a handler gets as its second argument. Its attributes and texts are part of the contract."""

import logging
import os
import sys
import time

#: What `w3c()` may show of the client context's "w3c".
W3C_FIELDS = ("traceparent", "tracestate", "baggage")
#: Attributes that say what the environment's variables say.
VARIABLES = (
    ("log_group_name", "AWS_LAMBDA_LOG_GROUP_NAME"),
    ("log_stream_name", "AWS_LAMBDA_LOG_STREAM_NAME"),
    ("function_name", "AWS_LAMBDA_FUNCTION_NAME"),
    ("memory_limit_in_mb", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
    ("function_version", "AWS_LAMBDA_FUNCTION_VERSION"),
)
SHOWN = (
    "aws_request_id",
    "log_group_name",
    "log_stream_name",
    "function_name",
    "memory_limit_in_mb",
    "function_version",
    "invoked_function_arn",
    "client_context",
    "identity",
    "tenant_id",
)


#: The trace context of a call without one: shown as a copy.
_NOTHING = {}

#: What is the same for every call of this process.
_facts = {}


def read_facts():
    """Take the environment's facts from its variables, once: five look-ups are a tenth of a small call."""
    _facts.update((name, os.environ.get(variable)) for name, variable in VARIABLES)
    return _facts


def forget_facts():
    """They are to be read again: the variables are others."""
    _facts.clear()


class LambdaContext:
    """What the platform tells the handler about its invocation."""

    def __init__(self, request_id, client_context, identity, deadline_ms, arn=None, tenant_id=None):  # noqa: PLR0917
        self.aws_request_id = request_id
        self.__dict__.update(_facts or read_facts())
        self.invoked_function_arn = arn
        self.tenant_id = tenant_id
        self.client_context = None
        self._w3c = _NOTHING
        if client_context is not None:
            self._w3c = _take_w3c(client_context)
            self.client_context = _filled(ClientContext, client_context)
            self.client_context.client = _filled(Client, self.client_context.client)
        self.identity = own = CognitoIdentity()
        own.cognito_identity_id = own.cognito_identity_pool_id = None
        if identity:
            own.cognito_identity_id = identity.get("cognitoIdentityId")
            own.cognito_identity_pool_id = identity.get("cognitoIdentityPoolId")
        self._deadline_ms = deadline_ms

    def get_remaining_time_in_millis(self):
        return max(0, self._deadline_ms - int(time.time() * 1000))

    def w3c(self):
        """The caller's W3C trace context, if it sent one."""
        return dict(self._w3c)

    def log(self, message):
        """Write `message` to the log as one event."""
        for handler in logging.getLogger().handlers:
            if hasattr(handler, "log_sink"):
                handler.log_sink.log(str(message))
                return
        sys.stdout.write(str(message))

    def __repr__(self):
        return _shown(self, SHOWN)


class CognitoIdentity:
    """Who called, when the call came through a Cognito identity."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __repr__(self):
        return _shown(self, self.__slots__)


class Client:
    """The mobile application that called."""

    __slots__ = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")

    def __repr__(self):
        return _shown(self, self.__slots__)


class ClientContext:
    """What the calling application said about itself."""

    __slots__ = ("custom", "env", "client")

    def __repr__(self):
        return _shown(self, self.__slots__)


def _shown(thing, names):
    fields = ",".join("%s=%s" % (name, getattr(thing, name)) for name in names)
    return "%s([%s])" % (type(thing).__name__, fields)


def _filled(kind, values):
    """A `kind` with its slots from the mapping `values`; None for None."""
    if values is None:
        return None
    made = kind()
    for name in kind.__slots__:
        setattr(made, name, values.get(name))
    return made


def _take_w3c(client_context):
    """The trace context, taken out of the client context: it is shown by `w3c()` only."""
    fields = client_context.pop("w3c", None) if isinstance(client_context, dict) else None
    if not isinstance(fields, dict):
        return {}
    return {name: fields[name] for name in W3C_FIELDS if isinstance(fields.get(name), str)}
