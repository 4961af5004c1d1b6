"""Read and check `params.yaml`, and the settings that a runner passes to a kernel.

No file holds a secret: a setting holds the name of an environment variable.
"""

from workbench.config.budgets import BudgetDimension, BudgetOnly, BudgetRule, Enforce, check_budgets
from workbench.config.confinement import ConfinementMode, ExecutionSettings
from workbench.config.content import ContentKeeping
from workbench.config.data_classes import (
    DataAction,
    DataClass,
    DataRules,
    Destination,
    OwnTerms,
    Privacy,
    check_data_classes,
    check_own_terms,
    data_rules,
)
from workbench.config.execution import EXECUTION_VARIABLE, INHERITED, Execution, Mode
from workbench.config.forms import (
    check_day,
    check_inside,
    check_quality,
    check_tenant,
    secret,
    variable_part,
)
from workbench.config.gateway import DEFAULT_ADDRESS, GatewayLimits, GatewaySettings, GatewayTls, is_loopback
from workbench.config.identity import IdentitySettings, TokenClaims
from workbench.config.jobs import Job, JobLimits, Limits, Timing
from workbench.config.limits import AnswerCaching, RunLimits
from workbench.config.models import ModelChoice, Price, StatedAnswer
from workbench.config.moderation import ModerationHook, ModerationRules
from workbench.config.params import (
    MALFORMED,
    LastValid,
    Params,
    RecordRetention,
    find_root,
    job,
    keep_last_valid,
    load_params,
    read_sections,
    run_limits,
    run_settings,
    use_case,
)
from workbench.config.policy import PolicyMode
from workbench.config.use_case import (
    DEFAULT_AWAKE,
    DEFAULT_MEMORY_URL,
    TENANT,
    Approach,
    DatasetFile,
    MemoryServer,
    Pin,
    Telemetry,
    UseCase,
    memory_server,
    pinned,
)

__all__ = [
    "DEFAULT_ADDRESS",
    "DEFAULT_AWAKE",
    "DEFAULT_MEMORY_URL",
    "EXECUTION_VARIABLE",
    "INHERITED",
    "MALFORMED",
    "TENANT",
    "AnswerCaching",
    "Approach",
    "BudgetDimension",
    "BudgetOnly",
    "BudgetRule",
    "ConfinementMode",
    "ContentKeeping",
    "DataAction",
    "DataClass",
    "DataRules",
    "DatasetFile",
    "Destination",
    "Enforce",
    "Execution",
    "ExecutionSettings",
    "GatewayLimits",
    "GatewaySettings",
    "GatewayTls",
    "IdentitySettings",
    "Job",
    "JobLimits",
    "LastValid",
    "Limits",
    "MemoryServer",
    "Mode",
    "ModelChoice",
    "ModerationHook",
    "ModerationRules",
    "OwnTerms",
    "Params",
    "Pin",
    "PolicyMode",
    "Price",
    "Privacy",
    "RecordRetention",
    "RunLimits",
    "StatedAnswer",
    "Telemetry",
    "Timing",
    "TokenClaims",
    "UseCase",
    "check_budgets",
    "check_data_classes",
    "check_day",
    "check_inside",
    "check_own_terms",
    "check_quality",
    "check_tenant",
    "data_rules",
    "find_root",
    "is_loopback",
    "job",
    "keep_last_valid",
    "load_params",
    "memory_server",
    "pinned",
    "read_sections",
    "run_limits",
    "run_settings",
    "secret",
    "use_case",
    "variable_part",
]
