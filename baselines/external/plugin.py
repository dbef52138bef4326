"""The entry point ``external``, and the base of plugins that wrap a particular command."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.baselines.external.config import ExternalConfig
from harness.run_folder.identity import git_state
from harness.types import LoadContext

if TYPE_CHECKING:
    from harness.baselines.external.model import ExternalModel


COMMAND_CARD = {
    "documentation": "docs/external-models.md",
    "paper": "see the method of the command, also for training data, published numbers and weights",
    "licence": "that of the command and its weights; this adapter: Apache-2.0",
    "speed": "of each start of the command: in the run's log",
}
"""The attributes that a plugin for a particular command may replace."""


@dataclass(frozen=True)
class ExternalPlugin:
    """A command as a model plugin. A package that wraps one method creates one with its own name and defaults.

    ``Config`` is `ExternalConfig` or a subclass of it that gives ``command`` a default.
    """

    name: str = "external"
    version: str = "1"
    summary: str = "Any command line in any environment: reads a job, writes results.json"
    Config: type[ExternalConfig] = ExternalConfig
    card: dict[str, Any] = field(default_factory=lambda: dict(COMMAND_CARD))

    def depends_on(self, config: ExternalConfig, checkpoint: Path | None) -> dict[str, Any]:
        """Commit and changes of the working directory if it is in git, because other code may give other tracks.

        Otherwise the files that the command names, and ``revision``, identify the code.
        """
        commit, changes = (None, None) if config.working_directory is None else git_state(config.working_directory)
        return {} if commit is None else {"code": {"commit": commit, "changes": changes}}

    def load(self, config: ExternalConfig, context: LoadContext) -> ExternalModel:
        """Raises `UserError` if the program or the working directory does not exist."""
        from harness.baselines.external.model import ExternalModel

        return ExternalModel(config, context, self.name)


PLUGIN = ExternalPlugin()
