"""Studies: repeated runs in a run folder, and their tables and figures.

Read in this order:

1. ``run_folder``: the key of a run, its files, its row, the log of evaluations.
2. ``base_comparison`` (with ``fitting`` and ``controls``): what is compared on one base
   network.
3. ``gradnet_study`` (with ``base_network``), ``network_study`` (with
   ``study_network``), ``growth_study`` and ``trials``: the four kinds of study.
4. ``tables``, ``network_tables``, ``figures``, ``gradient_figures``: rows to
   Markdown, CSV and matplotlib.
5. ``reports``: all tables and figures of a run folder, written into it.
"""

from gradnet.experiments.base_comparison import BaseComparison
from gradnet.experiments.base_network import BaseSettings, ModelSettings, train_base
from gradnet.experiments.controls import CONTROLS, ControlSettings, train_control
from gradnet.experiments.figures import (
    draw_curves,
    draw_decisions,
    draw_errors,
    draw_hidden_units,
    draw_levels,
)
from gradnet.experiments.fitting import FittedGradNet, fit_and_save
from gradnet.experiments.gradient_figures import draw_gradients, draw_norms
from gradnet.experiments.gradnet_study import Study, StudySettings
from gradnet.experiments.growth_study import GrowthStudy, within_flops
from gradnet.experiments.network_study import NetworkStudy, NetworkStudySettings
from gradnet.experiments.network_tables import draw_methods, network_to_markdown
from gradnet.experiments.reports import (
    write_growth_report,
    write_network_report,
    write_report,
    write_report_of,
    write_trials_report,
)
from gradnet.experiments.results import EvaluationRecord, read_evaluations, read_rows
from gradnet.experiments.run_folder import RunFolder
from gradnet.experiments.run_key import RunKey
from gradnet.experiments.study_network import study_network
from gradnet.experiments.tables import (
    growth_to_markdown,
    reached_to_markdown,
    summarize,
    to_csv,
    to_markdown,
    trials_to_markdown,
)
from gradnet.experiments.trials import (
    Trials,
    TrialStudy,
    cascade_trials,
    node_creation_trials,
)

__all__ = [
    "CONTROLS",
    "BaseComparison",
    "BaseSettings",
    "ControlSettings",
    "EvaluationRecord",
    "FittedGradNet",
    "GrowthStudy",
    "ModelSettings",
    "NetworkStudy",
    "NetworkStudySettings",
    "RunFolder",
    "RunKey",
    "Study",
    "StudySettings",
    "TrialStudy",
    "Trials",
    "cascade_trials",
    "draw_curves",
    "draw_decisions",
    "draw_errors",
    "draw_gradients",
    "draw_hidden_units",
    "draw_levels",
    "draw_methods",
    "draw_norms",
    "fit_and_save",
    "growth_to_markdown",
    "network_to_markdown",
    "node_creation_trials",
    "reached_to_markdown",
    "read_evaluations",
    "read_rows",
    "study_network",
    "summarize",
    "to_csv",
    "to_markdown",
    "train_base",
    "train_control",
    "trials_to_markdown",
    "within_flops",
    "write_growth_report",
    "write_network_report",
    "write_report",
    "write_report_of",
    "write_trials_report",
]
