"""Validation speaks as AWS was recorded to speak. Where AWS's text prints a pattern, today's model must print the same."""

import pytest

from ondol.dialects.aws import codec, validation
from ondol.dialects.aws.service import ServiceError
from ondol.dialects.aws.shapes import model

FUNCTION = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?"
NAMESPACED = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"

#: (operation, parameters, what AWS answered)
RECORDED = [
    ("GetFunction", {"FunctionName": "f", "Qualifier": "invalid-qualifier-with-?-char"},
     r"Value 'invalid-qualifier-with-?-char' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: \$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"),
    ("CreateFunctionUrlConfig", {"FunctionName": "f", "AuthType": "NONE", "Qualifier": "$LATEST"},
     r"Value '$LATEST' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: ((?!^\d+$)^[0-9a-zA-Z-_]+$)"),
    ("PutProvisionedConcurrencyConfig", {"FunctionName": "f", "Qualifier": "1", "ProvisionedConcurrentExecutions": 0},
     "Value '0' at 'provisionedConcurrentExecutions' failed to satisfy constraint: Member must have value greater than or equal to 1"),
    ("CreateAlias", {"FunctionName": "f", "FunctionVersion": "1", "Name": "2024"},
     "Value '2024' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)"),
    ("PutFunctionRecursionConfig", {"FunctionName": "f", "RecursiveLoop": "InvalidValue"},
     "Value 'InvalidValue' at 'recursiveLoop' failed to satisfy constraint: Member must satisfy enum value set: [Terminate, Allow]"),
    ("CreateFunctionUrlConfig", {"FunctionName": "f", "AuthType": "NONE", "InvokeMode": "UNKNOWN"},
     "Value 'UNKNOWN' at 'invokeMode' failed to satisfy constraint: Member must satisfy enum value set: [RESPONSE_STREAM, BUFFERED]"),
    ("UpdateFunctionConfiguration", {"FunctionName": "f", "VpcConfig": {"SecurityGroupIds": ["nonsense"]}},
     "Value '[nonsense]' at 'vpcConfig.securityGroupIds' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: sg-[0-9a-zA-Z]*]"),
    ("UpdateFunctionCode", {"FunctionName": "f", "Architectures": ["X86_64"]},
     "Value '[X86_64]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]"),
    ("UpdateFunctionCode", {"FunctionName": "f", "Architectures": ["x86_64", "arm64"]},
     "Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1"),
    ("ListLayers", {"CompatibleArchitecture": "archdoesnotexist"},
     "Value 'archdoesnotexist' at 'compatibleArchitecture' failed to satisfy constraint: Member must satisfy enum value set: [x86_64, arm64]"),
    ("PutFunctionEventInvokeConfig", {"FunctionName": "f", "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:_-/!lambda:x"}}},
     r"Value 'arn:aws:_-/!lambda:x' at 'destinationConfig.onFailure.destination' failed to satisfy constraint: Member must satisfy regular expression pattern: $|kafka://([^.]([a-zA-Z0-9\-_.]{0,248}))|arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1})?:(\d{12})?:(.*)"),
    ("CreateAlias", {"FunctionName": "a" * 141, "FunctionVersion": "1", "Name": "n"},
     f"Value '{'a' * 141}' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 140"),
    ("GetFunction", {"FunctionName": "arn:aws:lambda:eu-west-1:123400000000@function:myfn"},
     f"Value 'arn:aws:lambda:eu-west-1:123400000000@function:myfn' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: {NAMESPACED}"),
    ("CreateAlias", {"FunctionName": "invalid:function:name", "FunctionVersion": "1", "Name": "n"},
     f"Value 'invalid:function:name' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: {FUNCTION}"),
    ("AddPermission", {"FunctionName": "f", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com", "StatementId": "example.com"},
     "Value 'example.com' at 'statementId' failed to satisfy constraint: Member must satisfy regular expression pattern: ([a-zA-Z0-9-_]+)"),
    ("ListFunctions", {"FunctionVersion": "invalid"},
     "Value 'invalid' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]"),
    ("CreateEventSourceMapping", {"FunctionName": "f", "StartingPosition": "invalid"},
     "Value 'invalid' at 'startingPosition' failed to satisfy constraint: Member must satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]"),
    ("UpdateFunctionConfiguration", {"FunctionName": "f", "SnapStart": {"ApplyOn": "invalidOption"}},
     "Value 'invalidOption' at 'snapStart.applyOn' failed to satisfy constraint: Member must satisfy enum value set: [PublishedVersions, None]"),
    ("UpdateFunctionConfiguration", {"FunctionName": "f", "Role": "r1"},
     r"Value 'r1' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+"),
    ("UpdateAlias", {"FunctionName": "f", "Name": "n", "RoutingConfig": {"AdditionalVersionWeights": {"$LATEST": 0.5}}},
     "Value '{$LATEST=0.5}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+]"),
    ("UpdateAlias", {"FunctionName": "f", "Name": "n", "RoutingConfig": {"AdditionalVersionWeights": {"2": -1.0}}},
     "Value '{2=-1.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]"),
    ("UntagResource", {"Resource": "arn:aws:lambda:eu-west-1:123456789012:function:f"},
     "Value null at 'tagKeys' failed to satisfy constraint: Member must not be null"),
]  # fmt: skip


