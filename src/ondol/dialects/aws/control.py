"""Lambda's control plane in one table: which handler answers which operation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ondol.core.deploy import Deployments
from ondol.dialects.aws.account import Account
from ondol.dialects.aws.aliases import Aliases
from ondol.dialects.aws.capacity import Capacity
from ondol.dialects.aws.code_signing import CodeSigning
from ondol.dialects.aws.event_invoke import EventInvoke
from ondol.dialects.aws.function_settings import FunctionSettings
from ondol.dialects.aws.functions import Functions
from ondol.dialects.aws.grants import Grants
from ondol.dialects.aws.layers import Layers
from ondol.dialects.aws.lookup import Lookup
from ondol.dialects.aws.managed import Managed
from ondol.dialects.aws.mappings import Mappings
from ondol.dialects.aws.objects import Objects
from ondol.dialects.aws.permissions import Permissions
from ondol.dialects.aws.provisioned import Keeping, Provisioned
from ondol.dialects.aws.service import Operations
from ondol.dialects.aws.tags import Tags
from ondol.dialects.aws.uploads import CodeUrl, Uploads
from ondol.dialects.aws.url_configs import UrlConfigs
from ondol.dialects.aws.versions import Versions


async def no_front() -> Mapping[str, tuple[int, str]]:
    """Where there are no pools: nothing is kept up."""
    return {}


def control_plane(
    deployments: Deployments,
    *,
    spool: Path,
    objects: Objects | None = None,
    code_url: CodeUrl,
    grants: Grants,
    keeping: Keeping = no_front,
) -> Operations:
    """All operations built of the service "lambda" but Invoke, which never comes to the desk."""
    lookup, uploads = Lookup(deployments, grants), Uploads(deployments, spool, objects)
    layers = Layers(deployments, uploads, code_url, grants)
    return {
        **Functions(deployments, lookup, uploads, code_url, layers).operations(),
        **layers.operations(),
        **Versions(deployments, lookup).operations(),
        **Aliases(deployments, lookup).operations(),
        **Tags(deployments, lookup).operations(),
        **Account(deployments, lookup).operations(),
        **EventInvoke(deployments, lookup).operations(),
        **Provisioned(deployments, lookup, keeping).operations(),
        **Permissions(deployments, lookup).operations(),
        **UrlConfigs(deployments, lookup).operations(),
        **FunctionSettings(deployments, lookup).operations(),
        **CodeSigning(deployments, lookup).operations(),
        **Mappings(deployments, lookup).operations(),
        **Capacity(deployments, grants).operations(),
        **Managed(deployments, lookup).operations(),
    }
