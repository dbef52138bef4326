"""The contract test kit: one call checks any model plugin, ours or a third party's. See docs/adding-a-model.md."""

from harness.testing.contract import Check, ContractError, Report, check_model

__all__ = ["Check", "ContractError", "Report", "check_model"]