def refusal(operation, params, service="lambda"):
    with pytest.raises(ServiceError) as caught:
        validation.validate(operation, model(service).operations[operation].input, params)
    assert caught.value.code == "ValidationException"
    return caught.value.message


@pytest.mark.parametrize(
    ("operation", "params", "text"), RECORDED, ids=[f"{name}-{n}" for n, (name, *_) in enumerate(RECORDED)]
)
def test_a_finding_reads_as_aws_was_recorded_to_put_it(operation, params, text):
    assert refusal(operation, params) == f"1 validation error detected: {text}"


def test_several_findings_stand_in_one_sentence():
    text = refusal("CreateAlias", {"FunctionName": "f", "Name": "1", "Description": "x" * 257})
    assert text.startswith("3 validation errors detected: Value '1' at 'name' failed")
    assert "; Value null at 'functionVersion' failed to satisfy constraint: Member must not be null; Value 'xxx" in text


def test_what_is_secret_is_not_repeated():
    text = refusal("UpdateFunctionConfiguration", {"FunctionName": "f", "Environment": {"Variables": {"1BAD": "hunter2"}}})
    assert text.startswith(
        "1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map keys"
    )
    assert "hunter2" not in text


def test_elements_of_structures_are_counted_from_one():
    text = refusal("CreateLogStream", {"logGroupName": "g", "logStreamName": "a:b"}, service="logs")
    assert "at 'logStreamName'" in text
    text = refusal(
        "PutLogEvents",
        {"logGroupName": "g", "logStreamName": "s", "logEvents": [{"timestamp": 1, "message": "m"}, {"timestamp": 1}]},
        service="logs",
    )
    assert (
        text
        == "1 validation error detected: Value null at 'logEvents.2.member.message' failed to satisfy constraint: Member must not be null"
    )


def test_the_runtime_is_left_to_its_handler():
    params = {"FunctionName": "f", "Runtime": "PYTHON3.9"}
    validation.validate("UpdateFunctionConfiguration", model("lambda").operations["UpdateFunctionConfiguration"].input, params)


def test_valid_parameters_pass():
    params = {
        "FunctionName": "my-function",
        "Role": "arn:aws:iam::123456789012:role/r",
        "Code": {"ZipFile": b"z"},
        "Tags": {"k": "v"},
    }
    validation.validate("CreateFunction", model("lambda").operations["CreateFunction"].input, params)


@pytest.mark.parametrize("service", ["lambda", "logs", "sts"])
def test_every_pattern_of_the_services_we_serve_can_be_held(service):
    for shape in model(service).shapes.names():
        pattern = model(service).shapes.shape(shape).traits.get("pattern")
        if pattern is not None:
            assert validation.can_hold(pattern), (shape, pattern)


def test_unicode_categories_mean_what_they_mean_in_java():
    matches = validation.matcher(r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$")
    assert matches("온돌 über 1.0 @home")
    assert not matches("a\tb")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"Description": 5}', "NUMBER_VALUE can not be converted to a String"),
        (b'{"Timeout": "5"}', "STRING_VALUE can not be converted to an Integer"),
        (b'{"Timeout": true}', "TRUE_VALUE can not be converted to an Integer"),
        (b'{"VpcConfig": []}', "Start of list found where not expected"),
        (b'{"Layers": {}}', "Start of structure or map found where not expected."),
        (b"[]", "Start of list found where not expected"),
        (b"{", "Could not parse request body into json: "),
    ],
)
def test_values_of_the_wrong_type_cannot_be_serialized(body, text):
    with pytest.raises(ServiceError) as caught:
        codec.decode("lambda", "PUT", "/2015-03-31/functions/f/configuration", [], body)
    assert caught.value.code == "SerializationException"
    assert caught.value.message.startswith(text)


#: (code, status, how its body spells the message), as recorded.
SPELLINGS = [
    ("CodeSigningConfigNotFoundException", 404, "Message"),
    ("InvalidParameterValueException", 400, "message"),
    ("InvalidRequestContentException", 400, "message"),
    ("PreconditionFailedException", 412, "message"),
    ("ProvisionedConcurrencyConfigNotFoundException", 404, "message"),
    ("ResourceConflictException", 409, "message"),
    ("ResourceNotFoundException", 404, "Message"),
    ("TooManyRequestsException", 429, "message"),
    ("ValidationException", 400, "message"),
]


@pytest.mark.parametrize(("code", "status", "key"), SPELLINGS)
def test_an_error_has_the_status_and_spelling_of_the_service(code, status, key):
    response = codec.encode_error("lambda", "rest-json", ServiceError(code, "why", extra={"Type": "User"}), "r-1")
    assert response.status == status
    assert dict(response.headers)["x-amzn-ErrorType"] == code
    assert response.body == b'{"Type":"User","%s":"why"}' % key.encode()
