"""CreateFunction, GetFunction, ListFunctions, UpdateFunctionCode, UpdateFunctionConfiguration, DeleteFunction and kin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ondol.core.deploy import Deployed, Deployments, NewFunction
from ondol.core.permit import permit
from ondol.core.resolve import number_of
from ondol.dialects.aws import belongings, code_signing, configuration, layers, managed, names, passing, refusals
from ondol.dialects.aws.actions import action_of
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.layers import Layers
from ondol.dialects.aws.lookup import Lookup
from ondol.dialects.aws.names import LATEST
from ondol.dialects.aws.paging import page
from ondol.dialects.aws.rendering import configuration as shown
from ondol.dialects.aws.rendering import listed, version
from ondol.dialects.aws.service import Context, Operations
from ondol.dialects.aws.uploads import CodeUrl, Uploads
from ondol.model.errors import AlreadyExists, InUse, InvalidSetting
from ondol.model.functions import Configuration, Function

#: As many functions as one answer of the service lists, whatever is asked for.
LISTED_MAX: Final = 50

Params = dict[str, Any]


class Functions:
    """The handlers of what concerns whole functions."""

    def __init__(self, deployments: Deployments, lookup: Lookup, uploads: Uploads, code_url: CodeUrl, applied: Layers) -> None:
        self._deployments = deployments
        self._lookup = lookup
        self._uploads = uploads
        self._code_url = code_url
        self._layers = applied
        self._grants = applied.grants

    def operations(self) -> Operations:
        return {
            "CreateFunction": self.create,
            "GetFunction": self.get,
            "GetFunctionConfiguration": self.get_configuration,
            "ListFunctions": self.list,
            "UpdateFunctionCode": self.update_code,
            "UpdateFunctionConfiguration": self.update_configuration,
            "DeleteFunction": self.delete,
        }

    async def create(self, context: Context, params: Params) -> Params:
        named = self._lookup.named(context, "CreateFunction", params)
        if named.qualifier not in (None, LATEST):
            raise refusals.functions_only()
        if len(named.name) > names.NAME_CHARS_MAX:
            text = (
                f"1 validation error detected: Value '{named.name}' at 'functionName' failed to satisfy constraint: "
                f"Member must have length less than or equal to {names.NAME_CHARS_MAX}"
            )
            raise refusals.invalid(text)
        if params.get("PackageType") == "Image" or params["Code"].get("ImageUri"):
            raise refusals.not_built("container images", "Deploy the code as a zip archive (PackageType Zip).")
        wanted = self._configured(context, params)
        tags = refusals.tags_of(params)
        signing = params.get("CodeSigningConfigArn")
        config = code_signing.check(self._deployments.index, context, signing) if signing else None
        chosen = self._layers.chosen(context, params.get("Layers") or [])
        passing.check(context, self._deployments.index, self._grants, params["Role"])
        if self._deployments.index.handle(DIALECT, named.account, named.region, named.name):
            raise refusals.conflict(f"Function already exist: {named.name}")
        code_signing.admit(config, named.name)
        code = await self._uploads.take(context, params["Code"], account=named.account, region=named.region)
        if chosen:
            wanted = await self._layers.applied(wanted, chosen, code)
        new = NewFunction(
            dialect=DIALECT, handle=named.name, account=named.account, region=named.region, name=named.name,
            code=code, configuration=wanted, tags=tags, publish=bool(params.get("Publish")),
            unnumbered=bool(params.get("PublishTo")), per_tenant=bool(params.get("TenancyConfig")),
            versions_only=bool(params.get(managed.MEMBER)),
            annotations={DIALECT: {"CodeSigningConfigArn": signing}} if signing else {},
        )  # fmt: skip
        try:
            return shown(await self._deployments.create(new))
        except AlreadyExists as error:
            raise refusals.conflict(f"Function already exist: {named.name}") from error
        except InvalidSetting as error:
            if error.field != "tags":
                raise
            raise refusals.invalid("Number of tags exceeds resource tag limit.") from error

    def _configured(self, context: Context, params: Params) -> Configuration:
        """What a new function is to be like."""
        if params.get("TenancyConfig"):
            configuration.check_tenants(params)
        managed.check_publish_to(params, versions_only=bool(params.get(managed.MEMBER)))
        if not params.get(managed.MEMBER):
            return configuration.created(params)
        params, index = managed.defaults(params), self._deployments.index
        wanted = managed.attach(index, context, configuration.created(params), params)
        if params.get("Publish"):
            managed.check_room(index, managed.named_by(wanted))
        return wanted

    async def get(self, context: Context, params: Params) -> Params:
        found = self._lookup.function(context, "GetFunction", params)
        deployed = self._lookup.deployed(found)
        function, code = found.function, deployed.revision.code
        answer: Params = {
            "Configuration": shown(deployed, qualifier=found.qualifier),
            "Code": {"RepositoryType": "S3", "Location": self._code_url(code, context)},
        }
        if function.tags:
            answer["Tags"] = dict(function.tags)
        if function.concurrency_reserved is not None:
            answer["Concurrency"] = {"ReservedConcurrentExecutions": function.concurrency_reserved}
        return answer

    async def get_configuration(self, context: Context, params: Params) -> Params:
        found = self._lookup.function(context, "GetFunctionConfiguration", params)
        return shown(self._lookup.deployed(found), qualifier=found.qualifier)

    async def list(self, context: Context, params: Params) -> Params:
        permit(context.principal, action_of("lambda", "ListFunctions"), context.account)
        if params.get("MasterRegion") not in (None, "ALL", context.region):
            return {"Functions": []}  # nothing here is a copy of another region's function
        every = params.get("FunctionVersion") == "ALL"
        entries = self._entries if every else self._latest
        items, marker = page(params, lambda after: entries(context, after), LISTED_MAX, operation="ListFunctions")
        functions = [listed(deployed, qualifier=version(deployed) if every else None) for deployed in items]
        return {"Functions": functions, **({"NextMarker": marker} if marker else {})}

    async def update_code(self, context: Context, params: Params) -> Params:
        function = self._lookup.unqualified(context, "UpdateFunctionCode", params)
        if params.get("ImageUri"):
            raise refusals.invalid("Please don't provide ImageUri when updating a function with packageType Zip.")
        if params.get("Publish") and params.get("DryRun"):
            raise refusals.invalid(
                "Publish and DryRun are mutually exclusive parameters. Please provide only one of the two parameters and try "
                "again."
            )
        configuration.refuse_unbuilt(params)
        with self._lookup.changing(function):
            self._deployments.check(function, params.get("RevisionId"))
        managed.check_publication(self._deployments.index, function, params)
        kept = code_signing.config_of(function)
        code_signing.admit(code_signing.find(self._deployments.index, kept) if kept else None, function.name)
        code = await self._uploads.take(context, params, account=function.account, region=function.region)
        old = self._deployments.latest(function).revision.configuration
        layers.check_size(old.opt, code)
        changed = configuration.with_architectures(old, params.get("Architectures"))
        return await self._update(function, params, code=code, configuration=changed)

    async def update_configuration(self, context: Context, params: Params) -> Params:
        function = self._lookup.unqualified(context, "UpdateFunctionConfiguration", params)
        old = self._deployments.latest(function).revision.configuration
        if params.get("Role"):
            passing.check(context, self._deployments.index, self._grants, params["Role"])
        if function.per_tenant:
            configuration.check_tenants(params)
        if params.get(managed.MEMBER) and not function.versions_only:
            raise refusals.invalid("CapacityProviderConfig isn't supported for Lambda Default functions.")
        new = configuration.updated(old, params)
        if function.versions_only:
            new = managed.attach(self._deployments.index, context, new, params)
        if params.get("Layers") is not None:
            chosen = self._layers.chosen(context, params["Layers"])
            new = await self._layers.applied(new, chosen, self._deployments.latest(function).revision.code)
        return await self._update(function, params, configuration=new)

    async def delete(self, context: Context, params: Params) -> Params:
        named = self._lookup.named(context, "DeleteFunction", params)
        qualifier = named.qualifier
        if qualifier == LATEST:
            raise refusals.invalid("$LATEST version cannot be deleted without deleting the function.")
        number = None if qualifier is None else number_of(qualifier)
        if qualifier is not None and number is None:
            raise refusals.invalid("Deletion of aliases is not currently supported.")
        # The service names the bare function here, whatever the qualifier.
        function = self._deployments.index.handle(DIALECT, named.account, named.region, named.name)
        if function is None:
            raise refusals.function_not_found(names.function_arn(named.account, named.region, named.name))
        with self._lookup.changing(function):
            if number is None:
                await self._deployments.delete(function.id)
            else:
                await self._delete_version(function, number)
        return {}

    async def _delete_version(self, function: Function, number: int) -> None:
        try:
            await self._deployments.delete_version(function.id, number)
            await belongings.forget(self._deployments, function.id, names.version_name(number))
        except InUse as error:
            text = f"Unable to delete version because the following aliases reference it: [{', '.join(error.by)}]"
            raise refusals.conflict(text) from error

    async def _update(self, function: Function, params: Params, **changes: Any) -> Params:
        with self._lookup.changing(function):
            deployed = await self._deployments.update(
                function,
                **changes,
                if_etag=params.get("RevisionId"),
                publish=bool(params.get("Publish")),
                unnumbered=bool(params.get("PublishTo")),
                dry_run=bool(params.get("DryRun")),
            )
        return shown(deployed, qualifier=version(deployed) if deployed.version else None)

    def _latest(self, context: Context, after: str) -> Iterator[tuple[str, Deployed]]:
        """$LATEST of every function whose name comes after `after`."""
        index = self._deployments.index
        for name in index.names(DIALECT, context.account, context.region, after=after, limit=LISTED_MAX + 1):
            function = index.handle(DIALECT, context.account, context.region, name)
            if function:
                yield name, self._deployments.latest(function)

    def _entries(self, context: Context, after: str) -> Iterator[tuple[str, Deployed]]:
        """Every version of every function; positions are "NAME" for $LATEST and "NAME:0000000002" for versions."""
        index, (name, _, number) = self._deployments.index, after.partition(":")
        begun = [name] if after else []
        for each in [*begun, *index.names(DIALECT, context.account, context.region, after=name, limit=LISTED_MAX + 1)]:
            function = index.handle(DIALECT, context.account, context.region, each)
            if function is None:
                continue
            if each != name or not after:
                yield each, self._deployments.latest(function)
            least = int(number or 0) if each == name else 0
            for published in index.versions(function.id):
                if (at := names.place(published.number)) > least:
                    yield f"{each}:{at:010d}", self._deployments.version(function, published.number)
