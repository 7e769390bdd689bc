"""Building blocks of all other folders; imports nothing else of the package but errors.

Start with ``reproducibility`` (seeds, devices) and ``files`` (atomic writes, reading
without unpickling). ``progress``, ``threads``, ``memory`` and ``flops`` measure and
show work; ``evaluation_mode`` validates modules; ``running_statistics`` and
``quantiles`` stream over samples; ``registry`` keeps entries by name, a user's own
included; ``torchvision`` imports torchvision lazily. ``regular_files``,
``plain_values``, ``field_types``, ``archives`` and ``pickle_bombs`` check what comes
from files.
"""
