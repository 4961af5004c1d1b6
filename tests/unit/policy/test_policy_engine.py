"""The engine's decisions: equal to Cedar's own, never an allow while the engine fails, and the same again."""

import json
import random

import cedarpy
import pytest
from sizes import soak

from workbench.controls.position import OPERATIONS
from workbench.errors import ConfigError
from workbench.identity import Principal
from workbench.policy import cedar, requests
from workbench.policy.engine import CedarPolicy
from workbench.policy.source import BUILTIN, PolicySource, read_builtin
from workbench.ports.policy import Policy, PolicyRequest, Resource
