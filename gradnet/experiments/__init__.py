"""Studies: what is run, where its results stand, and the tables and figures of it.

Read ``run_folder`` first, then ``gradnet_study`` and ``growth_study``.
"""

from gradnet.experiments.base_network import BaseSettings
from gradnet.experiments.controls import ControlSettings
from gradnet.experiments.gradnet_study import Study, StudySettings
from gradnet.experiments.growth_study import GrowthStudy

__all__ = ["BaseSettings", "ControlSettings", "GrowthStudy", "Study", "StudySettings"]
