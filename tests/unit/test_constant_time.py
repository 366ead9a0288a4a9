"""Secrets are never compared by ==, whose time tells how much of a guess was right."""

from __future__ import annotations

import hashlib

import pytest

from ondol.clock import SystemClock
from ondol.dialects.aws import sigv4
from ondol.dialects.aws.auth import Verifier
from ondol.dialects.aws.gate import Gate
from ondol.dialects.aws.service import ServiceError
from ondol.model.errors import Denied
from ondol.model.principals import AccessKey
