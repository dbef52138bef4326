"""Contract tests for model plugins: one call checks any plugin. See docs/adding-a-model.md."""

from harness.testing.contract import Check, ContractError, Report, check_model

__all__ = ["Check", "ContractError", "Report", "check_model"]
